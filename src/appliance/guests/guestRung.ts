// SPDX-License-Identifier: Apache-2.0
/**
 * The ladder for a guest as a whole: reset, restore, cold boot; how long to wait before a step, and when to give up.
 *
 * Pure. Gets the fault, the step still on trial, what is possible here, the attempts of the past and the policy. A step
 * that did not help (a new fault before the guest had settled) is followed by the next one.
 */
import type { RestartPolicy } from "#config/schema.ts";
import { chooseRestart } from "../restart.ts";
import type { GuestFaultKind } from "./guestFault.ts";

/** Mildest first. `reset`: the same process boots the guest anew. `restore`: from its last good checkpoint. */
export const guestRungs = ["reset", "restore", "coldboot"] as const;
export type GuestRung = (typeof guestRungs)[number];

export type GuestStep =
  | { readonly kind: "act"; readonly rung: GuestRung; readonly waitMs: number }
  /** Nothing to do: it goes on, or it has helped itself. */
  | { readonly kind: "note" }
  /** It ended by itself, and that is respected. */
  | { readonly kind: "stayDown" }
  /** The budget is used up: down until somebody starts it. */
  | { readonly kind: "hold"; readonly why: string };

export type Situation = {
  readonly fault: GuestFaultKind;
  /** The step whose success is not known yet. */
  readonly onTrial: GuestRung | null;
  /** A good checkpoint is there. */
  readonly restorable: boolean;
  /** Wall clock of earlier attempts, ms. */
  readonly attempts: readonly number[];
  readonly nowMs: number;
};

/** After a panic: the rest of its message is still being printed. */
export const panicEvidenceMs = 300;

export function chooseStep(situation: Situation, policy: RestartPolicy): GuestStep {
  const { fault } = situation;
  if (fault === "outOfMemory") return { kind: "note" };
  const again = chooseRestart(situation.attempts, situation.nowMs, policy);
  if (fault === "selfReset") return again.kind === "spent" ? { kind: "hold", why: again.why } : { kind: "note" };
  if (fault === "powerOff" ? policy.policy !== "always" : policy.policy === "never") return { kind: "stayDown" };
  if (again.kind === "spent") return { kind: "hold", why: again.why };
  const waitMs = Math.max(again.waitMs, fault === "panic" ? panicEvidenceMs : 0);
  return { kind: "act", rung: rungFor(situation), waitMs };
}

const withoutProcess: readonly GuestFaultKind[] = ["hypervisorEnded", "hypervisorSilent", "startFailed", "powerOff"];

function rungFor({ fault, onTrial, restorable }: Situation): GuestRung {
  const possible = guestRungs.filter((rung) => {
    if (rung === "restore") return restorable && fault !== "powerOff";
    return rung === "coldboot" || !withoutProcess.includes(fault);
  });
  const next = possible.filter((rung) => onTrial === null || guestRungs.indexOf(rung) > guestRungs.indexOf(onTrial));
  return next[0] ?? "coldboot";
}
