// SPDX-License-Identifier: Apache-2.0
/**
 * What may befall a program as a whole, and how an end is told from a fault. Pure. Gets how a program ended; gives a kind
 * and a sentence, and whether a policy wants it back.
 */
import type { RestartPolicy } from "#config/schema.ts";
import { isFatal } from "#fault.ts";
import type { ProgramEnd } from "../guardedProgram.ts";

/**
 * `signal`: a fatal signal of its own ended it. `outOfMemory`: the kernel did. `zombie`: it lives and serves nobody.
 * `killed`: somebody else's signal. `exitCode`: it ended by itself, not in order. `startFailed`: it never ran.
 * `ended`: in order. `unseen`: nobody saw how.
 */
export const programFaultKinds = [
  "signal",
  "outOfMemory",
  "zombie",
  "killed",
  "exitCode",
  "startFailed",
  "ended",
  "unseen",
] as const;
export type ProgramFaultKind = (typeof programFaultKinds)[number];
export type ProgramFault = { readonly kind: ProgramFaultKind; readonly why: string };

/** Asking a program to end is no failure of it. */
const orderlySignals: readonly string[] = ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"];

export function faultOfEnd({ code, signal }: ProgramEnd, outOfMemory: boolean): ProgramFault {
  if (signal !== null) return { kind: kindOf(signal, outOfMemory), why: `it was ended by ${signal}` };
  if (code === null) return { kind: "unseen", why: "it has ended, and nobody saw how" };
  return { kind: code === 0 ? "ended" : "exitCode", why: `it ended with exit code ${code}` };
}

function kindOf(signal: string, outOfMemory: boolean): ProgramFaultKind {
  if (isFatal(signal)) return "signal";
  if (orderlySignals.includes(signal)) return "ended";
  return signal === "SIGKILL" && outOfMemory ? "outOfMemory" : "killed";
}

const own: readonly ProgramFaultKind[] = ["signal", "outOfMemory", "zombie"];

/** Whether the policy has a program started again after this. */
export function isWantedBack(kind: ProgramFaultKind, { policy }: Pick<RestartPolicy, "policy">): boolean {
  switch (policy) {
    case "always":
      return true;
    case "onFailure":
      return kind !== "ended";
    case "onFault":
      return own.includes(kind);
    case "never":
      return false;
  }
}
