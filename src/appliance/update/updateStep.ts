// SPDX-License-Identifier: Apache-2.0
/**
 * The words of the update machine: what happens to it, what it wants done, and a step of it. Types, and how a step is made.
 */
import type { Slot, SlotBook } from "./slotEnvironment.ts";
import type { Before, UpdateBook, UpdateLock } from "./updateBook.ts";

export type UpdateInput =
  | { readonly kind: "ask"; readonly version: string; readonly before: Before; readonly job: string | null }
  /** The tool has written it and put it first. */
  | { readonly kind: "written" }
  | { readonly kind: "notWritten"; readonly why: string }
  /** The box is about to be restarted for it: this is what the new version must do as well. */
  | { readonly kind: "leaving"; readonly before: Before }
  /** The supervisor has begun, after a start of the box or without one. */
  | ({ readonly kind: "started" } & StartFacts)
  | { readonly kind: "passed" }
  | { readonly kind: "refused"; readonly check: string; readonly why: string }
  /** The supervisor ends in order: a clean restart of the box is no failed try. */
  | { readonly kind: "ending" }
  | { readonly kind: "back"; readonly by: string }
  | { readonly kind: "mark"; readonly good: boolean }
  | { readonly kind: "clear"; readonly version: string | null }
  | { readonly kind: "lock"; readonly lock: UpdateLock | null };

export type StartFacts = {
  /** The version that runs. */
  readonly version: string;
  /** The kernel's id of this start of the box. */
  readonly boot: string;
  /** The boot loader's environment was lost and has been made anew. */
  readonly environmentLost: boolean;
  /** Why the box was started, in words. */
  readonly bootWhy: string;
  /** What the watch over a silent trial has left; null where nothing. */
  readonly silence: string | null;
};

export type UpdateEffect =
  | { readonly kind: "activate"; readonly slot: Slot }
  | { readonly kind: "markGood"; readonly slot: Slot }
  /** Not to be started any more; the other one is. */
  | { readonly kind: "giveUp"; readonly slot: Slot }
  | { readonly kind: "reboot" }
  | { readonly kind: "tell"; readonly event: UpdateEvent; readonly facts: Readonly<Record<string, string | number>> }
  | { readonly kind: "settle"; readonly job: string; readonly why: string | null };
export type UpdateEvent =
  | "update.installing"
  | "update.installed"
  | "update.trial"
  | "update.good"
  | "update.failed"
  | "update.rolledBack"
  | "update.rearmed"
  | "update.kept"
  | "update.cleared"
  | "update.locked"
  | "update.unlocked";

export type UpdateScene = {
  /** The slot that runs. */
  readonly slot: Slot;
  readonly environment: SlotBook;
  readonly nowMs: number;
};
export type UpdateStep =
  | { readonly kind: "next"; readonly book: UpdateBook; readonly effects: readonly UpdateEffect[] }
  | { readonly kind: "refused"; readonly why: string };

export const next = (book: UpdateBook, effects: readonly UpdateEffect[]): UpdateStep => ({
  kind: "next",
  book,
  effects,
});
export const settled = (job: string | null, why: string | null): UpdateEffect[] =>
  job === null ? [] : [{ kind: "settle", job, why }];
export const tell = (event: UpdateEvent, facts: Readonly<Record<string, string | number>>): UpdateEffect => ({
  kind: "tell",
  event,
  facts,
});
export const refused = (why: string): UpdateStep => ({ kind: "refused", why });
