// SPDX-License-Identifier: Apache-2.0
/**
 * The time of storage in real faults: a guarded test program (stop.c) faults again and again, and its guard times what it
 * calls in storage while the thread is stopped. Gets where the state is to be; gives times in µs.
 */
import { join } from "node:path";
import { GuardProcess } from "#appliance/demo/guardProcess.ts";
import { compileOrdered } from "./orderedProgram.ts";

const order = ["l", "s", "c", "d", "a"] as const;
const outcomeMsMax = 20_000;

/** Times of `faults` faults, the first of each kind left out: it loads what later ones find ready. */
export async function guardedIntents(scratch: string, state: string, faults: number): Promise<number[]> {
  const times = join(scratch, "times");
  {
    await using program = await compileOrdered("stop");
    const name = `bench-${process.pid}`;
    await using guard = new GuardProcess({
      holdfast: [
        "env",
        `HOLDFAST_BENCH_TIMES=${times}`,
        process.execPath,
        join(import.meta.dir, "guardWithTimedIntents.ts"),
      ],
      guardArguments: ["--name", name, "--state", state, "--", ...program.command],
      logPath: join(scratch, "guard.log"),
    });
    await guard.guarding();
    for (let fault = 0; fault < faults + order.length; fault += 1) {
      const from = guard.events.length;
      program.order(order[fault % order.length]!);
      await guard.waitFor(({ event }) => event === "outcome" || event === "exit", outcomeMsMax, from);
    }
  }
  const all = (await Bun.file(times).json()) as number[];
  return all.slice(order.length);
}
