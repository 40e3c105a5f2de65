// SPDX-License-Identifier: Apache-2.0
/**
 * Settings in effect: those of the configuration, which only a restart changes, and a few that can be changed while we run.
 * Gets changes; gives values. A change may be on trial: it goes back by itself unless it is made again without a limit.
 *
 * Changes outlive us, and so does their limit: one whose time was over while nobody ran goes back at the start.
 */
import { type Clock, sleepToBeat } from "#clock.ts";
import type { Storage } from "#storage/storage.ts";
import type { VerbScalar } from "#verbs.ts";

/** One setting that can be changed now. `check` gives what is wrong with a value, or null. */
export type LiveSetting = {
  readonly usual: VerbScalar;
  readonly check: (value: VerbScalar) => string | null;
  readonly apply: (value: VerbScalar) => void;
};

/** As kept: `revertAtMs` is wall clock, null for good. `before` is what it goes back to, null for what is usual. */
type Kept = { readonly value: VerbScalar; readonly before: VerbScalar | null; readonly revertAtMs: number | null };

const prefix = "setting/";
const lookMs = 500;

export class LiveSettings {
  readonly #kept = new Map<string, Kept>();
  /** Called after every change. */
  changed: () => void = () => {};

  constructor(
    private readonly live: Readonly<Record<string, LiveSetting>>,
    private readonly fixed: Readonly<Record<string, VerbScalar>>,
    private readonly storage: Pick<Storage, "learned" | "learn" | "event">,
    private readonly clock: Clock,
  ) {
    for (const [name, setting] of Object.entries(live)) {
      const kept = readKept(storage.learned.get(prefix + name));
      if (kept === null || setting.check(kept.value) !== null) continue;
      this.#kept.set(name, kept);
      setting.apply(kept.value);
    }
    this.#revertDue();
  }

  effective(): Readonly<Record<string, VerbScalar>> {
    const live = Object.entries(this.live).map(([name, { usual }]) => [name, this.#kept.get(name)?.value ?? usual]);
    return { ...this.fixed, ...(Object.fromEntries(live) as Record<string, VerbScalar>) };
  }

  /** All of them or none. Gives why not, or null. `revertMs` null: for good. */
  set(changes: Readonly<Record<string, VerbScalar>>, revertMs: number | null): string | null {
    for (const [name, value] of Object.entries(changes)) {
      const setting = this.live[name];
      if (setting === undefined) return this.#refusal(name);
      const wrong = setting.check(value);
      if (wrong !== null) return `${name} ${wrong}`;
    }
    const revertAtMs = revertMs === null ? null : this.clock.wallMs() + revertMs;
    for (const [name, value] of Object.entries(changes)) {
      const known = this.#kept.get(name);
      // A second trial goes back to where the first one began.
      const before = known === undefined ? null : known.revertAtMs === null ? known.value : known.before;
      this.#put(name, { value, before, revertAtMs });
    }
    this.changed();
    return null;
  }

  /** Lets trials end in their time. */
  async run(signal: AbortSignal): Promise<void> {
    for (;;) {
      await sleepToBeat(this.clock, lookMs, signal);
      if (this.#revertDue()) this.changed();
    }
  }

  #refusal(name: string): string {
    const can = Object.keys(this.live).join(", ");
    return name in this.fixed
      ? `${name} is changed in the configuration and by a restart; these can be changed now: ${can}`
      : `there is no setting ${JSON.stringify(name)}; these can be changed now: ${can}`;
  }

  #revertDue(): boolean {
    const due = [...this.#kept].filter(
      ([, { revertAtMs }]) => revertAtMs !== null && revertAtMs <= this.clock.wallMs(),
    );
    for (const [name, { before, value }] of due) {
      this.storage.event("lifecycle.settingReverted", "", { setting: name, value, severity: 2 });
      if (before === null) {
        this.#kept.delete(name);
        this.storage.learn(prefix + name, null);
        this.live[name]!.apply(this.live[name]!.usual);
      } else this.#put(name, { value: before, before: null, revertAtMs: null });
    }
    return due.length > 0;
  }

  #put(name: string, kept: Kept): void {
    this.#kept.set(name, kept);
    this.storage.learn(prefix + name, kept);
    this.live[name]!.apply(kept.value);
  }
}

function readKept(value: unknown): Kept | null {
  if (typeof value !== "object" || value === null) return null;
  const { value: kept, before, revertAtMs } = value as Partial<Kept>;
  const isScalar = ["string", "number", "boolean"].includes(typeof kept);
  if (!isScalar || (revertAtMs !== null && typeof revertAtMs !== "number")) return null;
  return { value: kept!, before: before ?? null, revertAtMs };
}

/** A whole number within limits. */
export const wholeSetting =
  (least: number, most: number) =>
  (value: VerbScalar): string | null =>
    typeof value === "number" && Number.isInteger(value) && value >= least && value <= most
      ? null
      : `wants a whole number from ${least} to ${most}`;

/** Words of a list with commas between; "" for none. */
export const wordsSetting =
  (known: readonly string[]) =>
  (value: VerbScalar): string | null =>
    typeof value === "string" && (value === "" || value.split(",").every((word) => known.includes(word)))
      ? null
      : `wants words of ${known.join(", ")}, with commas between`;
