// SPDX-License-Identifier: Apache-2.0
/**
 * What could be done for a stopped thread, best first. Gets a report, the trials at its site and a policy; gives a Plan.
 *
 * Pure: the same report, history and policy give the same plan, here and in a replay. The order is that of the ladder:
 * a learned edit, interface frames from the innermost outwards, the outermost frame above the spine, inward frames,
 * the completion of the one instruction, and last the parking of the thread. A process of one connection leaves before all that. A frame whose caller uses the value without
 * a look at it goes behind those whose caller tests it or ignores it: a made-up hash or length is a wrong answer.
 * Figures behind the order: ARCHITECTURE.md, decision 8.
 */
import { isAllocatorEntry } from "#binary/allocatorEntries.ts";
import type { Edit, FaultReport, Frame, PastTrial, Plan, RescuePoint } from "#fault.ts";
import { whyDeliver } from "./signalRules.ts";
import { canAbandon, faultingFrame, interfaceFrame, isWhole, placeOf, workFrames } from "./site.ts";

/** Acts within one window: at one site, and in the whole program. Beyond them the signal is delivered. */
export type ActLimits = { readonly siteActsMax: number; readonly programActsMax: number; readonly windowMs: number };

/** Rungs that may be used for this workload; configuration. */
export type Policy = {
  readonly rungs: ReadonlySet<"abandon" | "quarantine" | "inward" | "neutralise" | "park">;
  /** Edits proposed for one fault at most. */
  readonly editsMax: number;
  /** Neutralised instructions within one budget window at most. */
  readonly neutralisedMax: number;
  /** Different sites on one thread, each within probation of the one before, until we stop trying. */
  readonly consequencesMax: number;
  readonly budget: ActLimits;
};

export const defaultPolicy: Policy = {
  rungs: new Set(["abandon", "quarantine", "inward", "neutralise", "park"]),
  editsMax: 24,
  neutralisedMax: 8,
  consequencesMax: 3,
  // More would be a loop that leaves no processor to anybody: an act takes some 2 to 4 ms.
  budget: { siteActsMax: 15_000, programActsMax: 20_000, windowMs: 60_000 },
};

/** Values returned from an abandoned frame: the usual error of C, and "nothing". */
const [usualError, nothing] = [-1n, 0n];

export function plan(report: FaultReport, trials: readonly PastTrial[], policy: Policy): Plan {
  const reason = whyDeliver(report);
  if (reason !== null) return { kind: "deliver", reason, notes: [] };
  if (policy.rungs.size === 0) return { kind: "deliver", reason: "disabled", notes: [] };
  const abandoning = distinct([
    ...usedLast(report, [...interfaceEdits(report, policy), ...outermostEdits(report, policy)]),
    ...inwardEdits(report, policy),
  ]);
  const ladder = [...wholeFirst(report, abandoning), ...neutraliseEdits(report, policy)];
  const chosen = learnedFirst(report, ladder, trials).slice(0, policy.editsMax);
  const park = parkEdits(report, policy);
  // A mend goes before everything: whatever worked here before was for a fault of another kind. A spine frame that
  // faults has nothing to be abandoned but a turn of its loop: else its thread is given up before a value is made up.
  const turn = abandoning.length === 0 ? turnEdits(report, policy) : [];
  const edits = [
    ...mendEdits(report, policy),
    ...leaveEdits(report, policy),
    ...turn,
    ...(report.spine === 0 ? [...park, ...chosen] : [...chosen, ...park]),
  ];
  if (edits.length === 0) return { kind: "deliver", reason: "exhausted", notes: ["no frame can be abandoned"] };
  return { kind: "edits", edits, notes: notesOn(report) };
}

/** The edit in a form that outlives this process: see Decision.key. */
export function keyOf(report: FaultReport, edit: Edit): string {
  switch (edit.kind) {
    case "abandon":
      return `${edit.rung} ${placeOf(report.frames[edit.point.frame + 1]!, report.modules)}=${edit.point.returnValue}`;
    case "mend":
    case "park":
    case "leave":
      return edit.kind;
    case "neutralise":
      return `neutralise ${placeOf(report.frames[0]!, report.modules)}`;
    case "deliver":
      return `deliver ${edit.reason}`;
  }
}

