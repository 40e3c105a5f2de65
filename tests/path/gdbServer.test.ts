// SPDX-License-Identifier: Apache-2.0
/**
 * The client with stock gdbserver and a real multi-threaded program.
 */
import { afterEach, expect } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import { address } from "#fault.ts";
import { GdbClient } from "#monitor/gdb/client.ts";
import { ReplayTransport } from "#monitor/gdb/replay.ts";
import type { StopEvent } from "#monitor/gdb/stopEvent.ts";
import { reopenStub } from "#monitor/gdb/stub.ts";
import { parseTrace, WireTrace } from "#monitor/gdb/trace.ts";
import { Faulter } from "#tests/peers/faulter.ts";
import { type Need, need, tracing } from "#tests/skip.ts";
import {
  cleanUp,
  errorOf,
  guarded,
  loadBytes,
  nextSignal,
  nextStop,
  options,
  path,
  runDirectory,
  runs,
  skipLoad,
  start,
  stubs,
  until,
} from "./gdbScene.ts";

afterEach(cleanUp);

path("one thread faults and is mended while 16 others go on", async () => {
  await using faulter = await Faulter.start();
  await using client = await guarded(faulter);
  faulter.tell("segv 0");
  const { tid, signal } = await nextSignal(client);
  expect(signal).toBe("SIGSEGV");
  expect(tid).not.toBe(faulter.pid);
  const before = await faulter.count();
  while ((await faulter.count()) < before + 100) await systemClock.sleep(1);
  const { registers, cause } = await client.inspect(tid);
  expect(cause).toEqual({ number: 11, code: 1, faultAddress: address(16n), senderPid: null });
  const pc = registers[client.layout.pc]!;
  const code = await client.readMemory(address(pc), 4, tid);
  if (process.arch === "x64") expect([...code.slice(0, 2)]).toEqual([0x48, 0x8b]);
  await skipLoad(client, tid);
  expect(await faulter.until("survived")).toBe("survived 0");
  await client.detach();
  faulter.tell("exit 7");
  expect(await faulter.end()).toBe(7);
});

const wide: Need = () =>
  process.arch === "x64" && /\bavx\b/.test(readFileSync("/proc/cpuinfo", "latin1"))
    ? null
    : "an x86-64 processor with AVX";
need(
  "gdbserver",
  "gcc",
  tracing,
  wide,
)("registers wider than those that the stub tells keep their value through a mended fault", async () => {
  await using faulter = await Faulter.start();
  await using client = await guarded(faulter);
  faulter.tell("wide 1");
  const { tid } = await nextSignal(client);
  await skipLoad(client, tid);
  expect(await faulter.until("wide")).toBe("wide kept");
});

path("two threads fault at once; each is mended by itself, a hundred times", async () => {
  await using faulter = await Faulter.start();
  await using client = await guarded(faulter);
  for (let round = 0; round < 100; round += 1) {
    faulter.tell("segv 0");
    faulter.tell("segv 1");
    const [one, other] = [await nextSignal(client), await nextSignal(client)];
    expect(one.tid).not.toBe(other.tid);
    await Promise.all([skipLoad(client, other.tid), skipLoad(client, one.tid)]);
    const lines = [await faulter.until("survived"), await faulter.until("survived")];
    expect(lines.sort()).toEqual(["survived 0", "survived 1"]);
  }
});

path("attach with stopAll gives registers of every thread; resumeAll lets all go on", async () => {
  await using faulter = await Faulter.start();
  await using client = await GdbClient.open((await start()).transport, options);
  const threads = await client.attach(faulter.pid);
  expect(threads).toHaveLength(19);
  for (const { registers } of threads) expect(registers![client.layout.sp]).toBeGreaterThan(0n);
  await client.resumeAll();
  expect(await faulter.count()).toBeGreaterThanOrEqual(0);
  const { tid } = threads[5]!;
  const { signal } = await client.stopThread(tid);
  expect(signal).toBe("SIGSTOP");
  expect(await faulter.count()).toBeGreaterThanOrEqual(0);
  await client.control(tid).resume();
  await client.detach();
  expect(await faulter.count()).toBeGreaterThanOrEqual(0);
});

