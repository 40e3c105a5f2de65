// SPDX-License-Identifier: Apache-2.0
/**
 * One scenario on the fake stub and on gdbserver: they must agree, so that the unit tests mean something.
 */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { toHex } from "#bytes.ts";
import { systemClock } from "#clock.ts";
import { GdbError } from "#errors.ts";
import { address } from "#fault.ts";
import { silentLog } from "#log.ts";
import { GdbClient } from "#monitor/gdb/client.ts";
import { startStub } from "#monitor/gdb/stub.ts";
import { parseTrace, WireTrace } from "#monitor/gdb/trace.ts";
import type { Transport } from "#monitor/gdb/transport.ts";
import { FakeStub } from "#tests/peers/fakeStub.ts";
import { Faulter } from "#tests/peers/faulter.ts";
import { need, processor, tracing } from "#tests/skip.ts";
import { x86Documents } from "#tests/unit/monitor/gdb/vectors.ts";

/** What the scenario needs of a program: 19 threads, one of which faults on a load of address 16. */
type Scene = { readonly pid: number; readonly transport: Transport; readonly fault: () => void };

const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "none",
    (error: unknown) => (error instanceof GdbError ? error.code : String(error)),
  );

/** What was seen, without what differs from run to run. */
async function play({ pid, transport, fault }: Scene): Promise<{ seen: unknown[]; wire: string[] }> {
  const lines: string[] = [];
  const seen: unknown[] = [];
  const trace = new WireTrace("stub", systemClock, (line) => lines.push(line));
  await using client = await GdbClient.open(transport, { clock: systemClock, log: silentLog, trace });
  const threads = await client.attach(pid);
  seen.push(
    threads.length,
    threads[0]?.tid === pid,
    threads.every(({ registers }) => registers?.[client.layout.pc] !== undefined),
  );
  await client.resumeAll();
  fault();
  for await (const stop of client.stops()) {
    if (stop.kind !== "signal") throw new TypeError(stop.kind);
    const { registers, raw, cause } = await client.inspect(stop.tid);
    seen.push(stop.signal, stop.tid !== pid, raw.length === client.layout.totalBytes, cause);
    const pc = registers[client.layout.pc]!;
    // The third byte of the load is the compiler's choice.
    seen.push(toHex((await client.readMemory(address(pc), 3, stop.tid)).subarray(0, 2)));
    seen.push((await client.readMemory(address(8n), 3, stop.tid)).length);
    const control = client.control(stop.tid);
    await control.writeRegisters(new Map([[client.layout.pc, pc + 3n]]));
    await control.resume();
    seen.push(await codeOf(control.resume()), await codeOf(client.inspect(stop.tid)));
    break;
  }
  const other = threads[7]!.tid;
  seen.push((await client.stopThread(other)).signal, await codeOf(client.stopThread(999_999_999)));
  await client.control(other).resume();
  seen.push(
    (await client.readFile("/nowhere")) === null,
    await codeOf(client.detach()),
    await codeOf(client.threads()),
  );
  const wire = parseTrace(lines.join("\n")).map(({ direction, bytes }) => `${direction} ${kindOf(bytes)}`);
  return { seen, wire };
}

/** The kind of a frame: its first letters, or its verb. */
const kindOf = (frame: string): string =>
  /^[$%](?:[vqQ][A-Za-z]+|Stop:T|[A-Z]?)|^[+-]/.exec(frame)?.[0] ?? frame.slice(0, 2);

function fakeScene(): Scene {
  const pid = 1000;
  const stub = new FakeStub(
    pid,
    Array.from({ length: 19 }, (_, index) => pid + index),
    x86Documents,
  );
  for (const [index, byte] of [0x48, 0x8b, 0x00].entries()) stub.memory.set(0x5555_0000_1000n + BigInt(index), byte);
  return { pid, transport: stub.connect(), fault: () => stub.fault(pid + 1, "SIGSEGV", 11, 16n) };
}

const expected = [
  ...[19, true, true],
  ...["SIGSEGV", true, true, { number: 11, code: 1, faultAddress: address(16n), senderPid: null }],
  ...["488b", 0, "gdb.stale", "gdb.stale"],
  ...["SIGSTOP", "gdb.gone", true, "none", "gdb.refused"],
];
test("the fake stub plays the scenario", async () => {
  expect((await play(fakeScene())).seen).toEqual(expected);
});

need(
  "gdbserver",
  "gcc",
  tracing,
  processor("x64"),
)("gdbserver plays the same scenario, with the same kinds of frames", async () => {
  const directory = mkdtempSync(join(tmpdir(), "holdfast-contract-"));
  await using faulter = await Faulter.start();
  const { transport } = await startStub(join(directory, "run"), { clock: systemClock });
  const real = await play({ pid: faulter.pid, transport, fault: () => faulter.tell("segv 0") });
  rmSync(directory, { recursive: true });
  expect(real.seen).toEqual(expected);
  expect(await faulter.until("survived")).toBe("survived 0");
  const fake = await play(fakeScene());
  // Orders may differ where threads stop while something else is asked; what kinds of frames there are may not.
  expect([...new Set(fake.wire)].sort()).toEqual([...new Set(real.wire)].sort());
});
