// SPDX-License-Identifier: Apache-2.0
/**
 * What a client tells of a program, in the order in which it happened: its stops, and its end.
 */
import type { VirtualAddress } from "#fault.ts";

export type StopEvent =
  | {
      readonly kind: "signal";
      readonly pid: number;
      readonly tid: number;
      /** Linux name. */
      readonly signal: string;
      /** When the stop was read, by the clock's `monotonicNs`. */
      readonly atNs: number;
    }
  /** A thread that goes round in a loop was stopped for it; `loop` names the frame by its canonical address. */
  | {
      readonly kind: "hung";
      readonly pid: number;
      readonly tid: number;
      readonly loop: VirtualAddress;
      readonly atNs: number;
    }
  /** The program has replaced itself by another (and was resumed): all that was known of its code is void. */
  | { readonly kind: "exec"; readonly pid: number; readonly tid: number; readonly path: string }
  /** The program has forked; parent and child run, and the stub holds both. Only after `followForks`. */
  | { readonly kind: "forked"; readonly pid: number; readonly child: number }
  | { readonly kind: "exited"; readonly pid: number; readonly code: number }
  | { readonly kind: "killed"; readonly pid: number; readonly signal: string };
