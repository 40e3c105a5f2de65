// SPDX-License-Identifier: Apache-2.0
/**
 * Signed wishes to a booted box. A wish is repeated until the box agrees, because it refuses an admin as long as its time is
 * not kept; then no more, for each wish counts.
 */
import { systemClock } from "#clock.ts";
import type { KeyPair } from "#telemetry/keys.ts";
import { signWish } from "#telemetry/operator.ts";
import type { VerbName } from "#verbs.ts";
import type { BootedBox } from "./bootedBox.ts";
import { device, type Surroundings } from "./boxWorld.ts";
import { keepTime } from "./readyBox.ts";

const againMs = 15_000;
const validSeconds = 60;

/** The box takes its word as an admin's from now on. */
export async function believe(box: BootedBox, pair: KeyPair): Promise<void> {
  await box.shell(`holdfast keys add ${pair.public.raw.toHex()} --as admin --label lab`);
  await box.shell(keepTime);
}

/** Each signs the same id, until the box agrees; `done` is seen on its console. */
export async function wish(
  around: Surroundings,
  verb: VerbName,
  pairs: readonly KeyPair[],
  done: () => Promise<unknown>,
): Promise<void> {
  const over = new AbortController();
  const asking = askAgain(around, verb, pairs, over.signal);
  await done().finally(() => over.abort());
  await asking;
}

async function askAgain(
  { observer }: Surroundings,
  verb: VerbName,
  pairs: readonly KeyPair[],
  signal: AbortSignal,
): Promise<void> {
  const refused = new Set(["rejected", "expired"]);
  const isAgreed = (): boolean => statesOf({ observer }, verb).some((state) => !refused.has(String(state)));
  for (let counter = 1; !signal.aborted && !isAgreed(); counter += 1) {
    const id = `lab-${verb}-${counter}`;
    for (const pair of pairs) {
      const words = { device, verb, words: [], validSeconds, id };
      const { bytes } = signWish(words, pair, counter, Math.floor(systemClock.wallMs() / 1000));
      await observer.publish(`holdfast/1/${device}/cmd/${verb}`, bytes);
    }
    await systemClock.sleep(againMs, signal).catch(() => {});
  }
}

/** What the jobs of this verb were said to be, oldest first. */
export const statesOf = ({ observer }: Pick<Surroundings, "observer">, verb: VerbName): unknown[] =>
  observer
    .decoded(`holdfast/1/${device}/job/`)
    .filter((job) => job.verb === verb)
    .map(({ s }) => s);
