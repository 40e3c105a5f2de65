// SPDX-License-Identifier: Apache-2.0
/**
 * A redis guarded as a program inside a guest is: through a vsock socket and the guest kit's gdbserver, by nothing else.
 */
import { afterAll, describe, expect, test as plain } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GuestProgram, stubPort } from "#appliance/guests/guestProgram.ts";
import { Notices } from "#appliance/notices.ts";
import { RescueBook } from "#appliance/rescue/rescueBook.ts";
import { SuppressionSwitch } from "#appliance/suppressionSwitch.ts";
import { type Clock, deadline, systemClock } from "#clock.ts";
import { GdbError } from "#errors.ts";
import { silentLog } from "#log.ts";
import { defaultHangLimits } from "#monitor/busyStretches.ts";
import { firstNamed } from "#monitor/guest/findProgram.ts";
import { readStatus } from "#monitor/processes.ts";
import { Storage } from "#storage/storage.ts";
import { defaultPolicy } from "#suppression/plan.ts";
import { freePort } from "#tests/peers/mosquitto.ts";
import { VsockPeer } from "#tests/peers/vsockPeer.ts";
import { need } from "#tests/skip.ts";

const top = mkdtempSync(join(tmpdir(), "gp-"));
afterAll(() => rmSync(top, { recursive: true, force: true }));
const name = `guest-redis-${process.pid}`;

type Told = Readonly<Record<string, unknown>>;

class Guarded implements AsyncDisposable {
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
const idleLooksMs = 11_000;

/** A minute of it is less than one of ours. */
const hurriedClock: Clock = { ...systemClock, monotonicNs: () => systemClock.monotonicNs() * 1_000 };

async function startRedis(socket: string): Promise<Bun.Subprocess> {
  const words = `exec -a ${name} redis-server --port 0 --unixsocket ${socket} --save '' --enable-debug-command yes`;
  const redis = Bun.spawn(["bash", "-c", words], { stdio: ["ignore", "ignore", "ignore"] });
  for (let tries = 0; tries < 200; tries += 1) {
    if ((await ask(socket, "PING").catch(() => "")) === "+PONG") return redis;
    await systemClock.sleep(10);
  }
  return redis;
}

/** A redis that serves the network, as one in a guest does. */
async function startRedisByNetwork(): Promise<{ server: Bun.Subprocess; port: number }> {
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

/** A server of tests/programs, its port from its own words. */
async function startOwn(
  name: string,
  ...words: string[]
): Promise<{ server: Bun.Subprocess; port: number; called: string }> {
  const called = `${name}-${process.pid}`;
  const program = join(top, called);
  const source = join(import.meta.dir, `../programs/${name}.c`);
  const built = Bun.spawnSync(["gcc", "-O2", "-pthread", "-o", program, source]);
  expect(built.stderr.toString()).toBe("");
  const server = Bun.spawn([program, ...words], { stdio: ["ignore", "ignore", "pipe"] });
  const { value } = await server.stderr.getReader().read();
  return { server, port: Number(/port (\d+)/.exec(new TextDecoder().decode(value))?.[1]), called };
}

function connectTo(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => resolve(socket)).on("error", reject);
  });
}

const answerOf = (socket: Socket): Promise<string> =>
  new Promise((resolve) => socket.once("data", (bytes) => resolve(String(bytes))));

