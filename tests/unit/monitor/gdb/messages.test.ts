// SPDX-License-Identifier: Apache-2.0
/**
 * Messages: texts as gdbserver 13.1 sends them give their values; anything else gives GdbError "gdb.message".
 */
import { expect, test } from "bun:test";
import { GdbError } from "#errors.ts";
import { fatalSignals } from "#fault.ts";
import {
  formatThread,
  packetBytes,
  parseFeatures,
  parseFileReply,
  parseProcesses,
  parseSiginfo,
  parseStopReply,
  parseThread,
  parseThreads,
  parseXfer,
  type StopReply,
} from "#monitor/gdb/messages.ts";
import { gdbSignalNumber, linuxSignalNumber, passedSignals, signalName } from "#monitor/gdb/signals.ts";
import { siginfo } from "#tests/peers/fakeStub.ts";

const stopReplies: readonly (readonly [text: string, reply: StopReply])[] = [
  [
    "T0b06:0000000000000000;07:c0ded2e7ea7f0000;10:8161695055580000;thread:p445b.446c;core:1;",
    {
      kind: "stopped",
      thread: { pid: 0x445b, tid: 0x446c },
      gdbSignal: 11,
      signal: "SIGSEGV",
      execPath: null,
      forked: null,
    },
  ],
  [
    "T00thread:p1.1;core:0;",
    { kind: "stopped", thread: { pid: 1, tid: 1 }, gdbSignal: 0, signal: "SIGSTOP", execPath: null, forked: null },
  ],
  [
    "T0athread:p1.2;core:0;",
    { kind: "stopped", thread: { pid: 1, tid: 2 }, gdbSignal: 10, signal: "SIGBUS", execPath: null, forked: null },
  ],
  [
    "T05exec:2f62696e2f6563686f;thread:p1.1;core:0;",
    {
      kind: "stopped",
      thread: { pid: 1, tid: 1 },
      gdbSignal: 5,
      signal: "SIGTRAP",
      execPath: "/bin/echo",
      forked: null,
    },
  ],
  [
    "T05fork:p1f.1f;06:0*,;thread:p1.2;core:0;",
    {
      ...{ kind: "stopped", thread: { pid: 1, tid: 2 }, gdbSignal: 5, signal: "SIGTRAP", execPath: null },
      forked: { pid: 0x1f, tid: 0x1f },
    },
  ],
  [
    "T05vforkdone:;thread:p1.1;",
    {
      ...{ kind: "stopped", thread: { pid: 1, tid: 1 }, gdbSignal: 5, signal: "SIGTRAP", execPath: null },
      forked: "ended",
    },
  ],
  ["W2a;process:181a", { kind: "exited", pid: 0x181a, code: 42 }],
  ["X0c;process:181a", { kind: "killed", pid: 0x181a, signal: "SIGSYS" }],
  ["w0;p1.2", { kind: "threadExited", thread: { pid: 1, tid: 2 }, code: 0 }],
  ["N", { kind: "noneResumed" }],
];

test.each(stopReplies)("stop reply %s", (text, reply) => {
  expect(parseStopReply(text)).toEqual(reply);
});

/** Calls and gives the value, or null for the one error that is allowed. */
function valueOrTyped<T>(call: () => T): T | null {
  try {
    return call();
  } catch (error) {
    if (error instanceof GdbError && error.code === "gdb.message") return null;
    throw error;
  }
}

test.each(stopReplies)("stop reply %s cut or with a flipped bit: a whole value or a typed error", (text) => {
  const whole = (reply: StopReply | null): boolean =>
    reply === null || !("thread" in reply) || (reply.thread.pid > 0 && Number.isInteger(reply.thread.tid));
  for (let index = 0; index < text.length; index += 1) {
    expect(whole(valueOrTyped(() => parseStopReply(text.slice(0, index))))).toBe(true);
    for (let bit = 0; bit < 8; bit += 1) {
      const flipped = String.fromCharCode(text.charCodeAt(index) ^ (1 << bit));
      valueOrTyped(() => parseStopReply(text.slice(0, index) + flipped + text.slice(index + 1)));
    }
  }
});

test("a stop without a thread of its own is refused", () => {
  for (const text of [
    "",
    "T",
    "T0b",
    "T0bcore:0;",
    "T0bthread:p1.0;",
    "T0bthread:1;",
    "S05",
    "W00",
    "OK",
    "T0bexec:zz;thread:p1.1;",
  ]) {
    expect(() => parseStopReply(text)).toThrow(GdbError);
  }
});

test("thread ids", () => {
  expect(formatThread({ pid: 0x181a, tid: 0x181c })).toBe("p181a.181c");
  expect(formatThread({ pid: 0x181a, tid: -1 })).toBe("p181a.-1");
  expect(parseThread("p181a.181c")).toEqual({ pid: 0x181a, tid: 0x181c });
  for (const text of ["", "181a", "p1", "p1.", "p1.-1", "p1.2 ", "pfffffffff.1"])
    expect(() => parseThread(text)).toThrow(GdbError);
});

