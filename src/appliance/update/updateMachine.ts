// SPDX-License-Identifier: Apache-2.0
/**
 * An update from asking for it to its end, as a pure machine. Gets the book and what has happened; gives the book as it is to
 * be kept, and what is to be done, in this order, once the book is on the disk.
 *
 *     idle, good, failed ─ask▶ installing ─written▶ installed ─start of the target▶ trial ─gate passed▶ good
 *                                  └─▶ failed          └─ never came up ─▶ failed ◀─ gate failed ─┘
 *
 * A power cut may fall between the book and each act: whatever start finds (see startStep.ts) is brought to the same end.
 * A failed version is refused until somebody clears it. A slot is given up only for one that the boot loader may start.
 */
import { otherSlot } from "./slotEnvironment.ts";
import { stepStart } from "./startStep.ts";
import type { Before, UpdateBook, UpdateLock, UpdatePhase } from "./updateBook.ts";
import { fail, withoutVersion } from "./updateFailure.ts";
import {
  next,
  refused,
  settled,
  tell,
  type UpdateEffect,
  type UpdateInput,
  type UpdateScene,
  type UpdateStep,
} from "./updateStep.ts";

export function stepUpdate(book: UpdateBook, input: UpdateInput, scene: UpdateScene): UpdateStep {
  const { phase } = book;
  switch (input.kind) {
    case "started":
      return stepStart(book, input, scene);
    case "ask":
      return stepAsk(book, input, scene);
    case "written":
      if (phase.kind !== "installing") return refused("nothing is being installed");
      return next({ ...book, phase: { ...phase, kind: "installed", rearmed: 0 } }, [
        tell("update.installed", { version: phase.version, slot: phase.target, severity: 1 }),
      ]);
    case "notWritten":
      if (phase.kind !== "installing") return refused("nothing is being installed");
      return fail(book, "install", input.why, scene);
    case "leaving":
      if (phase.kind !== "installed") return refused("no update waits for a restart");
      return next({ ...book, phase: { ...phase, before: input.before } }, [{ kind: "reboot" }]);
    case "passed":
      return phase.kind === "trial" ? stepPassed(book, phase, scene) : refused("no trial is on");
    case "refused":
      if (phase.kind !== "trial") return refused("no trial is on");
      return fail(book, "trial", `${input.check}: ${input.why}`, scene);
    case "ending":
      if (phase.kind !== "trial") return next(book, []);
      return next(book, [{ kind: "markGood", slot: phase.target }]);
    case "back":
      return stepBack(book, input.by, scene);
    case "mark":
      return stepMark(book, input.good, scene);
    case "clear":
      return stepClear(book, input.version);
    case "lock":
      return next({ ...book, lock: input.lock }, [lockNews(input.lock)]);
  }
}

function stepAsk(
  book: UpdateBook,
  input: Extract<UpdateInput, { kind: "ask" }>,
  { slot, nowMs }: UpdateScene,
): UpdateStep {
  const { version, before, job } = input;
  const { kind } = book.phase;
  if (kind === "installing") return refused(`version ${book.phase.version} is being installed`);
  if (kind === "trial") return refused(`version ${book.phase.version} is on trial; wait for its end, or go back`);
  const known = book.refused.find((each) => each.version === version);
  if (known !== undefined) {
    return refused(
      `version ${version} failed here (${known.reason}); holdfast update clear ${version} lets it try again`,
    );
  }
  const phase = { kind: "installing", version, target: otherSlot(slot), sinceMs: nowMs, before, job } as const;
  const settle =
    book.phase.kind === "installed" ? settled(book.phase.job, `version ${version} was installed instead`) : [];
  return next({ ...book, phase, proven: { ...book.proven, [phase.target]: null } }, [
    tell("update.installing", { version, slot: phase.target, severity: 1 }),
    ...settle,
  ]);
}

function stepPassed(
  book: UpdateBook,
  phase: Extract<UpdatePhase, { kind: "trial" }>,
  { nowMs }: UpdateScene,
): UpdateStep {
  const { version, target: slot, job } = phase;
  const proven = { ...book.proven, [slot]: version };
  return next({ ...book, proven, phase: { kind: "good", version, slot, atMs: nowMs } }, [
    { kind: "markGood", slot },
    tell("update.good", { version, slot, severity: 1 }),
    ...settled(job, null),
  ]);
}

function stepBack(book: UpdateBook, by: string, scene: UpdateScene): UpdateStep {
  const { phase } = book;
  const { slot, environment } = scene;
  if (phase.kind === "installing") return refused(`version ${phase.version} is being installed`);
  if (phase.kind === "installed") {
    // It has not run yet: the slot that runs stays first.
    const reason = `withdrawn by ${by}`;
    const { version, target, job } = phase;
    const end = { stage: "install", reason, atMs: scene.nowMs, job, returns: 0, place: "home" } as const;
    return next({ ...book, phase: { kind: "failed", version, target, ...end } }, [
      { kind: "giveUp", slot: target },
      tell("update.failed", { version, stage: "install", reason, severity: 1 }),
      ...settled(job, reason),
    ]);
  }
  const other = otherSlot(slot);
  if (!environment.ok[other] || book.proven[other] === null)
    return refused(`slot ${other} holds no version that has proven itself`);
  const version = phase.kind === "trial" || phase.kind === "good" ? phase.version : book.proven[slot];
  if (version === null) return refused("it is not known which version runs here");
  const job = phase.kind === "trial" ? phase.job : null;
  const running = {
    kind: "trial",
    version,
    target: slot,
    sinceMs: scene.nowMs,
    before: nothingBefore,
    job,
    ...fresh,
  } as const;
  return fail({ ...book, phase: running }, "operator", `sent back by ${by}`, scene);
}

const nothingBefore: Before = { workloads: [], brokerSeen: false };
const fresh = { starts: 0, rearmed: 0, boot: "" };

function stepMark(book: UpdateBook, good: boolean, scene: UpdateScene): UpdateStep {
  const { phase } = book;
  if (good && phase.kind === "trial") return stepPassed(book, phase, scene);
  if (good) return next(book, [{ kind: "markGood", slot: scene.slot }]);
  if (phase.kind === "trial") return fail(book, "operator", "marked bad by an operator", scene);
  return refused("no trial is on; holdfast update rollback leaves a version that runs");
}

function stepClear(book: UpdateBook, version: string | null): UpdateStep {
  const cleared = book.refused.filter((each) => version === null || each.version === version);
  if (cleared.length === 0) {
    return refused(version === null ? "no version is refused" : `version ${version} is not refused`);
  }
  const kept = version === null ? [] : withoutVersion(book, version);
  const news = cleared.map((each) => tell("update.cleared", { version: each.version, severity: 1 }));
  return next({ ...book, refused: kept }, news);
}

const lockNews = (lock: UpdateLock | null): UpdateEffect =>
  lock === null
    ? tell("update.unlocked", { severity: 1 })
    : tell("update.locked", { why: lock.why, by: lock.by, severity: 1 });
