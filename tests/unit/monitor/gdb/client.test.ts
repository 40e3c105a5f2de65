// SPDX-License-Identifier: Apache-2.0
/**
 * The client against the fake stub: stops, control, errors of the stub and of the line, and nothing left stopped.
 */
import { expect, test } from "bun:test";
import { systemClock } from "#clock.ts";
import { GdbError } from "#errors.ts";
import { address } from "#fault.ts";
import { silentLog } from "#log.ts";
import { GdbClient } from "#monitor/gdb/client.ts";
import type { StopEvent } from "#monitor/gdb/stopEvent.ts";
import { FakeStub } from "#tests/peers/fakeStub.ts";
import { aarch64Documents, x86Documents } from "./vectors.ts";

const pid = 0x181a;
const worker = 0x181b;
const options = { clock: systemClock, log: silentLog, rehearsed: false };
const newStub = (): FakeStub => new FakeStub(pid, [pid, worker], x86Documents);

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return "none";
  } catch (error) {
    return error instanceof GdbError ? error.code : String(error);
  }
}

async function attached(stub = newStub()): Promise<{ stub: FakeStub; client: GdbClient }> {
  const client = await GdbClient.open(stub.connect(), options);
  await client.attach(pid, { stopAll: false });
  return { stub, client };
}

async function nextStop(client: GdbClient): Promise<StopEvent> {
  for await (const event of client.stops()) return event;
  throw new RangeError("no stop");
}

test.each([
  ["x86_64", x86Documents],
  ["aarch64", aarch64Documents],
] as const)("%s: attach stops every thread once, resumeAll lets all go on", async (architecture, documents) => {
  const stub = new FakeStub(pid, [pid, worker], documents);
  await using client = await GdbClient.open(stub.connect(), { ...options, rehearsed: true });
  const threads = await client.attach(pid);
  expect(client.architecture).toBe(architecture);
  expect(threads.map(({ tid }) => tid)).toEqual([pid, worker]);
  expect(threads.map(({ registers }) => registers?.[client.layout.pc])).toEqual([0x5555_0000_1000n, 0x5555_0000_1000n]);
  await client.resumeAll();
  expect(stub.resumed).toEqual([pid, worker].map((tid) => ({ tid, action: "c" })));
});

test("a fault is told, inspected, changed and resumed; its control then is worthless", async () => {
  const { stub, client } = await attached();
  await using _ = client;
  stub.fault(worker, "SIGSEGV", 11, 16n);
  const event = await nextStop(client);
  expect(event).toMatchObject({ kind: "signal", pid, tid: worker, signal: "SIGSEGV" });
  const { registers, cause } = await client.inspect(worker);
  expect(cause).toEqual({ number: 11, code: 1, faultAddress: address(16n), senderPid: null });
  const control = client.control(worker);
  await control.writeRegisters(new Map([[16, registers[16]! + 3n]]));
  await control.writeRegisters(new Map([[0, 7n]]));
  await control.resume();
  expect(stub.resumed).toEqual([{ tid: worker, action: "c" }]);
  const view = new DataView(stub.threads.get(worker)!.raw.buffer);
  expect(view.getBigUint64(client.layout.general[16]!.offset, true)).toBe(registers[16]! + 3n);
  expect(view.getBigUint64(client.layout.general[0]!.offset, true)).toBe(7n);
  for (const late of [control.resume(), control.deliver(), control.writeRegisters(new Map()), client.inspect(worker)]) {
    expect(await codeOf(late)).toBe("gdb.stale");
  }
  expect(() => client.control(worker)).toThrow(GdbError);
});

test("a new stop of the same thread does not revive the old control", async () => {
  const { stub, client } = await attached();
  await using _ = client;
  stub.fault(worker, "SIGSEGV", 11, 16n);
  await nextStop(client);
  const old = client.control(worker);
  await old.resume();
  stub.fault(worker, "SIGBUS", 10, 16n);
  await nextStop(client);
  expect(await codeOf(old.resume())).toBe("gdb.stale");
  await client.control(worker).deliver();
  expect(stub.resumed.at(-1)).toEqual({ tid: worker, action: "C0a" });
});

