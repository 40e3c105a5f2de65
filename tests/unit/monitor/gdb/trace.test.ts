// SPDX-License-Identifier: Apache-2.0
/**
 * The wire trace: lines written and read back, and a conversation replayed to a client that must send the same.
 */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { ManualClock, systemClock } from "#clock.ts";
import { GdbError } from "#errors.ts";
import { address } from "#fault.ts";
import { silentLog } from "#log.ts";
import { GdbClient } from "#monitor/gdb/client.ts";
import { ReplayTransport } from "#monitor/gdb/replay.ts";
import { formatTraceLine, parseTrace, type TraceLine, WireTrace } from "#monitor/gdb/trace.ts";
import { FakeStub } from "#tests/peers/fakeStub.ts";
import { x86Documents } from "./vectors.ts";

const bytes = (text: string): Uint8Array => Buffer.from(text, "latin1");

test("one line a frame, whatever the chunks", () => {
  const lines: string[] = [];
  const trace = new WireTrace("gdbserver one", new ManualClock(), (line) => lines.push(line));
  trace.sent("+$g#67$?#3f");
  trace.received(bytes("$l}\x03\\#"));
  trace.received(bytes("00%Stop:T"));
  trace.received(bytes("05#00+"));
  expect(lines).toEqual([
    "0.000 gdbserver_one > +",
    "0.000 gdbserver_one > $g#67",
    "0.000 gdbserver_one > $?#3f",
    "0.000 gdbserver_one < $l}\\x03\\x5c#00",
    "0.000 gdbserver_one < %Stop:T05#00",
    "0.000 gdbserver_one < +",
  ]);
});

test("a line is read back as it was written", () => {
  const anyLine: fc.Arbitrary<TraceLine> = fc.record({
    offsetMs: fc.nat().map((value) => value / 1000),
    peer: fc.constantFrom("gdbserver", "/run/holdfast/in"),
    direction: fc.constantFrom(">", "<"),
    bytes: fc.uint8Array().map((array) => Buffer.from(array).toString("latin1")),
  });
  fc.assert(
    fc.property(fc.array(anyLine), (lines) => expect(parseTrace(lines.map(formatTraceLine).join("\n"))).toEqual(lines)),
  );
});

test("comments are skipped; anything else that is no line is refused with its number", () => {
  expect(parseTrace("# a comment\n\n0.000 a > +\n")).toHaveLength(1);
  for (const text of ["x", "0.000 a ? +", "0.000 a >", "-1 a > +", "0.000 a > \x01", "0.000 a > \\x4"]) {
    expect(() => parseTrace(`0.000 a > +\n${text}`)).toThrow(/line 2/);
  }
});

const pid = 0x181a;

/** Attach, one fault, resume, detach. */
async function converse(client: GdbClient, fault: () => void, value: bigint): Promise<void> {
  await client.attach(pid, { stopAll: false });
  fault();
  for await (const event of client.stops()) {
    if (event.kind !== "signal") continue;
    await client.inspect(event.tid);
    const control = client.control(event.tid);
    await control.writeRegisters(new Map([[16, value]]));
    await control.resume();
    break;
  }
  await client.detach();
}

async function record(): Promise<TraceLine[]> {
  const lines: string[] = [];
  const stub = new FakeStub(pid, [pid, pid + 1], x86Documents);
  const trace = new WireTrace("fake", systemClock, (line) => lines.push(line));
  await using client = await GdbClient.open(stub.connect(), {
    clock: systemClock,
    log: silentLog,
    rehearsed: false,
    trace,
  });
  await converse(client, () => stub.fault(pid + 1, "SIGSEGV", 11, 0n), 0x1234n);
  return parseTrace(lines.join("\n"));
}

test("a recorded conversation replays to its end", async () => {
  const replay = new ReplayTransport(await record());
  await using client = await GdbClient.open(replay, { clock: systemClock, log: silentLog, rehearsed: false });
  await converse(client, () => {}, 0x1234n);
  expect(replay.linesLeft).toBe(0);
});

test("a client that sends something else is told the line", async () => {
  const replay = new ReplayTransport(await record());
  await using client = await GdbClient.open(replay, { clock: systemClock, log: silentLog, rehearsed: false });
  const error = await converse(client, () => {}, 0x1235n).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(GdbError);
  expect((error as GdbError).code).toBe("gdb.violation");
  expect(String((error as GdbError).context.sent)).toStartWith("$G");
  expect(replay.linesLeft).toBeGreaterThan(0);
});

test("golden: what gdbserver said at a fault gives the same stop, and the client asks the same of it", async () => {
  const file = join(import.meta.dir, "../../../traces/gdbserver-segv.trace");
  const replay = new ReplayTransport(parseTrace(readFileSync(file, "utf8")));
  await using client = await GdbClient.open(replay, { clock: systemClock, log: silentLog, rehearsed: false });
  await client.attach(21366, { stopAll: false });
  expect(await client.threads()).toHaveLength(19);
  for await (const stop of client.stops()) {
    if (stop.kind !== "signal") throw new TypeError(stop.kind);
    expect([stop.tid, stop.signal]).toEqual([21367, "SIGSEGV"]);
    const { registers, raw, cause } = await client.inspect(stop.tid);
    expect(cause).toEqual({ number: 11, code: 1, faultAddress: address(16n), senderPid: null });
    expect(raw.length).toBe(560);
    // The load was of address 16, whichever register held it.
    expect(registers.slice(0, 16)).toContain(16n);
    const control = client.control(stop.tid);
    await control.writeRegisters(new Map([[16, registers[16]! + 3n]]));
    await control.resume();
    break;
  }
  await client.detach();
  expect(replay.linesLeft).toBe(0);
});
