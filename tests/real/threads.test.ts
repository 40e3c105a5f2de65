// SPDX-License-Identifier: Apache-2.0
/**
 * Only the faulting thread stops: while it is held in its fatal stop, 16 other threads of the program keep counting.
 *
 * The supervisor itself is halted (SIGSTOP) before the fault, so the stop lasts as long as the test looks at it.
 */
import { expect } from "bun:test";
import { threadStateOf } from "#appliance/demo/processFacts.ts";
import { systemClock } from "#clock.ts";
import { compileOrdered, type OrderedProgram } from "#scripts/bench/orderedProgram.ts";
import { need, tracing } from "#tests/skip.ts";
import { guardCommand } from "./guardedServer.ts";

const timeoutMs = 60_000;
const threads = 16;
const lookMs = 5;

type Board = { ready: number; mainTid: number; returned: number; counters: { tid: number; count: bigint }[] };

function readBoard(program: OrderedProgram): Board | null {
  const bytes = program.shared();
  if (bytes.left < 8 * (3 + 2 * threads)) return null;
  const [ready, mainTid, returned] = [Number(bytes.u64()), Number(bytes.u64()), Number(bytes.u64())];
  return {
    ...{ ready, mainTid, returned },
    counters: Array.from({ length: threads }, () => ({ tid: Number(bytes.u64()), count: bytes.u64() })),
  };
}

/** Looks until it holds; the test's own time limit ends a wait that is in vain. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await systemClock.sleep(lookMs);
}

need("gcc", "gdbserver", tracing)(
  "16 other threads keep counting while one is stopped at its fault",
  async () => {
    await using program = await compileOrdered("threads");
    await using guarded = await guardCommand("--", ...program.command);
    await until(() => readBoard(program)?.ready === threads);
    const { mainTid } = readBoard(program)!;
    guarded.guard.signal("SIGSTOP");
    try {
      program.order("x");
      await until(() => threadStateOf(guarded.pid, mainTid) === "t");
      const before = readBoard(program)!.counters;
      await until(() => readBoard(program)!.counters.every(({ count }, index) => count > before[index]!.count));
      for (const { tid } of before) expect(threadStateOf(guarded.pid, tid)).not.toBe("t");
      expect(threadStateOf(guarded.pid, mainTid)).toBe("t");
      expect(readBoard(program)!.returned).toBe(0);
    } finally {
      guarded.guard.signal("SIGCONT");
    }
    await until(() => readBoard(program)!.returned === 1);
    const outcome = await guarded.guard.waitFor((event) => event.event === "outcome", timeoutMs);
    expect(outcome).toMatchObject({ rung: "abandon", verdict: "clean" });
    expect(guarded.isSame()).toBe(true);
  },
  timeoutMs,
);