/** "" where the connection is closed without an answer. */
async function ask(socket: string, command: string): Promise<string> {
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

describe("a program in a guest", () => {
  const test = need("gdbserver", "redis-server");
  test("takes fatal signals and goes on; a new supervisor guards it again; a new process is found", async () => {
    const socket = join(top, "redis.sock");
    await using redis = await startRedis(socket);
    using vsock = new VsockPeer(join(top, "vsock.sock"));
    {
      await using guarded = new Guarded();
      await guarded.start(vsock.path);
      expect(await guarded.next({ event: "guarding" })).toMatchObject({ pid: redis.pid, serving: true });
      expect(await ask(socket, "SET key kept")).toBe("+OK");
      const stops: number[] = [];
      for (const command of ["DEBUG SEGFAULT", "DEBUG SEGFAULT", "DEBUG ASSERT", "DEBUG PANIC"]) {
        void ask(socket, command).catch(() => "");
        const fault = await guarded.next({ event: "fault" });
        stops.push(fault.stopUs as number);
        const outcome = await guarded.next({ event: "outcome" });
        expect(outcome.verdict).toBeOneOf(["clean", "degraded"]);
        expect(outcome.rung).toBe("abandon");
        expect((await ask(socket, "GET key")).split("\r\n")[1]).toBe("kept");
      }
      expect(redis.exitCode).toBeNull();
      console.log(`stops through the stub: ${stops.join(", ")} µs`);
    }
    // Let go: the stub has let go too, and nobody traces it.
    while (readStatus(redis.pid)?.tracerPid !== 0) await systemClock.sleep(10);
    await using again = new Guarded();
    await again.start(vsock.path);
    expect(await again.next({ event: "guarding" })).toMatchObject({ pid: redis.pid });
    redis.kill("SIGKILL");
    await again.next({ event: "exit" });
    await using other = await startRedis(socket);
    expect(await again.next({ event: "guarding" })).toMatchObject({ pid: other.pid });
    other.kill("SIGKILL");
  }, 90_000);

  test("a guest without the kit is told what it lacks, once; its neighbour's program is guarded meanwhile", async () => {
    await using redis = await startRedis(join(top, "beside.sock"));
    using vsock = new VsockPeer(join(top, "beside-vsock.sock"));
    using bare = new VsockPeer(join(top, "bare-vsock.sock"), []);
    await using unguarded = new Guarded();
    await unguarded.start(bare.path, hurriedClock, "bare");
    await using beside = new Guarded();
    await beside.start(vsock.path, systemClock, "beside");
    const text = `nothing answers on vsock port ${stubPort} of guest g: install the guest kit in it (vm/guest-kit/README.md)`;
    expect(await unguarded.next({ event: "warning" })).toMatchObject({ workload: "redis", text });
    expect(await beside.next({ event: "guarding" })).toMatchObject({ pid: redis.pid, serving: true });
    while (bare.refused < 3) await systemClock.sleep(10);
    expect(unguarded.told).toEqual([]);
    redis.kill("SIGKILL");
  }, 90_000);

  /** Kills with each command from a connection of its own, beside others that go on; tells whose connection was closed. */
  async function killBeside(guarded: Guarded, port: number, commands: readonly string[]): Promise<string[]> {
    const bystanders = await Promise.all(Array.from({ length: 12 }, () => connectTo(port)));
    const closed: string[] = [];
    for (const command of commands) {
      const killer = await connectTo(port);
      const peer = `127.0.0.1:${killer.localPort}`;
      const end = new Promise((resolve) => killer.once("close", resolve));
      killer.write(`${command}\r\n`);
      const { id } = await guarded.next({ event: "fault" });
      const { rung, session } = (await guarded.next({ event: "outcome", id })) as Told & { session: { peer: string } };
      if (rung === "quarantine") {
        closed.push(session.peer === peer ? "killer" : "bystander");
        await end;
      }
      killer.destroy();
      for (const bystander of bystanders) {
        const answered = answerOf(bystander);
        bystander.write("PING\r\n");
        expect(await answered).toBe("+PONG\r\n");
      }
    }
    for (const bystander of bystanders) bystander.destroy();
    return closed;
  }

  const kills = ["DEBUG SEGFAULT", "DEBUG ASSERT", "DEBUG SEGFAULT"];
  need("gdbserver", "redis-server", "ss")(
    "the connection whose request kills is closed, and no other",
    async () => {
      const { server: redis, port } = await startRedisByNetwork();
      await using _redis = { [Symbol.asyncDispose]: async () => redis.kill("SIGKILL") };
      using vsock = new VsockPeer(join(top, "network-vsock.sock"));
      await using guarded = new Guarded();
      await guarded.start(vsock.path, systemClock, "network");
      expect(await guarded.next({ event: "guarding" })).toMatchObject({ pid: redis.pid, serving: true });
      expect(await killBeside(guarded, port, kills)).toEqual(kills.map(() => "killer"));
      expect(redis.exitCode).toBeNull();
    },
    90_000,
  );

  test("a kit that cannot list connections: the same, and rather nobody's is closed than another's", async () => {
    const { server: redis, port } = await startRedisByNetwork();
    await using _redis = { [Symbol.asyncDispose]: async () => redis.kill("SIGKILL") };
    using vsock = new VsockPeer(join(top, "older-vsock.sock"), [stubPort]);
    await using guarded = new Guarded();
    await guarded.start(vsock.path, systemClock, "older");
    expect(await guarded.next({ event: "guarding" })).toMatchObject({ pid: redis.pid, serving: true });
    expect(await killBeside(guarded, port, kills)).not.toContain("bystander");
    expect(redis.exitCode).toBeNull();
  }, 90_000);

  need("gdbserver", "gcc")(
    "where each connection has a thread, the one of the faulting thread is closed",
    async () => {
      const { server, port, called } = await startOwn("loops", "threads");
      await using _server = { [Symbol.asyncDispose]: async () => server.kill("SIGKILL") };
      using vsock = new VsockPeer(join(top, "threads-vsock.sock"));
      await using guarded = new Guarded();
      await guarded.start(vsock.path, systemClock, "threads", { process: called });
      expect(await guarded.next({ event: "guarding" })).toMatchObject({ pid: server.pid });
      const bystanders = await Promise.all(Array.from({ length: 4 }, () => connectTo(port)));
      const killer = await connectTo(port);
      for (const socket of [...bystanders, killer]) {
        socket.write("p0");
        expect(await answerOf(socket)).toBe("ok\n");
      }
      // Each thread is seen waiting for its connection.
      await systemClock.sleep(idleLooksMs);
      const closed = new Promise((resolve) => killer.once("close", resolve));
      const peer = `127.0.0.1:${killer.localPort}`;
      killer.write("f0");
      const { id } = await guarded.next({ event: "fault" });
      expect(await guarded.next({ event: "outcome", id })).toMatchObject({ rung: "quarantine", session: { peer } });
      await closed;
      for (const socket of bystanders) {
        socket.write("p0");
        expect(await answerOf(socket)).toBe("ok\n");
        socket.destroy();
      }
    },
    90_000,
  );

  need("gdbserver", "gcc")(
    "a thread that goes round for ever is brought back; long work is left alone",
    async () => {
      const { server, port, called } = await startOwn("loops", "epoll");
      await using _server = { [Symbol.asyncDispose]: async () => server.kill("SIGKILL") };
      using vsock = new VsockPeer(join(top, "loops-vsock.sock"));
      await using guarded = new Guarded();
      const limits = { waitedMs: 1_000, unwaitedMs: 60_000 };
      await guarded.start(vsock.path, systemClock, "loops", { process: called, hang: limits });
      expect(await guarded.next({ event: "guarding" })).toMatchObject({ pid: server.pid, serving: true });
      const [worker, guilty, bystander] = [await connectTo(port), await connectTo(port), await connectTo(port)];
      bystander.write("p0");
      expect(await answerOf(bystander)).toBe("ok\n");
      const session = { peer: `127.0.0.1:${guilty.localPort}` };
      guilty.write("l0");
      await systemClock.sleep(20);
      const answered = answerOf(bystander);
      bystander.write("p0");
      expect(await answered).toBe("ok\n");
      const { id } = await guarded.next({ event: "fault", signal: "SIGSTOP" });
      expect(await guarded.next({ event: "outcome", id })).toMatchObject({
        rung: "quarantine",
        verdict: "clean",
        session,
      });
      expect(server.exitCode).toBeNull();
      for (const socket of [worker, guilty, bystander]) socket.destroy();
    },
    90_000,
  );

  need("gdbserver", "gcc")(
    "locks that abandoned work has left are released when another waits for them",
    async () => {
      const { server, port, called } = await startOwn("locks");
      await using _server = { [Symbol.asyncDispose]: async () => server.kill("SIGKILL") };
      using vsock = new VsockPeer(join(top, "locks-vsock.sock"));
      await using guarded = new Guarded();
      await guarded.start(vsock.path, systemClock, "locks", { process: called });
      expect(await guarded.next({ event: "guarding" })).toMatchObject({ pid: server.pid });
      // A plain mutex is freed by a write, a robust one by its holder, a stream's by its thread pointer.
      for (const kind of ["0", "4", "8"]) {
        const [killer, bystander] = [await connectTo(port), await connectTo(port)];
        killer.write("p0");
        expect(await answerOf(killer)).toBe("ok\n");
        killer.write(`x${kind}`);
        await guarded.next({ event: "fault" });
        const answered = answerOf(bystander);
        bystander.write(`l${kind}`);
        expect(await answered).toBe("ok\n");
        await guarded.next({ event: "released" });
        for (const socket of [killer, bystander]) socket.destroy();
      }
      expect(server.exitCode).toBeNull();
    },
    90_000,
  );

  plain("is found by its own name", () => {
    const processes = [
      { pid: 9, command: "/usr/sbin/nginx: worker" },
      { pid: 4, command: "nginx: master process /usr/sbin/nginx" },
      { pid: 7, command: "nginx: worker process" },
      { pid: 8, command: "nginx: worker process" },
      { pid: 3, command: "/usr/bin/redis-server 127.0.0.1:6379" },
      { pid: 2, command: "redis-server-helper" },
    ];
    expect(firstNamed("nginx: worker", processes)).toBe(7);
    expect(firstNamed("nginx", processes)).toBe(4);
    expect(firstNamed("redis-server", processes)).toBe(3);
    expect(firstNamed("redis", processes)).toBeNull();
  });
});
