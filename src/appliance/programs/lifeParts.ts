// SPDX-License-Identifier: Apache-2.0
/**
 * What the life of a program is made of, beside what a guard of one process needs.
 */
import type { GuardedProgram } from "../guardedProgram.ts";
import type { GuardParts } from "../guardParts.ts";

export type LifeParts = Omit<GuardParts, "program" | "family"> & {
  /** The command that started it; null where somebody else did. */
  readonly command: readonly string[] | null;
  /** Further processes that belong to the program and that it has not forked. */
  readonly relatives?: (() => readonly number[]) | undefined;
  /** Whether the next supervisor is to know what became of it here. */
  readonly remembered: boolean;
  /** Called with each process that is the program from then on. */
  readonly lives?: ((program: GuardedProgram) => void) | undefined;
};
