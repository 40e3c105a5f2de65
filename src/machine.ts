// SPDX-License-Identifier: Apache-2.0
/**
 * The shape of every state machine here: a pure `step(state, input)` that returns the next state and effects as values.
 *
 * An input that a state does not expect is not an exception but a `violation`: the caller decides what a peer that
 * broke the rules deserves.
 */

export type Step<State, Effect> =
  | { readonly kind: "next"; readonly state: State; readonly effects: readonly Effect[] }
  | { readonly kind: "violation"; readonly reason: string };

export const next = <State, Effect>(state: State, ...effects: Effect[]): Step<State, Effect> => ({
  kind: "next",
  state,
  effects,
});

export const violation = (reason: string): { readonly kind: "violation"; readonly reason: string } => ({
  kind: "violation",
  reason,
});