path("threads that come and go, caught signals, and stop and continue by a shell tell nothing", async () => {
  await using faulter = await Faulter.start();
  await using client = await guarded(faulter);
  faulter.tell("churn 200");
  await faulter.until("churned");
  for (let round = 1; round <= 20; round += 1) {
    faulter.tell("usr1");
    expect(await faulter.until("caught")).toBe(`caught ${round}`);
  }
  process.kill(faulter.pid, "SIGSTOP");
  process.kill(faulter.pid, "SIGCONT");
  expect(await faulter.count()).toBeGreaterThanOrEqual(0);
  faulter.tell("segv 1");
  expect((await nextSignal(client)).signal).toBe("SIGSEGV");
});

path("a delivered signal ends the program, which is told, and gdbserver ends by itself", async () => {
  await using faulter = await Faulter.start();
  const stub = await start();
  await using client = await GdbClient.open(stub.transport, options);
  await client.attach(faulter.pid, { stopAll: false });
  faulter.tell("abort 0");
  const { tid, signal } = await nextSignal(client);
  expect(signal).toBe("SIGABRT");
  const { cause } = await client.inspect(tid);
  expect([cause?.code, cause?.senderPid]).toEqual([-6, faulter.pid]);
  await client.control(tid).deliver();
  const events: StopEvent[] = [];
  for await (const event of client.stops()) events.push(event);
  expect(events).toEqual([{ kind: "killed", pid: faulter.pid, signal: "SIGABRT" }]);
  expect(await faulter.end()).toBe("SIGABRT");
  await until(() => !runs(stub.pid));
});

path("a stopped thread runs one instruction at a time, and nobody else is told", async () => {
  await using faulter = await Faulter.start();
  await using client = await guarded(faulter);
  faulter.tell("segv 0");
  const { tid } = await nextSignal(client);
  const { pc } = client.layout;
  let at = (await client.inspect(tid)).registers[pc]! + loadBytes;
  for (let count = 0; count < 3; count += 1) {
    const { signal, registers } = await client.step(tid, new Map([[pc, at]]));
    expect(signal).toBe("SIGTRAP");
    expect(registers[pc]).not.toBe(at);
    at = registers[pc]!;
  }
  await client.control(tid).resume();
  await faulter.until("survived 0");
  faulter.tell("segv 1");
  expect((await nextSignal(client)).signal).toBe("SIGSEGV");
});

path("after a step, the signal of the fault is the one that is delivered", async () => {
  await using faulter = await Faulter.start();
  await using client = await guarded(faulter);
  faulter.tell("segv 0");
  const { tid } = await nextSignal(client);
  const { pc } = client.layout;
  const at = (await client.inspect(tid)).registers[pc]! + loadBytes;
  expect((await client.step(tid, new Map([[pc, at]]))).signal).toBe("SIGTRAP");
  await client.control(tid).deliver();
  expect(await nextStop(client)).toEqual({ kind: "killed", pid: faulter.pid, signal: "SIGSEGV" });
});

path("exit is told with its code, exec with its path", async () => {
  await using faulter = await Faulter.start();
  await using client = await guarded(faulter);
  faulter.tell("exit 42");
  expect(await nextStop(client)).toEqual({ kind: "exited", pid: faulter.pid, code: 42 });
  await using other = await Faulter.start();
  await using second = await guarded(other);
  const sleep = Bun.which("sleep")!;
  other.tell(`exec ${sleep}`);
  const event = await nextStop(second);
  expect(event).toMatchObject({ kind: "exec", pid: other.pid, tid: other.pid });
  expect(other.ended).toBeNull();
  await second.detach();
});

path(
  "a breakpoint instruction of the program's own is reported where the kernel left the program counter",
  async () => {
    await using faulter = await Faulter.start();
    await using client = await guarded(faulter);
    faulter.tell("trap 0");
    const { tid, signal } = await nextSignal(client);
    expect(signal).toBe("SIGTRAP");
    const { registers } = await client.inspect(tid);
    const pc = registers[client.layout.pc]!;
    if (process.arch === "x64") {
      expect(await client.readMemory(address(pc - 1n), 1, tid)).toEqual(new Uint8Array([0xcc]));
      await client.control(tid).resume();
    } else await skipLoad(client, tid);
    await faulter.until("survived 0");
  },
);

