// SPDX-License-Identifier: Apache-2.0
/**
 * What is on record of updates: how far the present one is, which versions have proven themselves or are refused, and what
 * holds updates back. Plain data, and its reader: what is damaged reads as an empty book, which gates nothing and refuses
 * nothing, so that a box whose record is lost still boots and stays.
 *
 * Limits: `refusedMax` versions, texts of `textMax` characters.
 */
import * as v from "valibot";
import { slots } from "./slotEnvironment.ts";

export const refusedMax = 16;
const textMax = 400;

const text = v.pipe(v.string(), v.maxLength(textMax));
const version = v.pipe(v.string(), v.regex(/^[0-9A-Za-z][0-9A-Za-z.+~_-]{0,63}$/));
const slot = v.picklist(slots);
const atMs = v.pipe(v.number(), v.safeInteger());
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
/** The job of the fleet that asked for it, to be ended when it is over; null where nobody did. */
const job = v.nullable(text);

/** What was true before: the new version must do as well. */
const beforeSchema = v.object({
  /** Workloads that were up. */
  workloads: v.array(text),
  /** The broker was heard within the hour. */
  brokerSeen: v.boolean(),
});

/** Where a version failed: while it was written, before it told anything, at the gate, or in an operator's eyes. */
export const failureStages = ["install", "start", "trial", "operator"] as const;
export type FailureStage = (typeof failureStages)[number];

const pending = { version, target: slot, sinceMs: atMs, before: beforeSchema, job };
const phaseSchema = v.variant("kind", [
  v.object({ kind: v.literal("idle") }),
  v.object({ kind: v.literal("installing"), ...pending }),
  /** Written, and first in order: the next start tries it. `rearmed` counts lost environments. */
  v.object({ kind: v.literal("installed"), ...pending, rearmed: count }),
  /** `starts` of the box so far; `boot` is the newest. */
  v.object({ kind: v.literal("trial"), ...pending, starts: count, rearmed: count, boot: text }),
  v.object({ kind: v.literal("good"), version, slot, atMs }),
  v.object({
    kind: v.literal("failed"),
    ...{ version, target: slot, stage: v.picklist(failureStages), reason: text, atMs, job },
    /** Starts of the box by which we tried to leave it, since the other slot last ran. */
    returns: count,
    /** `home`: the other slot runs, and has told. `kept`: there was nothing better to go to. */
    place: v.picklist(["leaving", "home", "kept"]),
  }),
]);

const bookSchema = v.object({
  format: v.literal(1),
  phase: phaseSchema,
  /** The version that has proven itself in each slot. */
  proven: v.object({ A: v.nullable(version), B: v.nullable(version) }),
  refused: v.pipe(v.array(v.object({ version, reason: text, atMs })), v.maxLength(refusedMax)),
  lastRollback: v.nullable(v.object({ version, reason: text, atMs })),
  /** Updates wait while this stands. */
  lock: v.nullable(v.object({ why: text, by: text, atMs, untilMs: v.nullable(atMs) })),
});

export type Before = v.InferOutput<typeof beforeSchema>;
export type UpdatePhase = v.InferOutput<typeof phaseSchema>;
export type UpdateBook = v.InferOutput<typeof bookSchema>;
export type UpdateLock = NonNullable<UpdateBook["lock"]>;

export const emptyBook: UpdateBook = {
  format: 1,
  phase: { kind: "idle" },
  proven: { A: null, B: null },
  refused: [],
  lastRollback: null,
  lock: null,
};

export const isVersion = (word: string): boolean => v.is(version, word);
export const cutText = (words: string): string => words.replaceAll(/\p{Cc}+/gu, " ").slice(0, textMax);

/** null where it is none of ours, or damaged. */
export function readBook(words: string): UpdateBook | null {
  try {
    const read = v.safeParse(bookSchema, JSON.parse(words));
    return read.success ? read.output : null;
  } catch {
    return null; // No JSON: torn, or not ours.
  }
}

/** Why updates wait; null where nothing holds them back. A lock whose time is over does not count. */
export function lockOf({ lock }: UpdateBook, nowMs: number): UpdateLock | null {
  return lock === null || (lock.untilMs !== null && lock.untilMs <= nowMs) ? null : lock;
}
