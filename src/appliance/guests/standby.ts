// SPDX-License-Identifier: Apache-2.0
/**
 * Whether a process stands by for a guest, and for which checkpoint. Pure.
 *
 *     none ──wished──▶ raising ──raised──▶ ready ──taken──▶ none
 *      ▲                 │ failed            │ died
 *      └──── later ── resting ◀──────────────┘        no wish, or another checkpoint: ended from anywhere
 *
 * One that failed is not raised again for the same checkpoint before `restMs` are over.
 */
import { next, type Step } from "#machine.ts";

/** What is wanted now. `keep`: what there is, whatever it is, for the guest is on its way. */
export type Wish =
  | { readonly kind: "want"; readonly checkpoint: string }
  | { readonly kind: "keep" }
  | { readonly kind: "none"; readonly why: string };

export type StandbyState =
  | { readonly kind: "none" }
  | { readonly kind: "raising"; readonly checkpoint: string }
  | { readonly kind: "ready"; readonly checkpoint: string }
  | { readonly kind: "resting"; readonly checkpoint: string; readonly untilMs: number };

/** What can be shown of it. `why`: there is none, or why it rests. */
export type StandbyReport = {
  readonly state: StandbyState["kind"];
  readonly checkpoint: string | null;
  readonly pid: number | null;
  readonly why: string | null;
};

export type StandbyInput =
  | { readonly kind: "wish"; readonly wish: Wish; readonly atMs: number }
  | { readonly kind: "raised" }
  | { readonly kind: "failed" | "died"; readonly atMs: number }
  /** The guest is to come back from this checkpoint, now. */
  | { readonly kind: "take"; readonly checkpoint: string };

export type StandbyEffect =
  | { readonly kind: "raise"; readonly checkpoint: string }
  | { readonly kind: "end"; readonly why: string }
  | { readonly kind: "give" };

type StandbyStep = Step<StandbyState, StandbyEffect>;

export const restMs = 60_000;
export const noStandby: StandbyState = { kind: "none" };

export function stepStandby(state: StandbyState, input: StandbyInput): StandbyStep {
  switch (input.kind) {
    case "wish":
      return wished(state, input.wish, input.atMs);
    case "raised":
      return state.kind === "raising" ? next({ kind: "ready", checkpoint: state.checkpoint }) : next(state);
    case "failed":
    case "died": {
      if (state.kind !== "raising" && state.kind !== "ready") return next(state);
      const resting: StandbyState = {
        kind: "resting",
        checkpoint: state.checkpoint,
        untilMs: input.atMs + restMs,
      };
      return next(resting, { kind: "end", why: input.kind === "died" ? "it died" : "it could not be raised" });
    }
    case "take":
      return take(state, input.checkpoint);
  }
}

function wished(state: StandbyState, wish: Wish, atMs: number): StandbyStep {
  if (wish.kind === "keep") return next(state);
  const there = state.kind === "raising" || state.kind === "ready";
  if (wish.kind === "none") return there ? next(noStandby, { kind: "end", why: wish.why }) : next(state);
  const { checkpoint } = wish;
  if (state.kind !== "none" && state.checkpoint === checkpoint) {
    if (there || (state.kind === "resting" && atMs < state.untilMs)) return next(state);
  }
  const ended: StandbyEffect[] = there ? [{ kind: "end", why: "another checkpoint is the last good one" }] : [];
  return next({ kind: "raising", checkpoint }, ...ended, { kind: "raise", checkpoint });
}

function take(state: StandbyState, checkpoint: string): StandbyStep {
  if (state.kind === "ready" && state.checkpoint === checkpoint) return next(noStandby, { kind: "give" });
  if (state.kind !== "raising" && state.kind !== "ready") return next(state);
  const why = state.kind === "ready" ? "it stands by for another checkpoint" : "it is not ready yet";
  return next(noStandby, { kind: "end", why });
}