path("the supervisor is killed while a thread sits in its fatal stop: the next one takes over", async () => {
  await using faulter = await Faulter.start();
  const directory = runDirectory();
  const holder = Bun.spawn(
    [process.execPath, join(import.meta.dir, "../peers/gdbHolder.ts"), directory, String(faulter.pid)],
    {
      stdout: "pipe",
      stderr: "inherit",
    },
  );
  const output = holder.stdout.getReader();
  const line = async (): Promise<string> =>
    Buffer.from((await output.read()).value ?? "")
      .toString()
      .trim();
  expect(await line()).toBe("attached");
  stubs.push(Number(readFileSync(join(directory, "pid"), "latin1")));
  faulter.tell("segv 0");
  const stopped = Number((await line()).split(" ")[1]);
  holder.kill("SIGKILL");
  await holder.exited;
  // A fault while nobody is there waits, too.
  faulter.tell("segv 1");
  const stub = await reopenStub(directory, { clock: systemClock, nonce: crypto.randomUUID() });
  await using client = await GdbClient.open(stub.transport, { ...options, sync: stub.sync });
  expect(await client.adopt(faulter.pid)).toHaveLength(19);
  const tids = [(await nextSignal(client)).tid, (await nextSignal(client)).tid];
  expect(tids).toContain(stopped);
  expect(new Set(tids).size).toBe(2);
  for (const tid of tids) {
    expect((await client.inspect(tid)).cause?.faultAddress).toBe(address(16n));
    await skipLoad(client, tid);
    await faulter.until("survived");
  }
  // And again, with nothing stopped.
  await client[Symbol.asyncDispose]();
  const again = await reopenStub(directory, { clock: systemClock, nonce: crypto.randomUUID() });
  await using third = await GdbClient.open(again.transport, { ...options, sync: again.sync });
  expect(await third.adopt(faulter.pid)).toHaveLength(19);
  faulter.tell("segv 0");
  const { tid } = await nextSignal(third);
  await skipLoad(third, tid);
  await faulter.until("survived 0");
  await third.detach();
});

path("gdbserver dies: it is told at once, and the program goes on", async () => {
  await using faulter = await Faulter.start();
  const directory = runDirectory();
  const stub = await start(directory);
  await using client = await GdbClient.open(stub.transport, options);
  await client.attach(faulter.pid, { stopAll: false });
  process.kill(stub.pid, "SIGKILL");
  expect((await errorOf(nextStop(client))).code).toBe("gdb.closed");
  expect((await errorOf(client.threads())).code).toBe("gdb.closed");
  expect(await faulter.count()).toBeGreaterThanOrEqual(0);
  await until(() => !runs(stub.pid));
  expect((await errorOf(reopenStub(directory, { clock: systemClock, nonce: "n" }))).code).toBe("gdb.closed");
});

path("a process that is gone, or has a tracer, says so", async () => {
  await using faulter = await Faulter.start();
  await using holder = await guarded(faulter);
  await using client = await GdbClient.open((await start()).transport, options);
  const busy = await errorOf(client.attach(faulter.pid));
  expect([busy.code, busy.message.includes("already traced by gdbserver")]).toEqual(["gdb.busy", true]);
  const gone = await errorOf(client.attach(0x3fffff));
  expect(gone.code).toBe("gdb.gone");
  expect(await client.processes()).toContainEqual(expect.objectContaining({ pid: faulter.pid }));
  expect(Buffer.from((await client.readFile("/proc/self/status"))!).toString()).toContain("gdbserver");
  await holder.detach();
});

path("a recorded conversation with gdbserver replays to the same requests", async () => {
  const lines: string[] = [];
  const converse = async (client: GdbClient, pid: number, faulter: Faulter | null): Promise<void> => {
    await client.attach(pid, { stopAll: false });
    for (let round = 0; round < 3; round += 1) {
      faulter?.tell("segv 0");
      await skipLoad(client, (await nextSignal(client)).tid);
      await faulter?.until("survived 0");
    }
    await client.detach();
  };
  await using faulter = await Faulter.start();
  const trace = new WireTrace("gdbserver", systemClock, (line) => lines.push(line));
  await using client = await GdbClient.open((await start()).transport, { ...options, trace });
  await converse(client, faulter.pid, faulter);
  const replay = new ReplayTransport(parseTrace(lines.join("\n")));
  await using second = await GdbClient.open(replay, options);
  await converse(second, faulter.pid, null);
  expect(replay.linesLeft).toBe(0);
});