test("two threads stopped at once are told apart and resumed in any order", async () => {
  const { stub, client } = await attached();
  await using _ = client;
  stub.fault(pid, "SIGFPE", 8, 1n);
  stub.fault(worker, "SIGSEGV", 11, 2n);
  const stops = [await nextStop(client), await nextStop(client)];
  expect(stops.map((stop) => stop.kind === "signal" && [stop.tid, stop.signal])).toEqual([
    [pid, "SIGFPE"],
    [worker, "SIGSEGV"],
  ]);
  const inspections = await Promise.all([client.inspect(worker), client.inspect(pid)]);
  expect(inspections.map(({ cause }) => cause?.faultAddress)).toEqual([address(2n), address(1n)]);
  expect(inspections.map(({ registers }) => registers[7])).toEqual(
    [worker, pid].map((tid) => 0x7fff_0000_0000n + BigInt(tid)),
  );
  const [one, other] = [client.control(worker), client.control(pid)];
  await Promise.all([one.writeRegisters(new Map([[0, 1n]])), other.writeRegisters(new Map([[0, 2n]]))]);
  await Promise.all([one.resume(), other.resume()]);
  const rax = (tid: number): bigint => new DataView(stub.threads.get(tid)!.raw.buffer).getBigUint64(0, true);
  expect([rax(worker), rax(pid)]).toEqual([1n, 2n]);
});

test("stopThread stops one thread without news; unasked stops are resumed at once", async () => {
  const { stub, client } = await attached();
  await using _ = client;
  const { signal, cause } = await client.stopThread(worker);
  expect([signal, cause]).toEqual(["SIGSTOP", null]);
  await client.control(worker).resume();
  stub.stop(pid, { gdbSignal: 0, cause: null });
  stub.fault(worker, "SIGSEGV", 11, 0n);
  expect(await nextStop(client)).toMatchObject({ tid: worker, signal: "SIGSEGV" });
  expect(stub.threads.get(pid)!.stop).toBeNull();
  expect(await codeOf(client.stopThread(0x9999))).toBe("gdb.gone");
});

test("a signal that was to be passed is delivered without news, and a stop that was asked for still comes", async () => {
  const { stub, client } = await attached();
  await using _ = client;
  stub.stop(worker, { gdbSignal: 19, cause: null });
  stub.fault(pid, "SIGBUS", 10, 0n);
  expect(await nextStop(client)).toMatchObject({ tid: pid, signal: "SIGBUS" });
  expect(stub.resumed).toEqual([{ tid: worker, action: "C13" }]);
  stub.answer = (packet) => {
    if (!packet.startsWith("vCont;t")) return null;
    // The signal comes instead of the stop that was asked for, which then never does.
    stub.answer = () => null;
    stub.stop(worker, { gdbSignal: 30, cause: null });
    return "OK";
  };
  expect((await client.stopThread(worker)).signal).toBe("SIGSTOP");
  expect(stub.resumed.at(-1)).toEqual({ tid: worker, action: "C1e" });
});

test("the siginfo of another signal is not taken for this one's", async () => {
  const { stub, client } = await attached();
  await using _ = client;
  stub.stop(worker, { gdbSignal: 11, cause: new Uint8Array(128).fill(8) });
  await nextStop(client);
  expect((await client.inspect(worker)).cause).toBeNull();
});

test("exec is told and resumed; the end of the program ends the iterable", async () => {
  const { stub, client } = await attached();
  await using _ = client;
  stub.stop(pid, { gdbSignal: 5, cause: null, exec: "/bin/true" });
  expect(await nextStop(client)).toEqual({ kind: "exec", pid, tid: pid, path: "/bin/true" });
  stub.exit("W03");
  stub.hangUp();
  const events: StopEvent[] = [];
  for await (const event of client.stops()) events.push(event);
  expect(events).toEqual([{ kind: "exited", pid, code: 3 }]);
  expect(stub.resumed).toEqual([{ tid: pid, action: "c" }]);
});

