// SPDX-License-Identifier: Apache-2.0
/**
 * Time and randomness as values that are passed in. The only file that may ask the system for either.
 *
 * `systemClock` is the real one; tests pass `ManualClock`. Source: CLOCK_REALTIME and CLOCK_MONOTONIC through Bun.
 */

export interface Clock {
  /** Wall clock, ms since 1970. May jump. */
  wallMs(): number;
  /** Monotonic, ns since an arbitrary start. Exact to 2^53 ns (104 days of running). */
  monotonicNs(): number;
  /** Resolves after `delayMs`; rejects with the signal's reason when it is aborted first. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

/** Uniform in [0, 1). */
export type Random = () => number;

export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monotonicNs: () => Bun.nanoseconds(),
  sleep: (delayMs, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const timer = setTimeout(() => {
        signal?.removeEventListener("abort", cancel);
        resolve();
      }, delayMs);
      const cancel = (): void => {
        clearTimeout(timer);
        reject(signal?.reason);
      };
      signal?.addEventListener("abort", cancel, { once: true });
    }),
};

export const systemRandom: Random = () => Math.random();

/** Those who sleep to one beat: they share a timer. */
type Beat = { readonly sleepers: Set<() => void>; readonly stop: AbortController };
const beats = new WeakMap<Clock, Map<number, Beat>>();

/**
 * Sleeps to the next multiple of `periodMs`: those who sleep by the same beat wake together, and many of them cost this
 * process one wake-up. Rejects as `sleep` does.
 */
export function sleepToBeat(clock: Clock, periodMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const { sleepers, stop } = beatOf(clock, periodMs);
    const wake = (): void => {
      signal?.removeEventListener("abort", cancel);
      resolve();
    };
    const cancel = (): void => {
      sleepers.delete(wake);
      if (sleepers.size === 0) stop.abort();
      reject(signal?.reason);
    };
    sleepers.add(wake);
    signal?.addEventListener("abort", cancel, { once: true });
  });
}

function beatOf(clock: Clock, periodMs: number): Beat {
  const ofClock = beats.get(clock) ?? new Map<number, Beat>();
  beats.set(clock, ofClock);
  const known = ofClock.get(periodMs);
  if (known !== undefined && !known.stop.signal.aborted) return known;
  const beat: Beat = { sleepers: new Set(), stop: new AbortController() };
  ofClock.set(periodMs, beat);
  const over = (): void => {
    if (ofClock.get(periodMs) === beat) ofClock.delete(periodMs);
    for (const wake of beat.sleepers) wake();
  };
  // Aborted only once nobody sleeps to it any more.
  clock.sleep(untilBeatMs(clock, periodMs), beat.stop.signal).then(over, () => {});
  return beat;
}

/** At least an eighth of the period, so that a timer that comes early does not come twice. */
export function untilBeatMs(clock: Clock, periodMs: number): number {
  const leftMs = periodMs - ((clock.monotonicNs() / 1e6) % periodMs);
  return Math.ceil(leftMs < periodMs / 8 ? leftMs + periodMs : leftMs);
}

const nobodyWakes = new Int32Array(new SharedArrayBuffer(4));

/**
 * Stops this thread: only for Workers that own it, between two tries of a native call. Fractions count, and a tenth of a
 * millisecond is added (measured; `Bun.sleepSync` knows whole ones only).
 */
export const blockFor = (delayMs: number): void => void Atomics.wait(nobodyWakes, 0, 0, delayMs);

/** A random sequence that a seed repeats (mulberry32, public domain). */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** A signal that aborts after `delayMs`, with `reason`, or when `parent` does. Dispose it to stop the timer. */
export function deadline(
  delayMs: number,
  reason: () => Error,
  parent?: AbortSignal,
): Disposable & { signal: AbortSignal } {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(reason()), delayMs);
  const follow = (): void => controller.abort(parent?.reason);
  if (parent?.aborted) follow();
  parent?.addEventListener("abort", follow, { once: true });
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      clearTimeout(timer);
      parent?.removeEventListener("abort", follow);
    },
  };
}

/** A clock that moves only when told to. Sleepers wake in order of their time. */
export class ManualClock implements Clock {
  #nowNs = 1_000_000_000;
  #sleepers: { atNs: number; wake: () => void }[] = [];

  constructor(private readonly startMs = 1_700_000_000_000) {}

  wallMs(): number {
    return this.startMs + Math.floor(this.#nowNs / 1e6);
  }

  monotonicNs(): number {
    return this.#nowNs;
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      this.#sleepers.push({ atNs: this.#nowNs + delayMs * 1e6, wake: resolve });
      signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
  }

  /** Moves time forward and wakes whoever is due; each wake-up runs to its next await before the following one. */
  async advance(deltaMs: number): Promise<void> {
    const endNs = this.#nowNs + deltaMs * 1e6;
    for (;;) {
      const due = this.#sleepers.filter((sleeper) => sleeper.atNs <= endNs).sort((a, b) => a.atNs - b.atNs)[0];
      if (due === undefined) break;
      this.#sleepers = this.#sleepers.filter((sleeper) => sleeper !== due);
      this.#nowNs = Math.max(this.#nowNs, due.atNs);
      due.wake();
      await new Promise<void>((resolve) => queueMicrotask(() => queueMicrotask(() => queueMicrotask(resolve))));
    }
    this.#nowNs = endNs;
  }
}
