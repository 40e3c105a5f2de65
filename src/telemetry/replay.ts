// SPDX-License-Identifier: Apache-2.0
/**
 * Which counters of a key were used: a window of 64 below the newest, as IPsec has it (RFC 4303, section 3.4.3). Gets a
 * window and a counter; says whether it is new, and gives the window after it. Pure. What fell out of the window counts as used.
 */

export type CounterWindow = {
  readonly newest: number;
  /** Bit i: the counter `newest - i` was used. */
  readonly used: bigint;
};

const width = 64;
const mask = (1n << BigInt(width)) - 1n;
export const noCounters: CounterWindow = { newest: -1, used: 0n };

export function isNew(window: CounterWindow, counter: number): boolean {
  if (counter > window.newest) return true;
  const back = window.newest - counter;
  return back < width && ((window.used >> BigInt(back)) & 1n) === 0n;
}

export function withCounter(window: CounterWindow, counter: number): CounterWindow {
  if (counter <= window.newest) return { ...window, used: window.used | (1n << BigInt(window.newest - counter)) };
  const shift = counter - window.newest;
  const moved = shift >= width || window.newest < 0 ? 0n : (window.used << BigInt(shift)) & mask;
  return { newest: counter, used: moved | 1n };
}

export const writeWindow = (window: CounterWindow): string => `${window.newest}:${window.used.toString(16)}`;

/** A damaged window reads as one in which nothing is left: safe, and the next higher counter opens it again. */
export function readWindow(text: string | null): CounterWindow {
  if (text === null) return noCounters;
  const match = /^(\d{1,16}):([0-9a-f]{1,16})$/.exec(text);
  return match === null
    ? { newest: Number.MAX_SAFE_INTEGER, used: mask }
    : { newest: Number(match[1]), used: BigInt(`0x${match[2]}`) };
}
