// SPDX-License-Identifier: Apache-2.0
/**
 * Steps that signals interrupt: the instruction runs all the same, and each signal reaches the thread once.
 */
import { expect, test } from "bun:test";
import type { Inspection } from "#monitor/gdb/inspection.ts";
import { OwedSignals } from "#monitor/gdb/owedSignals.ts";
import { gdbSignalNumber, signalName } from "#monitor/gdb/signals.ts";

const tid = 7;
const [before, after] = [0x1000n, 0x1002n];

/** Each step ends in the next of these signals, at the instruction or behind it. */
async function stepped(owed: OwedSignals, ...ends: readonly (readonly [signal: string, at: bigint])[]) {
  let steps = 0;
  const inspection = await owed.step(tid, before, async () => {
    const [signal, at] = ends[Math.min(steps++, ends.length - 1)]!;
    const gdbSignal = gdbSignalNumber(signal)!;
    return { inspection: { tid, signal: signalName(gdbSignal) } as Inspection, gdbSignal, at };
  });
  return { signal: inspection.signal, steps };
}

const actionOf = (signal: string): string => `C${gdbSignalNumber(signal)!.toString(16).padStart(2, "0")}`;

test("a step without a signal owes none", async () => {
  const owed = new OwedSignals();
  expect(await stepped(owed, ["SIGTRAP", after])).toEqual({ signal: "SIGTRAP", steps: 1 });
  expect([owed.isOwed(tid), owed.action(tid)]).toEqual([false, "c"]);
});

test("signals before the instruction: it is stepped again, and they go with the resumes that follow, each once", async () => {
  const owed = new OwedSignals();
  const ends = [
    ["SIGALRM", before],
    ["SIGTERM", before],
    ["SIGALRM", before],
    ["SIGTRAP", after],
  ] as const;
  expect(await stepped(owed, ...ends)).toEqual({ signal: "SIGTRAP", steps: 4 });
  expect([owed.action(tid), owed.isOwed(tid)]).toEqual([actionOf("SIGALRM"), true]);
  expect([owed.action(tid), owed.isOwed(tid)]).toEqual([actionOf("SIGTERM"), false]);
  expect(owed.action(tid)).toBe("c");
});

test("a signal behind the instruction: it has run, and is not run again", async () => {
  const owed = new OwedSignals();
  expect(await stepped(owed, ["SIGCHLD", after])).toEqual({ signal: "SIGTRAP", steps: 1 });
  expect(owed.action(tid)).toBe(actionOf("SIGCHLD"));
});

test("a fatal signal is told as it is; endless ones fail the step; a thread that has ended is owed nothing", async () => {
  const owed = new OwedSignals();
  expect(await stepped(owed, ["SIGSEGV", before])).toEqual({ signal: "SIGSEGV", steps: 1 });
  expect(owed.isOwed(tid)).toBe(false);
  expect((await stepped(owed, ["SIGALRM", before])).signal).toBe("SIGALRM");
  owed.forget(tid);
  expect(owed.action(tid)).toBe("c");
});