test("features with a value, yes and no", () => {
  const features = parseFeatures(
    "PacketSize=47ff;QPassSignals+;qXfer:auxv:read+;tracenz-;augmented-libraries-svr4-read+",
  );
  expect(packetBytes(features)).toBe(0x47ff);
  expect(features.get("qXfer:auxv:read")).toBe(true);
  expect(features.get("tracenz")).toBe(false);
  expect(features.get("augmented-libraries-svr4-read")).toBe(true);
  expect(() => parseFeatures("E01")).toThrow(GdbError);
  expect(() => packetBytes(parseFeatures("PacketSize=3"))).toThrow(GdbError);
  expect(() => packetBytes(parseFeatures("PacketSize=zz"))).toThrow(GdbError);
});

const siginfoReply = (bytes: Uint8Array): string =>
  `l${Buffer.from(bytes)
    .toString("latin1")
    .replace(/[#$*}]/g, (c) => `}${String.fromCharCode(c.charCodeAt(0) ^ 0x20)}`)}`;

test("the cause of a signal: a fault has an address, a sent one a sender, and never the other", () => {
  const at = 0x7f00_0000_2a23n;
  expect(parseSiginfo(siginfoReply(siginfo(11, 1, at)))).toEqual({
    number: 11,
    code: 1,
    faultAddress: at as never,
    senderPid: null,
  });
  expect(parseSiginfo(siginfoReply(siginfo(11, 0x80, 0n))).faultAddress).toBeNull();
  const sent = parseSiginfo(siginfoReply(siginfo(11, 0, 4711n)));
  expect([sent.faultAddress, sent.senderPid]).toEqual([null, 4711]);
  const raised = parseSiginfo(siginfoReply(siginfo(6, -6, 815n)));
  expect([raised.faultAddress, raised.senderPid]).toEqual([null, 815]);
  const seccomp = parseSiginfo(siginfoReply(siginfo(31, 1, 0x1234n)));
  expect([seccomp.faultAddress, seccomp.senderPid]).toEqual([null, null]);
  expect(() => parseSiginfo("l\x0b\x00")).toThrow(GdbError);
  expect(() => parseSiginfo("E01")).toThrow(GdbError);
});

test("lists of threads and of processes", () => {
  const xml =
    '<threads>\n<thread id="p181a.181c" core="1" name="a&lt;b&amp;&quot;"/>\n<thread id="p181a.181d" core="0"/>\n</threads>\n';
  expect(parseThreads(xml)).toEqual([
    { thread: { pid: 0x181a, tid: 0x181c }, name: 'a<b&"' },
    { thread: { pid: 0x181a, tid: 0x181d }, name: "" },
  ]);
  expect(() => parseThreads("")).toThrow(GdbError);
  expect(() => parseThreads('<threads><thread core="0"/></threads>')).toThrow(GdbError);
  const processes =
    '<osdata type="processes">\n<item><column name="pid">7</column><column name="user">redis</column>' +
    '<column name="command">redis-server *:1 </column><column name="cores">0</column></item></osdata>';
  expect(parseProcesses(processes)).toEqual([{ pid: 7, user: "redis", command: "redis-server *:1" }]);
  expect(() => parseProcesses('<osdata><item><column name="pid">x</column></item></osdata>')).toThrow(GdbError);
});

test("pieces of objects and results of file requests", () => {
  expect(parseXfer("mab}\x03")).toEqual({ last: false, binary: "ab#" });
  expect(parseXfer("l")).toEqual({ last: true, binary: "" });
  expect(() => parseXfer("E01")).toThrow(GdbError);
  expect(parseFileReply("F6")).toEqual({ kind: "done", result: 6, bytes: Buffer.alloc(0) });
  expect(parseFileReply("F3;a}\x03b")).toEqual({ kind: "done", result: 3, bytes: Buffer.from("a#b") });
  expect(parseFileReply("F-1,2")).toEqual({ kind: "failed", errno: 2 });
  for (const text of ["", "F", "F-2", "F2;abc", "OK"]) expect(() => parseFileReply(text)).toThrow(GdbError);
});

test("signal numbers: GDB's and Linux's differ where the issue says so, and real-time ones all have a number", () => {
  expect(["SIGBUS", "SIGSYS", "SIGCHLD", "SIGUSR1"].map(gdbSignalNumber)).toEqual([10, 12, 20, 30]);
  expect(["SIGBUS", "SIGSYS", "SIGCHLD", "SIGUSR1"].map(linuxSignalNumber)).toEqual([7, 31, 17, 10]);
  expect([signalName(0), signalName(45), signalName(75), signalName(77), signalName(78), signalName(999)]).toEqual([
    "SIGSTOP",
    "SIG33",
    "SIG63",
    "SIG32",
    "SIG64",
    "SIG?999",
  ]);
  const linux = Array.from({ length: 64 }, (_, index) => index + 1);
  const named = linux.filter((number) =>
    passedSignals.concat(fatalNumbers).some((gdb) => linuxSignalNumber(signalName(gdb)) === number),
  );
  // SIGKILL cannot be passed; SIGSTKFLT (16) has no number of GDB's and travels as 143.
  expect(linux.filter((number) => !named.includes(number))).toEqual([9, 16]);
  expect(passedSignals).toContain(143);
  for (const gdb of fatalNumbers) expect(passedSignals).not.toContain(gdb);
});
const fatalNumbers = fatalSignals.map((name) => gdbSignalNumber(name)!);
