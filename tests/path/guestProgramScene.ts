// SPDX-License-Identifier: Apache-2.0
/**
 * A program guarded as one inside a guest is: through a vsock socket and the guest kit, by nothing else; servers that are the
 * program, and clients of theirs.
 */
import { expect } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { GuestProgram } from "#appliance/guests/guestProgram.ts";
import { Notices } from "#appliance/notices.ts";
import { RescueBook } from "#appliance/rescue/rescueBook.ts";
import { SuppressionSwitch } from "#appliance/suppressionSwitch.ts";
import { type Clock, deadline, systemClock } from "#clock.ts";
import { GdbError } from "#errors.ts";
import { silentLog } from "#log.ts";
import { defaultHangLimits } from "#monitor/busyStretches.ts";
import { Storage } from "#storage/storage.ts";
import { defaultPolicy } from "#suppression/plan.ts";
import { freePort } from "#tests/peers/mosquitto.ts";
import { VsockPeer } from "#tests/peers/vsockPeer.ts";

export const top = mkdtempSync(join(tmpdir(), "gp-"));
/** Several test files of one process use it. */
process.on("exit", () => rmSync(top, { recursive: true, force: true }));
export const name = `guest-redis-${process.pid}`;

export type Told = Readonly<Record<string, unknown>>;

export class Guarded implements AsyncDisposable {
  readonly told: Told[] = [];
  #arrived = Promise.withResolvers<void>();
  readonly #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #storage: Storage | null = null;

  async start(vsockSocket: string, clock = systemClock, place = "state", more: Told = {}): Promise<void> {
    this.#storage = await Storage.open({
      directory: join(top, place),
      runDirectory: join(top, `${place}-run`),
      clock,
      log: silentLog,
    });
    const notices = new Notices("redis", "json", (line) => {
      this.told.push(JSON.parse(line) as Told);
      this.#arrived.resolve();
      this.#arrived = Promise.withResolvers<void>();
    });
    const section = {
      name: "redis",
      process: name,
      probes: [],
      rungsOff: [],
      budget: { ...defaultPolicy.budget, neutralisedMax: 8 },
      hang: defaultHangLimits,
      ...more,
    };
    const parts = {
      guest: "g",
      section,
      vsockSocket,
      runs: () => true,
      images: new Map(),
      storage: this.#storage,
      rescues: new RescueBook(this.#storage, clock),
      suppression: new SuppressionSwitch(clock),
      notices,
      clock,
      log: silentLog,
    };
    this.#running = new GuestProgram(parts).run(this.#stop.signal);
  }

  async next(fields: Told): Promise<Told> {
    using limit = deadline(
      30_000,
      () => new GdbError("gdb.timeout", `no ${JSON.stringify(fields)} in ${JSON.stringify(this.told)}`),
    );
    limit.signal.addEventListener("abort", () => this.#arrived.resolve(), { once: true });
    for (;;) {
      const at = this.told.findIndex((notice) => Object.entries(fields).every(([key, value]) => notice[key] === value));
      if (at >= 0) return this.told.splice(at, 1)[0]!;
      limit.signal.throwIfAborted();
      await this.#arrived.promise;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await this.#storage?.[Symbol.asyncDispose]();
  }
}

/** Longer than the pause between two rounds of looks at idle threads. */
export const idleLooksMs = 11_000;

/** A minute of it is less than one of ours. */
export const hurriedClock: Clock = { ...systemClock, monotonicNs: () => systemClock.monotonicNs() * 1_000 };

export async function startRedis(socket: string): Promise<Bun.Subprocess> {
  const words = `exec -a ${name} redis-server --port 0 --unixsocket ${socket} --save '' --enable-debug-command yes`;
  const redis = Bun.spawn(["bash", "-c", words], { stdio: ["ignore", "ignore", "ignore"] });
  for (let tries = 0; tries < 200; tries += 1) {
    if ((await ask(socket, "PING").catch(() => "")) === "+PONG") return redis;
    await systemClock.sleep(10);
  }
  return redis;
}

/** A redis that serves the network, as one in a guest does. */
export async function startRedisByNetwork(): Promise<{ server: Bun.Subprocess; port: number }> {
  const port = freePort();
  const words = `exec -a ${name} redis-server --port ${port} --save '' --enable-debug-command yes`;
  const server = Bun.spawn(["bash", "-c", words], { stdio: ["ignore", "ignore", "ignore"] });
  for (;;) {
    const socket = await connectTo(port).catch(() => null);
    if (socket !== null) {
      socket.destroy();
      return { server, port };
    }
    await systemClock.sleep(10);
  }
}

/** A server of ours, guarded. */
export type GuardedOwn = AsyncDisposable & {
  readonly server: Bun.Subprocess;
  readonly port: number;
  readonly guarded: Guarded;
};

/** Starts a server from its source, relative to tests/, that writes its port to a file or says it. `more`: of its section. */
export async function guardOwn(source: string, words: readonly string[], more: Told = {}): Promise<GuardedOwn> {
  const called = `${basename(source, ".c")}-${words[0] ?? ""}-${process.pid}`;
  const [program, portFile] = [join(top, called), join(top, `${called}.port`)];
  const path = join(import.meta.dir, "..", source);
  const built = Bun.spawnSync(["gcc", "-O2", "-pthread", "-o", program, path]);
  expect(built.stderr.toString()).toBe("");
  const own = words.map((word) => word.replace("PORTFILE", portFile));
  const server = Bun.spawn([program, ...own], { stdio: ["ignore", "ignore", Bun.file(`${portFile}.said`)] });
  const said = (): string =>
    existsSync(portFile) ? readFileSync(portFile, "utf8") : readFileSync(`${portFile}.said`, "utf8");
  while (!/\d/.test(said())) await systemClock.sleep(10);
  const port = Number(/\d+/.exec(said())![0]);
  const vsock = new VsockPeer(join(top, `${called}.sock`));
  const guarded = new Guarded();
  await guarded.start(vsock.path, systemClock, called, { process: called, ...more });
  return {
    ...{ server, port, guarded },
    [Symbol.asyncDispose]: async () => {
      await guarded[Symbol.asyncDispose]();
      vsock[Symbol.dispose]();
      server.kill("SIGKILL");
    },
  };
}

export function connectTo(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => resolve(socket)).on("error", reject);
  });
}

export const answerOf = (socket: Socket): Promise<string> =>
  new Promise((resolve) => socket.once("data", (bytes) => resolve(String(bytes))));

/** "" where the connection is closed without an answer. */
export async function ask(socket: string, command: string): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const connection = await Bun.connect({
    unix: socket,
    socket: {
      data: (_, bytes) => resolve(Buffer.from(bytes).toString().trim()),
      close: () => resolve(""),
      error: (_, error) => reject(error),
    },
  });
  connection.write(`${command}\r\n`);
  const answer = await promise;
  connection.end();
  return answer;
}
