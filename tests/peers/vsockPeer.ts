// SPDX-License-Identifier: Apache-2.0
/**
 * A guest's vsock as Cloud Hypervisor shows it, with the guest kit behind it: a unix socket that wants `CONNECT PORT`, and for
 * each connection the command of the kit's unit that listens there.
 */
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { stubPort } from "#appliance/guests/guestProgram.ts";
import { socketsPort } from "#monitor/guest/connectionList.ts";

type Service = Bun.Subprocess<"pipe", "pipe", "ignore">;
type Connection = { greeted: boolean; service: Service | null };
/** What the kit's units have behind each port. */
const units: ReadonlyMap<number, string> = new Map([
  [stubPort, "holdfast-stub"],
  [socketsPort, "holdfast-sockets"],
]);

/** A kit without one of them is an older one. */
export const wholeKit: readonly number[] = [...units.keys()];

function commandOf(unit: string): string {
  const text = readFileSync(join(import.meta.dir, `../../vm/guest-kit/${unit}@.service`), "utf8");
  return /^ExecStart=(.*)$/m.exec(text)![1]!;
}

export class VsockPeer implements Disposable {
  readonly #services = new Set<Service>();
  readonly #server: Bun.UnixSocketListener<Connection>;
  /** Connections made so far. */
  connections = 0;
  /** Connections to another port so far: Cloud Hypervisor closes them where nobody in the guest listens. */
  refused = 0;

  constructor(
    readonly path: string,
    ports: readonly number[] = wholeKit,
  ) {
    rmSync(path, { force: true });
    this.#server = Bun.listen<Connection>({
      unix: path,
      socket: {
        open: (socket) => {
          socket.data = { greeted: false, service: null };
        },
        data: (socket, bytes) => {
          const { data } = socket;
          if (data.greeted) {
            return hand(data.service, bytes);
          }
          data.greeted = true;
          const port = Number(/^CONNECT (\d+)\n$/.exec(Buffer.from(bytes).toString())?.[1]);
          if (!ports.includes(port)) {
            this.refused += 1;
            return void socket.end();
          }
          socket.write("OK 1073741824\n");
          data.service = this.#start(units.get(port)!, socket);
        },
        close: (socket) => {
          socket.data.service?.stdin.end();
        },
      },
    });
  }

  [Symbol.dispose](): void {
    this.#server.stop(true);
    for (const service of this.#services) service.kill("SIGKILL");
  }

  #start(unit: string, socket: Bun.Socket<Connection>): Service {
    this.connections += 1;
    const service = Bun.spawn(["bash", "-c", `exec ${commandOf(unit)}`], { stdio: ["pipe", "pipe", "ignore"] });
    this.#services.add(service);
    void service.exited.then(() => this.#services.delete(service));
    void (async () => {
      for await (const bytes of service.stdout) writeAll(socket, bytes);
      socket.end();
    })();
    return service;
  }
}

/** A service that has ended, as a stub does that has let go of its program: what still comes for it is for nobody, as on a real vsock. */
function hand(service: Service | null, bytes: Uint8Array): void {
  if (service === null || service.exitCode !== null) return;
  try {
    service.stdin.write(bytes);
    void Promise.resolve(service.stdin.flush()).catch(() => {});
  } catch {
    // It has ended just now.
  }
}

/** Loopback takes megabytes at once; what it does not take would be lost, and fail the test loudly. */
function writeAll(socket: Bun.Socket<Connection>, bytes: Uint8Array): void {
  for (let sent = 0; sent < bytes.length; ) {
    const taken = socket.write(bytes.subarray(sent));
    if (taken <= 0) return;
    sent += taken;
  }
}