/** The instruction did nothing wrong, so nothing is abandoned. */
function mendEdits({ damagedSequence }: FaultReport, policy: Policy): Edit[] {
  return damagedSequence !== null && policy.rungs.has("neutralise") ? [{ kind: "mend", at: damagedSequence }] : [];
}

function interfaceEdits(report: FaultReport, policy: Policy): Edit[] {
  if (!policy.rungs.has("abandon")) return [];
  const { frames, signal } = report;
  const boundary = abandonLimit(report);
  const edits: Edit[] = [];
  let from = faultingFrame(frames, report.spine, signal);
  for (;;) {
    const index = interfaceFrame(frames, boundary, from);
    if (index < 0) return edits;
    edits.push(...returning("abandon", frames, index));
    from = index + 1;
  }
}

/** The outermost frame above the spine, where the spine is known: the whole of the request, whatever its shape. */
function outermostEdits(report: FaultReport, policy: Policy): Edit[] {
  if (!policy.rungs.has("abandon") || report.spine === null) return [];
  const innermost = faultingFrame(report.frames, report.spine, report.signal);
  for (let index = report.spine - 1; index >= innermost; index -= 1) {
    if (canAbandon(report.frames, index)) return returning("abandon", report.frames, index);
  }
  return [];
}

/** A spine frame that its caller calls in a loop is called again: only this turn of the loop is lost. */
function turnEdits({ frames, spine, signal }: FaultReport, policy: Policy): Edit[] {
  if (!policy.rungs.has("abandon") || spine === null || signal === "SIGSTOP") return [];
  const index = frames.findIndex((frame, at) => at >= spine && frame.inLoop === true && canAbandon(frames, at));
  return index < 0 ? [] : returning("abandon", frames, index);
}

/** Stable. What is left behind is still better than to complete an instruction, or to go inward into the unknown. */
function usedLast({ frames }: FaultReport, edits: readonly Edit[]): Edit[] {
  const isUsed = (edit: Edit): boolean => edit.kind === "abandon" && frames[edit.point.frame]!.afterCall === "used";
  return [...edits.filter((edit) => !isUsed(edit)), ...edits.filter(isUsed)];
}

/** Code that goes on with registers of somebody else does harm: it is returned to where there is no better place. */
function wholeFirst({ frames, architecture }: FaultReport, edits: readonly Edit[]): Edit[] {
  const isSound = (edit: Edit): boolean => edit.kind === "abandon" && isWhole(frames, edit.point.frame, architecture);
  return [...edits.filter(isSound), ...edits.filter((edit) => !isSound(edit))];
}

/** Only the function that failed, then its caller, and so on outwards: for state that makes every request fail. */
function inwardEdits(report: FaultReport, policy: Policy): Edit[] {
  if (!policy.rungs.has("inward") || report.inAllocator) return [];
  const edits: Edit[] = [];
  const limit = abandonLimit(report);
  for (let index = faultingFrame(report.frames, report.spine, report.signal); index < limit; index += 1) {
    if (!canAbandon(report.frames, index) || report.frames[index]!.afterCall === "used") continue;
    edits.push(...returning("inward", report.frames, index));
  }
  return testedFirst(report, edits);
}

/** Where the caller looks at the value first, it has code for a failure: the frame to give up, whatever the rung. */
export const isTested = ({ frames }: FaultReport, edit: Edit): boolean =>
  edit.kind === "abandon" && frames[edit.point.frame]!.afterCall === "tested";

function testedFirst(report: FaultReport, edits: readonly Edit[]): Edit[] {
  const tested = edits.filter((edit) => isTested(report, edit));
  return [...tested, ...edits.filter((edit) => !tested.includes(edit))];
}

function neutraliseEdits(report: FaultReport, policy: Policy): Edit[] {
  const instruction = report.instruction;
  if (!policy.rungs.has("neutralise") || instruction?.skip == null || report.signal === "SIGABRT") return [];
  return [{ kind: "neutralise", skip: instruction.skip, lengthBytes: instruction.lengthBytes }];
}