test("memory and files through the stub, short where they end", async () => {
  const { stub, client } = await attached();
  await using _ = client;
  for (let index = 0; index < 0x1800; index += 1) stub.memory.set(0x4000n + BigInt(index), index & 0xff);
  const bytes = await client.readMemory(address(0x4000n), 0x3000, worker);
  expect(bytes.length).toBe(0x1800);
  expect(bytes[0x1234]).toBe(0x34);
  expect((await client.readMemory(address(0x9000n), 8, worker)).length).toBe(0);
  stub.files.set("/proc/x", "#$}*".repeat(5000));
  expect(Buffer.from((await client.readFile("/proc/x"))!).toString()).toBe("#$}*".repeat(5000));
  expect(await client.readFile("/proc/y")).toBeNull();
});

test("a file of a process that ends while it is read is as none; any other that cannot be read is told", async () => {
  const { stub, client } = await attached();
  for (const path of ["/proc/5/task/6/status", "/etc/x"]) {
    stub.files.set(path, "Name:");
    stub.unreadable.add(path);
  }
  expect(await client.readFile("/proc/5/task/6/status")).toBeNull();
  await expect(client.readFile("/etc/x")).rejects.toThrow("reading /etc/x failed");
});

test("adopt takes over a stub that holds stopped threads, whatever lies in the line", async () => {
  const { stub, client } = await attached();
  stub.fault(worker, "SIGSEGV", 11, 16n);
  await nextStop(client);
  await client[Symbol.asyncDispose]();
  stub.links.set("/run/sync", "nonce");
  const transport = stub.connect();
  stub.receive(Buffer.from("$g#67", "latin1"));
  const request = `vFile:readlink:${Buffer.from("/run/sync").toHex()}`;
  await using heir = await GdbClient.open(transport, { ...options, sync: { request, reply: "F5;nonce" } });
  const threads = await heir.adopt(pid);
  expect(threads.map(({ tid }) => tid)).toEqual([pid, worker]);
  expect(await nextStop(heir)).toMatchObject({ tid: worker, signal: "SIGSEGV" });
  expect((await heir.inspect(worker)).cause?.faultAddress).toBe(address(16n));
  await heir.control(worker).resume();
  expect(stub.threads.get(worker)!.stop).toBeNull();
});

const statuses: readonly (readonly [
  why: string,
  status: string | null,
  scope: string | null,
  uid: number,
  code: string,
  word: string,
])[] = [
  ["no such process", null, null, 0, "gdb.gone", "no running process"],
  ["a zombie", "Name:\tx\nState:\tZ (zombie)\nTracerPid:\t0\n", null, 0, "gdb.gone", "has ended"],
  ["traced already", "Name:\tx\nState:\tS\nTracerPid:\t77\nUid:\t0\n", null, 0, "gdb.busy", "strace (77)"],
  ["another user's", "Name:\tx\nState:\tS\nTracerPid:\t0\nUid:\t5\n", "0\n", 9, "gdb.permission", "user 5"],
  ["Yama", "Name:\tx\nState:\tS\nTracerPid:\t0\nUid:\t9\n", "1\n", 9, "gdb.permission", "ptrace_scope is 1"],
  ["Yama for all", "Name:\tx\nState:\tS\nTracerPid:\t0\nUid:\t0\n", "3\n", 0, "gdb.permission", "ptrace_scope is 3"],
  ["root refused", "Name:\tx\nState:\tS\nTracerPid:\t0\nUid:\t0\n", null, 0, "gdb.attach", "CAP_SYS_PTRACE"],
];
test.each(statuses)("an attach that cannot be, %s, says why", async (_, status, scope, uid, code, word) => {
  const stub = newStub();
  stub.files.delete(`/proc/${pid}/status`);
  if (status !== null) stub.files.set(`/proc/${pid}/status`, status);
  if (scope !== null) stub.files.set("/proc/sys/kernel/yama/ptrace_scope", scope);
  stub.files.set("/proc/self/status", `Name:\tgdbserver\nUid:\t${uid}\n`);
  stub.files.set("/proc/77/status", "Name:\tstrace\n");
  stub.answer = (packet) => (packet.startsWith("vAttach") ? "E01" : null);
  await using client = await GdbClient.open(stub.connect(), options);
  const error = await client.attach(pid).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(GdbError);
  expect((error as GdbError).code).toBe(code as GdbError["code"]);
  expect((error as GdbError).message).toContain(word);
});

