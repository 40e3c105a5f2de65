// SPDX-License-Identifier: Apache-2.0
/**
 * A supervisor that runs for months is small: `holdfast run` starts itself anew, under the same process id, with a runtime
 * that optimises only what has run some ten thousand times, and not with its last and largest compiler. With four idle
 * programs that is 17 MiB less (measured): compilers, their memory and their code. What ticks a hundred times a second is
 * compiled as before; what a fault needs once is not worth it.
 *
 * Gets the environment we were started in; gives the one to start again in, null where that is done, or where somebody has
 * set any of it otherwise. Guarded programs and probes get no word of it. Source: the options of JavaScriptCore (`BUN_JSC_…`) and of
 * Bun's mimalloc, which are read once, before the first line of ours.
 */
/** A call counts 15, a turn of a loop 1. */
const lateThreshold = "200000";
const settings: Readonly<Record<string, string>> = {
  BUN_JSC_useFTLJIT: "0",
  BUN_JSC_thresholdForOptimizeAfterWarmUp: lateThreshold,
  BUN_JSC_thresholdForOptimizeAfterLongWarmUp: lateThreshold,
  BUN_JSC_thresholdForOptimizeSoon: lateThreshold,
  // The heap begins at a quarter of it and doubles up to a half of it, then grows by a quarter at a time: 4 MiB less.
  BUN_JSC_forceRAMSize: String(64 * 2 ** 20),
  // Freed memory is looked for every so many ms, not each time a thread falls asleep.
  MIMALLOC_PURGE_HOLES_MIN_INTERVAL: "1000",
};
/** Says to the second start that the settings are ours, not the user's. */
const mark = "HOLDFAST_LEAN";

type Environment = Readonly<Record<string, string | undefined>>;

export function leanEnvironment(environment: Environment): Record<string, string> | null {
  if (Object.keys(settings).some((name) => environment[name] !== undefined)) return null;
  const kept = Object.entries(environment).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return { ...Object.fromEntries(kept), ...settings, [mark]: "1" };
}

/** Returns in the process that is to go on: the lean one, or this one where it cannot be had. */
export function becomeLean(): void {
  if (process.env[mark] !== undefined) {
    // Whoever we start is another program, with a runtime of its own.
    for (const name of [mark, ...Object.keys(settings)]) delete process.env[name];
    return;
  }
  const environment = leanEnvironment(process.env);
  if (environment === null) return;
  const words = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  try {
    process.execve?.(process.execPath, words, environment);
  } catch {
    // The file of our runtime is not there any more (an update replaced it): this process does as well, only larger.
  }
}