/**
 * A process that serves one connection ends in order, as it does with every client: what it holds of the others' it lets go
 * of, and a transaction is rolled back, where an abandoned call might be committed with the value that was made up for it.
 */
function leaveEdits({ leaveAt }: FaultReport, policy: Policy): Edit[] {
  return leaveAt != null && policy.rungs.has("park") ? [{ kind: "leave", at: leaveAt }] : [];
}

/** A thread among others can be given up; the first one of a program cannot, because it would be a zombie. */
function parkEdits(report: FaultReport, policy: Policy): Edit[] {
  const among = report.threads > 1 && report.tid !== report.pid;
  return policy.rungs.has("park") && among ? [{ kind: "park" }] : [];
}

/**
 * First frame index that may not be abandoned. Without a known spine that is the outermost frame entered through a
 * pointer: the thread's own start routine.
 */
function abandonLimit(report: FaultReport): number {
  if (report.spine !== null) return workFrames(report.frames, report.spine);
  return Math.max(
    0,
    report.frames.findLastIndex((frame) => frame.enteredBy === "pointer"),
  );
}

function returning(rung: "abandon" | "inward", frames: readonly Frame[], frame: number): Edit[] {
  return valuesFor(frames[frame]!, rung === "abandon" ? usualError : nothing).map((returnValue) => ({
    ...{ kind: "abandon", rung, point: { frame, returnValue } satisfies RescuePoint },
  }));
}

/** In the order in which they are tried; `usual` where nothing is known. A value that nobody reads is tried once. */
function valuesFor({ symbol, afterCall, failureValue, loopValue }: Frame, usual: bigint): readonly bigint[] {
  // The loop that all live by ends with any other one: a program that leaves it in good order is gone all the same.
  if (loopValue != null) return [loopValue];
  // An allocator that fails says so by a null pointer, and by nothing else.
  if (isAllocatorEntry(symbol)) return [nothing];
  if (afterCall === "ignored") return [usualError];
  const first = afterCall === "used" ? nothing : (failureValue ?? usual);
  return [first, first === nothing ? usualError : nothing];
}

/** Drops later edits that do the same as an earlier one under another rung's name. */
function distinct(edits: readonly Edit[]): Edit[] {
  const seen = new Set<string>();
  return edits.filter((edit) => {
    if (edit.kind !== "abandon") return true;
    const act = `${edit.point.frame} ${edit.point.returnValue}`;
    if (seen.has(act)) return false;
    seen.add(act);
    return true;
  });
}

/** What was proven at this site goes first: clean here, then what another box has learned, then degraded here; newest first. */
function learnedFirst(report: FaultReport, edits: readonly Edit[], trials: readonly PastTrial[]): readonly Edit[] {
  const proofRank = ({ verdict, learnedBy }: PastTrial): number =>
    learnedBy !== undefined ? 1 : verdict === "clean" ? 0 : 2;
  const proven = trials
    .filter(
      (past) => past.site.fault === report.site.fault && (past.verdict === "clean" || past.verdict === "degraded"),
    )
    .sort((a, b) => proofRank(a) - proofRank(b) || b.atMs - a.atMs)
    .map((past) => past.key);
  if (proven.length === 0) return edits;
  const rank = (edit: Edit): number => {
    const index = proven.indexOf(keyOf(report, edit));
    return index < 0 ? proven.length : index;
  };
  return edits
    .map((edit, order) => ({ edit, order, rank: rank(edit) }))
    .sort((a, b) => a.rank - b.rank || a.order - b.order)
    .map(({ edit }) => edit);
}

function notesOn(report: FaultReport): string[] {
  const notes: string[] = [];
  if (report.spine === null) notes.push("the spine of this thread is not known");
  if (!report.complete) notes.push("the stack could not be unwound to its end");
  if (report.inAllocator) notes.push("inside the memory allocator: degraded at best");
  if (report.stackExhausted) notes.push("the stack is exhausted");
  return notes;
}