test("a stub without what is needed is refused by name", async () => {
  const stub = newStub();
  stub.answer = (packet) => (packet.startsWith("qSupported") ? "PacketSize=1000;multiprocess+" : null);
  expect(await codeOf(GdbClient.open(stub.connect(), options))).toBe("gdb.version");
});

function cut(stub: FakeStub): null {
  stub.hangUp();
  return null;
}

/** Runs attach, fault, inspect, resume and detach, and gives the code of the error that ended it. */
async function tour(stub: FakeStub): Promise<string> {
  const tourOptions = { ...options, requestTimeoutMs: 40 };
  return await codeOf(
    (async () => {
      await using client = await GdbClient.open(stub.connect(), tourOptions);
      await client.attach(pid);
      await client.resumeAll();
      stub.fault(worker, "SIGSEGV", 11, 16n);
      await nextStop(client);
      const { registers } = await client.inspect(worker);
      const control = client.control(worker);
      await control.writeRegisters(new Map([[16, registers[16]! + 3n]]));
      await control.resume();
      await client.readMemory(address(0x4000n), 8, worker);
      await client.detach();
    })(),
  );
}

test("the stub hangs up, falls silent or sends garbage at any point: a typed error, never a hang", async () => {
  const whole = newStub();
  expect(await tour(whole)).toBe("none");
  const allowed = new Set([
    "gdb.closed",
    "gdb.timeout",
    "gdb.frame",
    "gdb.message",
    "gdb.violation",
    "gdb.refused",
    "gdb.gone",
    "gdb.version",
    "gdb.attach",
    "none",
  ]);
  const faults: readonly (readonly [
    name: string,
    expected: ReadonlySet<string>,
    bytes: (sent: string, stub: FakeStub) => string | null,
  ])[] = [
    ["hangs up", new Set(["gdb.closed"]), (_, stub) => cut(stub)],
    // The replies after a missing one move up by one, and one OK is like another.
    ["is silent", allowed, (sent) => (sent.startsWith("%") ? sent : null)],
    ["breaks the checksum", new Set(["gdb.frame"]), (sent) => `${sent.slice(0, -2)}zz`],
    ["says nonsense", allowed, () => "$\xff\xfe<#02$#00"],
    ["says E01", allowed, () => "$E01#a6"],
    ["says it twice", allowed, (sent) => sent + sent],
  ];
  for (const [name, expected, bytes] of faults) {
    for (let at = 1; at <= 40; at += 1) {
      const stub = newStub();
      let hit = false;
      stub.corrupt = (sent, reply) => {
        if (reply !== at) return sent;
        hit = true;
        return bytes(sent, stub);
      };
      const code = await tour(stub);
      if (!hit) break;
      expect([name, at, code, expected.has(code)]).toEqual([name, at, code, true]);
    }
  }
}, 30_000);

test("a request that was given up is answered to nobody, and the next one gets its own reply", async () => {
  const { stub, client } = await attached();
  await using _ = client;
  stub.memory.set(0x10n, 0xaa).set(0x20n, 0xbb);
  const cancel = new AbortController();
  const first = client.readMemory(address(0x10n), 1, worker, cancel.signal);
  cancel.abort(new GdbError("gdb.timeout", "given up by the test"));
  expect(await codeOf(first)).toBe("gdb.timeout");
  expect(await client.readMemory(address(0x20n), 1, worker)).toEqual(new Uint8Array([0xbb]));
});

test("an attach that is given up half way leaves nothing attached or stopped", async () => {
  const stub = newStub();
  const cancel = new AbortController();
  stub.answer = (packet) => {
    if (packet.startsWith("vCont;t")) cancel.abort(new GdbError("gdb.timeout", "given up by the test"));
    return null;
  };
  await using client = await GdbClient.open(stub.connect(), options);
  expect(await codeOf(client.attach(pid, { signal: cancel.signal }))).toBe("gdb.timeout");
  expect(stub.attached).toBe(false);
  expect([...stub.threads.values()].every(({ stop }) => stop === null)).toBe(true);
});
