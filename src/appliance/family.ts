// SPDX-License-Identifier: Apache-2.0
/**
 * What the processes of one program share, because they run the same code, and what a guard tells of one of them.
 */
import type { Trials } from "./trials.ts";

export type Family = {
  /** What was learned at a place in one process holds in all. */
  readonly trials: Trials;
};

export type GuardNews =
  /** A stub holds the process: its faults are met from now on. */
  | { readonly kind: "attached" }
  /** Protection is complete. `serving`: the program was seen waiting for work. */
  | { readonly kind: "guarding"; readonly serving: boolean }
  /** An act has failed, and the program lives. `ask`: what is wrong with it now; null where nothing is seen. */
  | {
      readonly kind: "ill";
      readonly why: string;
      readonly ask: (signal: AbortSignal) => Promise<string | null>;
    };
