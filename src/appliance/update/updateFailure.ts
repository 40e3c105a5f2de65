// SPDX-License-Identifier: Apache-2.0
/**
 * The bad end of an update: on record, refused from now on, and left where it runs. Pure. Gets the book and the reason; gives
 * the step. A slot is left only for one that the boot loader may start, and not over and over.
 */
import { otherSlot } from "./slotEnvironment.ts";
import { cutText, type FailureStage, refusedMax, type UpdateBook, type UpdatePhase } from "./updateBook.ts";
import { next, refused, settled, tell, type UpdateEffect, type UpdateScene, type UpdateStep } from "./updateStep.ts";

/** The update has come to a bad end: on record, refused from now on, and left if it runs. */
export function fail(book: UpdateBook, stage: FailureStage, why: string, scene: UpdateScene): UpdateStep {
  const { phase } = book;
  if (!("target" in phase)) return refused("there is no update to fail");
  const { version, target, job } = phase;
  const { nowMs: atMs, slot } = scene;
  const reason = cutText(why);
  const failed = { kind: "failed", version, target, stage, reason, atMs, job, returns: 0, place: "leaving" } as const;
  const told = tell("update.failed", { version, slot: target, stage, reason, severity: 3 });
  const settle = settled(job, `${stage}: ${reason}`);
  // What failed to be written says nothing of the version; whatever else fails is not to come again by itself.
  const refusedNow = stage === "install" ? book.refused : [...withoutVersion(book, version), { version, reason, atMs }];
  const kept = { ...book, refused: refusedNow.slice(-refusedMax) };
  if (stage === "install") return next({ ...kept, phase: { ...failed, place: "home" } }, [told, ...settle]);
  if (slot === target) return leave({ ...kept, phase: failed }, [told], scene);
  return next({ ...kept, ...rolledBack(failed, atMs) }, [
    { kind: "giveUp", slot: target },
    told,
    backNews(failed),
    ...settle,
  ]);
}

type Failed = Extract<UpdatePhase, { kind: "failed" }>;
/** Beyond this there is nothing better to go to: the box stays where it is. */
const returnsMax = 2;

/** Away from the slot that runs and has failed; where the other may not be started either, we stay and say so. */
export function leave(book: UpdateBook, told: readonly UpdateEffect[], { slot, environment }: UpdateScene): UpdateStep {
  const failed = book.phase as Failed;
  const { version, reason } = failed;
  if (!environment.ok[otherSlot(slot)] || failed.returns >= returnsMax) {
    const news = tell("update.kept", { version, reason, why: "the other slot is no better", severity: 3 });
    const kept: UpdateBook = { ...book, phase: { ...failed, place: "kept" } };
    return next(kept, [{ kind: "markGood", slot }, ...told, news, ...settled(failed.job, reason)]);
  }
  const leaving: UpdateBook = { ...book, phase: { ...failed, place: "leaving", returns: failed.returns + 1 } };
  return next(leaving, [...told, { kind: "giveUp", slot }, { kind: "reboot" }]);
}

/** The other slot runs again: what is told of it. */
export const rolledBack = (phase: Failed, atMs: number): Pick<UpdateBook, "phase" | "lastRollback"> => ({
  phase: { ...phase, place: "home", returns: 0 },
  lastRollback: { version: phase.version, reason: phase.reason, atMs },
});
export const backNews = ({ version, stage, reason }: Pick<Failed, "version" | "stage" | "reason">): UpdateEffect =>
  tell("update.rolledBack", { version, stage, reason, severity: 3 });

export const withoutVersion = ({ refused: list }: UpdateBook, version: string): UpdateBook["refused"] =>
  list.filter((each) => each.version !== version);
