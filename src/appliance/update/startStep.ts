// SPDX-License-Identifier: Apache-2.0
/**
 * What a start of the supervisor means for an update: the one place where the book, the boot loader's environment and the slot
 * that runs are held against each other. Pure. Gets them; gives the book and what is to be done.
 *
 * A power cut may have come between any two acts, so each case asks what is so, not what was done last. A start without a
 * start of the box (the supervisor was restarted) comes through here too and must change nothing.
 */
import { triesMax } from "./slotEnvironment.ts";
import type { UpdateBook, UpdatePhase } from "./updateBook.ts";
import { backNews, fail, leave, rolledBack } from "./updateFailure.ts";
import { next, type StartFacts, settled, tell, type UpdateScene, type UpdateStep } from "./updateStep.ts";

/** An environment may be lost this often within one update. */
const rearmsMax = 1;
/** Starts of a trial that all ended in order: then it is too restless to be proven. */
const startsMax = 8;

export function stepStart(book: UpdateBook, facts: StartFacts, scene: UpdateScene): UpdateStep {
  const { phase } = book;
  switch (phase.kind) {
    case "idle":
      return settle(book, facts, scene);
    case "good":
      return phase.slot === scene.slot ? settle(book, facts, scene) : startAwayFromGood(book, phase, facts, scene);
    case "installing":
      return startWhileInstalling(book, phase, facts, scene);
    case "installed":
    case "trial":
      return phase.target === scene.slot
        ? startOfTarget(book, phase, facts, scene)
        : startOfOther(book, phase, facts, scene);
    case "failed":
      return startAfterFailure(book, phase, facts, scene);
  }
}

/** Nothing is pending: what runs is what shall run, and has all its tries again. */
function settle(book: UpdateBook, { version }: StartFacts, { slot }: UpdateScene): UpdateStep {
  return next({ ...book, proven: { ...book.proven, [slot]: version } }, [{ kind: "markGood", slot }]);
}

/** A version had proven itself, and the other slot runs: the boot loader forgot, or could not start it any more. */
function startAwayFromGood(
  book: UpdateBook,
  { version, slot }: Extract<UpdatePhase, { kind: "good" }>,
  facts: StartFacts,
  scene: UpdateScene,
): UpdateStep {
  const proven = { ...book.proven, [scene.slot]: facts.version };
  // Somebody put this one first: so be it.
  if (!facts.environmentLost && scene.environment.order[0] !== slot) {
    return next({ ...book, proven, phase: { kind: "idle" } }, [{ kind: "markGood", slot: scene.slot }]);
  }
  if (facts.environmentLost) {
    const effects = [{ kind: "activate", slot }, tell("update.rearmed", { version, slot, severity: 2 })] as const;
    return next({ ...book, proven }, effects);
  }
  const reason = `slot ${slot} could not be started any more; ${facts.bootWhy}`;
  const lastRollback = { version, reason, atMs: scene.nowMs };
  return next({ ...book, proven, phase: { kind: "idle" }, lastRollback }, [
    { kind: "giveUp", slot },
    { kind: "markGood", slot: scene.slot },
    backNews({ version, stage: "start", reason }),
  ]);
}

type Pending = Extract<UpdatePhase, { kind: "installed" | "trial" }>;

/** The tool puts the target first as its last act: if it is, the update was written whole. */
function startWhileInstalling(
  book: UpdateBook,
  phase: Extract<UpdatePhase, { kind: "installing" }>,
  facts: StartFacts,
  scene: UpdateScene,
): UpdateStep {
  const { slot, environment } = scene;
  const isWhole = environment.order[0] === phase.target && environment.ok[phase.target];
  if (!isWhole && slot !== phase.target) {
    const step = fail(book, "install", "it was interrupted before it was written whole", scene);
    return step.kind === "refused" ? step : { ...step, effects: [...step.effects, { kind: "markGood", slot }] };
  }
  return stepStart({ ...book, phase: { ...phase, kind: "installed", rearmed: 0 } }, facts, scene);
}

function startOfTarget(
  book: UpdateBook,
  phase: Pending,
  { version, boot }: StartFacts,
  scene: UpdateScene,
): UpdateStep {
  // The supervisor was started again, not the box: the trial goes on.
  if (phase.kind === "trial" && phase.boot === boot) return next(book, []);
  const starts = phase.kind === "trial" ? phase.starts + 1 : 1;
  const trial: UpdateBook = { ...book, phase: { ...phase, kind: "trial", starts, boot } };
  if (version !== phase.version) {
    return fail(trial, "start", `slot ${phase.target} holds version ${version}, not ${phase.version}`, scene);
  }
  if (starts > startsMax) return fail(trial, "trial", `it was started ${starts} times and never proved itself`, scene);
  return next(trial, [tell("update.trial", { version, slot: phase.target, start: starts, severity: 1 })]);
}

function startOfOther(book: UpdateBook, phase: Pending, facts: StartFacts, scene: UpdateScene): UpdateStep {
  const { environment, slot } = scene;
  const { target } = phase;
  const tries = environment.tries[target];
  if (facts.environmentLost) {
    if (phase.rearmed >= rearmsMax) {
      return fail(book, "start", "the boot loader's environment was lost again and again", scene);
    }
    const rearmed: UpdateBook = { ...book, phase: { ...phase, kind: "installed", rearmed: phase.rearmed + 1 } };
    return next(rearmed, [
      { kind: "activate", slot: target },
      tell("update.rearmed", { version: phase.version, severity: 2 }),
    ]);
  }
  if (!environment.ok[target] || tries >= triesMax) {
    const how = facts.silence ?? `slot ${target} was started ${tries} times and Holdfast never came up in it`;
    return fail(book, "start", `${how}; ${facts.bootWhy}`, scene);
  }
  if (environment.order[0] !== target) return fail(book, "operator", `slot ${slot} was chosen instead`, scene);
  // It has not been tried yet, or somebody started this slot by hand: the next start tries it.
  return next(book, []);
}

function startAfterFailure(
  book: UpdateBook,
  phase: Extract<UpdatePhase, { kind: "failed" }>,
  facts: StartFacts,
  scene: UpdateScene,
): UpdateStep {
  const { place, stage, target, version } = phase;
  const isHome = scene.slot !== target;
  if (!isHome && stage === "install" && facts.version === version) {
    // Withdrawn or half written, and it runs all the same: the tool came to its end without us. It is tried like any other.
    const before = { workloads: [], brokerSeen: false };
    const late = { kind: "installed", version, target, job: null, sinceMs: scene.nowMs, before, rearmed: 0 } as const;
    return startOfTarget(book, late, facts, scene);
  }
  if (!isHome && place !== "kept") return leave(book, [], scene);
  if (!isHome || place === "home") return settle(book, facts, scene);
  const home = { ...book, ...rolledBack(phase, scene.nowMs), proven: { ...book.proven, [scene.slot]: facts.version } };
  return next(home, [
    // The cut may have come before the boot loader was told.
    { kind: "giveUp", slot: target },
    { kind: "markGood", slot: scene.slot },
    backNews(phase),
    ...settled(phase.job, `${stage}: ${phase.reason}`),
  ]);
}
