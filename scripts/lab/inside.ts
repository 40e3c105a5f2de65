// SPDX-License-Identifier: Apache-2.0
/**
 * The scenario, run inside the lab's machine: Holdfast supervises a real Debian guest, and things go wrong.
 *
 * Each step prints `LAB {"step", "ok", "ms", …}` on the console, which the outside reads. Arguments: architecture, then the
 * steps to run (default: all).
 */
import { systemClock } from "#clock.ts";
import { run, type Step } from "./scenario.ts";

const aliveMs = 20_000;

/** A machine that says nothing has stopped for good. */
async function keepTalking(): Promise<never> {
  for (;;) {
    await systemClock.sleep(aliveMs);
    console.log("LAB alive");
  }
}

void keepTalking();
const [architecture = "x86_64", ...wanted] = process.argv.slice(2);
const passed = await run(architecture, wanted, (step: Step) => console.log(`LAB ${JSON.stringify(step)}`));
process.exit(passed ? 0 : 1);
