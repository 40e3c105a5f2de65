// SPDX-License-Identifier: Apache-2.0
/**
 * A fault in words: the stack with the abandoned part marked, registers, what was done and why, and how it ended.
 * Gets what the journal holds; gives lines of text for a terminal. Pure.
 */

import { callingConvention } from "#binary/callingConvention.ts";
import { hex } from "#bytes.ts";
import { StorageError } from "#errors.ts";
import type { Decision, Edit, FaultReport, Frame, Outcome, Plan, RescuePoint } from "#fault.ts";
import type { FaultRecord } from "#storage/journalReader.ts";

const registersPerLine = 3;
const framesMax = 64;

export type RecordedFault = {
  readonly report: FaultReport;
  readonly plan: Plan;
  readonly decision: Decision;
  readonly outcomes: readonly Outcome[];
};

/** What the journal holds of one fault. @throws StorageError "storage.notFound" where only its short form is left */
export function recordedFault(record: FaultRecord): RecordedFault {
  const { report, plan } = record;
  const decision = record.trials[0]?.decision;
  if (report == null || plan == null || decision === undefined) {
    throw new StorageError(
      "storage.notFound",
      `of fault ${record.id} only the short form is on record: the supervisor ended before it wrote the rest`,
    );
  }
  const outcomes = record.trials.map((trial) => trial.outcome).filter((outcome) => outcome !== null);
  return { report, plan, decision, outcomes };
}

export function transcript(recorded: RecordedFault): string[] {
  const { report, decision, outcomes } = recorded;
  return [
    ...headLines(report),
    "",
    "Stack (innermost first; | = abandoned, * = spine):",
    ...stackLines(report, decision.edit.kind === "abandon" ? decision.edit.point : null),
    "",
    "Registers:",
    ...registerLines(report),
    "",
    `Action:   ${describeEdit(report, decision.edit)}`,
    `Why:      ${decision.reason}`,
    ...outcomeLines(outcomes),
  ];
}

/** The candidates in their order, the chosen one marked. */
export function planLines(report: FaultReport, proposal: Plan, decision: Decision): string[] {
  if (proposal.kind === "deliver") return [`Plan: deliver the signal (${proposal.reason})`];
  const chosen = JSON.stringify(decision.edit, (_, value) => (typeof value === "bigint" ? hex(value) : value));
  const lines = proposal.edits.map((edit, index) => {
    const same = JSON.stringify(edit, (_, value) => (typeof value === "bigint" ? hex(value) : value)) === chosen;
    return `${same ? "->" : "  "} ${String(index + 1).padStart(2)}. ${describeEdit(report, edit)}`;
  });
  return ["Plan:", ...lines, ...proposal.notes.map((note) => `   note: ${note}`)];
}

export function describeEdit(report: FaultReport, edit: Edit): string {
  switch (edit.kind) {
    case "abandon": {
      const { frame, returnValue } = edit.point;
      const name = nameOf(report, report.frames[frame]!);
      return `${edit.rung}: return ${returnValue} from ${name} (frame ${frame}) to ${nameOf(report, report.frames[frame + 1]!)}`;
    }
    case "neutralise":
      return edit.skip.kind === "drop"
        ? "neutralise: the store is dropped"
        : "neutralise: the instruction is completed as if it had read zero";
    case "park":
      return "park: the thread is given up, with all signals blocked";
    case "leave":
      return "leave: the process of this one connection ends by exit(1)";
    case "mend":
      return "mend: the thread's damaged restartable-sequence pointer is cleared, the instruction runs again";
    case "deliver":
      return `deliver the signal to the program (${edit.reason})`;
  }
}

/** `symbol` or `file+0xoffset`. */
export function nameOf(report: FaultReport, frame: Frame): string {
  if (frame.symbol !== null) return frame.symbol;
  const module = frame.module === null ? undefined : report.modules[frame.module];
  return module === undefined ? hex(frame.pc) : `${fileName(module.path)}+${hex(frame.offset)}`;
}

function headLines(report: FaultReport): string[] {
  const { cause } = report;
  const at = cause?.faultAddress == null ? "" : ` at address ${hex(cause.faultAddress)}`;
  return [
    `Fault:    ${report.id}`,
    `Program:  ${report.workload} (process ${report.pid}, thread ${report.tid} ${JSON.stringify(report.threadName)}, ${report.architecture})`,
    `Time:     ${new Date(report.atMs).toISOString()}`,
    `Signal:   ${report.signal}${at}${cause === null ? "" : ` (code ${cause.code}${cause.senderPid === null ? "" : `, from process ${cause.senderPid}`})`}`,
    `Site:     ${report.site.fault}`,
    `Boundary: ${report.site.boundary === "" ? "none" : report.site.boundary}`,
  ];
}

function stackLines(report: FaultReport, point: RescuePoint | null): string[] {
  const lines = report.frames.slice(0, framesMax).map((frame, index) => {
    const abandoned = point !== null && index <= point.frame;
    const spine = report.spine !== null && index >= report.spine;
    const module = frame.module === null ? null : report.modules[frame.module];
    const place = frame.symbol === null || module == null ? "" : `  ${fileName(module.path)}+${hex(frame.offset)}`;
    const entered = frame.enteredBy === "none" ? "" : `  [${frame.enteredBy}, ${frame.afterCall}]`;
    return `${abandoned ? "|" : spine ? "*" : " "} #${String(index).padEnd(3)} ${nameOf(report, frame)}${place}${entered}`;
  });
  const left = report.frames.length - framesMax;
  if (left > 0) lines.push(`  … ${left} more frames`);
  if (!report.complete) lines.push("  … the stack could not be unwound further");
  return lines;
}

function registerLines(report: FaultReport): string[] {
  const { names } = callingConvention[report.architecture];
  const words = names.map((name, index) => `${name.padStart(4)} ${format64(report.registers[index] ?? null)}`);
  const lines: string[] = [];
  for (let index = 0; index < words.length; index += registersPerLine) {
    lines.push(`  ${words.slice(index, index + registersPerLine).join("  ")}`);
  }
  return lines;
}

function outcomeLines(outcomes: readonly Outcome[]): string[] {
  if (outcomes.length === 0)
    return ["Verdict:  none: still on probation, the signal was delivered, or the supervisor ended first"];
  return outcomes.flatMap((outcome) => [
    `Verdict:  ${outcome.verdict} (${outcome.rung}, trial ${outcome.trial})`,
    `Evidence: ${outcome.evidence.join("; ")}`,
    `Times:    thread stopped ${outcome.stopUs} µs, probation ${outcome.probationMs} ms`,
    `Session:  ${outcome.session === null ? "not known" : `fd ${outcome.session.fd}, ${outcome.session.peer}, confidence ${outcome.session.confidence}`}`,
  ]);
}

const format64 = (value: bigint | null): string =>
  value === null ? "?".padEnd(18) : `0x${value.toString(16).padStart(16, "0")}`;
const fileName = (path: string): string => path.slice(path.lastIndexOf("/") + 1);
