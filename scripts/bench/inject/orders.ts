// SPDX-License-Identifier: Apache-2.0
/**
 * What the bench and its relay say to each other: orders one way, reports the other, one JSON object a line.
 *
 * Addresses are numbers (user addresses are below 2^47). Register numbers are those of DWARF.
 */
import { assert } from "#errors.ts";

/** What is done to the thread that comes by. */
export type Act =
  /** A base register of the memory instruction at the place is replaced; the access at `operand` then faults. */
  | {
      readonly kind: "nullBase" | "wildBase";
      readonly register: number;
      readonly value: bigint;
      readonly index: { readonly register: number; readonly scale: number } | null;
      readonly displacement: bigint;
    }
  /** The call that has just entered the function goes to address 0 instead. */
  | { readonly kind: "nullCall" }
  /** The function calls abort at a place of its own where it calls what never returns. */
  | { readonly kind: "abort"; readonly abort: number; readonly returnTo: number };

export type Order =
  /** Tells of the first thread that comes by each place, and lets it go on. */
  | { readonly order: "watch"; readonly pid: number; readonly places: readonly number[] }
  /**
   * `natural`: the thread is let run into its fault instead of being shown as if it had: one stop more, none of the
   * relay's doing in the fault.
   */
  | {
      readonly order: "inject";
      readonly pid: number;
      readonly place: number;
      readonly act: Act;
      readonly times: number;
      readonly natural: boolean;
    }
  /** Puts all code back as it was. */
  | { readonly order: "clear"; readonly pid: number };

export type Report =
  | { readonly report: "ready" }
  | { readonly report: "passed"; readonly place: number }
  /** A thread has faulted by our doing. */
  | { readonly report: "injected"; readonly tid: number; readonly place: number; readonly number: number }
  /** The thread that came by was let go: the fault would have been none. */
  | { readonly report: "spared"; readonly why: string }
  | { readonly report: "cleared" }
  | { readonly report: "broken"; readonly why: string };

/** bigint as `{"n":"5"}`: the one type JSON lacks. */
export const encodeLine = (value: Order | Report): string =>
  `${JSON.stringify(value, (_, item) => (typeof item === "bigint" ? { n: String(item) } : item))}\n`;

export function decodeLine<Line extends Order | Report>(text: string): Line {
  const value: unknown = JSON.parse(text, (_, item) => (isBig(item) ? BigInt(item.n) : item));
  assert(typeof value === "object" && value !== null, "a line that is no object", { text: text.slice(0, 80) });
  return value as Line;
}

const isBig = (item: unknown): item is { n: string } =>
  typeof item === "object" && item !== null && "n" in item && Object.keys(item).length === 1;

/** Whole lines of a stream that comes in any pieces. */
export class Lines {
  #rest = "";

  push(chunk: string): string[] {
    const lines = (this.#rest + chunk).split("\n");
    this.#rest = lines.pop() ?? "";
    return lines.filter((line) => line !== "");
  }
}
