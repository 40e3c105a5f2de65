// SPDX-License-Identifier: Apache-2.0
/**
 * A guest's vsock as Cloud Hypervisor shows it, with the guest kit behind it: a unix socket that wants `CONNECT 2159`, and a
 * gdbserver for each connection, started as the kit's units start it.
 */
import { rmSync } from "node:fs";

type Connection = { greeted: boolean; stub: Bun.Subprocess<"pipe", "pipe", "ignore"> | null };

export class VsockPeer implements Disposable {
  readonly #stubs = new Set<Bun.Subprocess>();
  readonly #server: Bun.UnixSocketListener<Connection>;
  /** Connections made so far. */
  connections = 0;
  /** Connections to another port so far: Cloud Hypervisor closes them where nobody in the guest listens. */
  refused = 0;

  constructor(
    readonly path: string,
    port: number,
  ) {
    rmSync(path, { force: true });
    this.#server = Bun.listen<Connection>({
      unix: path,
      socket: {
        open: (socket) => {
          socket.data = { greeted: false, stub: null };
        },
        data: (socket, bytes) => {
          const { data } = socket;
          if (data.greeted) {
            return hand(data.stub, bytes);
          }
          data.greeted = true;
          if (Buffer.from(bytes).toString() !== `CONNECT ${port}\n`) {
            this.refused += 1;
            return void socket.end();
          }
          socket.write("OK 1073741824\n");
          data.stub = this.#startStub(socket);
        },
        close: (socket) => {
          socket.data.stub?.stdin.end();
        },
      },
    });
  }

  [Symbol.dispose](): void {
    this.#server.stop(true);
    for (const stub of this.#stubs) stub.kill("SIGKILL");
  }

  #startStub(socket: Bun.Socket<Connection>): Bun.Subprocess<"pipe", "pipe", "ignore"> {
    this.connections += 1;
    const stub = Bun.spawn(["gdbserver", "--once", "--multi", "-"], { stdio: ["pipe", "pipe", "ignore"] });
    this.#stubs.add(stub);
    void stub.exited.then(() => this.#stubs.delete(stub));
    void (async () => {
      for await (const bytes of stub.stdout) writeAll(socket, bytes);
      socket.end();
    })();
    return stub;
  }
}

/** A stub that has let go of its program has ended: what still comes for it is for nobody, as on a real vsock. */
function hand(stub: Connection["stub"], bytes: Uint8Array): void {
  if (stub === null || stub.exitCode !== null) return;
  try {
    stub.stdin.write(bytes);
    void Promise.resolve(stub.stdin.flush()).catch(() => {});
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
