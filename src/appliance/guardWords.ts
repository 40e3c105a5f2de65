// SPDX-License-Identifier: Apache-2.0
/**
 * Ends and errors of a guard in words, and which of them mean what. Gets errors and ends; gives sentences and yes or no.
 */
import { HoldfastError } from "#errors.ts";
import type { ProgramEnd } from "./guardedProgram.ts";
import type { LaneEnd } from "./lane.ts";

export const isOperating = (error: unknown): error is HoldfastError =>
  error instanceof HoldfastError && error.code !== "bug";

export const hasCode = (error: unknown, codes: readonly string[]): boolean =>
  error instanceof HoldfastError && codes.includes(error.code);

/** Reasons for which trying again is in vain. */
export const hopeless: readonly string[] = ["program.unsupported", "program.permission", "gdb.permission"];

export const describeEnd = (end: ProgramEnd): string =>
  end.signal ?? (end.code === null ? "nobody saw how" : `exit code ${end.code}`);

export const reasonOf = (end: Extract<LaneEnd, { kind: "stubLost" | "retired" }>): string =>
  end.kind === "stubLost"
    ? `its debugger stub is lost and will be replaced at once: ${end.why}`
    : `a bug of Holdfast, see above; it runs on by itself until guard is started anew`;
