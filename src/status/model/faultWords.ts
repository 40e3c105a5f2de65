// SPDX-License-Identifier: Apache-2.0
/**
 * One recorded fault in words: its acts, its end, the names of its frames and registers. Pure.
 */
import type { Architecture, Edit, FaultReport, Frame } from "#fault.ts";
import type { FaultRecord } from "#storage/journalReader.ts";
import type { FaultEnd } from "./readModel.ts";

/** By DWARF register number, as in FaultReport.registers. */
export const registerNames: Readonly<Record<Architecture, readonly string[]>> = {
  x86_64: "rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip".split(" "),
  aarch64: [...Array.from({ length: 31 }, (_, index) => `x${index}`), "sp", "pc"],
};

/** `symbol` or `file+0xoffset`. */
export function frameName(report: FaultReport | null, frame: Frame | undefined): string {
  if (frame === undefined) return "its caller";
  if (frame.symbol !== null) return frame.symbol;
  const module = frame.module === null ? undefined : report?.modules[frame.module];
  if (module === undefined) return `0x${frame.pc.toString(16)}`;
  return `${module.path.slice(module.path.lastIndexOf("/") + 1)}+0x${frame.offset.toString(16)}`;
}

/** Where it happened: the frame that the site names (for an abort not the raise, but who asked for it), else the innermost. */
export function placeOf({ report, head }: FaultRecord): string {
  if (report === null) return head.symbol ?? "unknown code";
  const atSite = report.frames.find((frame) => {
    const module = frame.module === null ? undefined : report.modules[frame.module];
    return module !== undefined && `${module.buildId}+0x${frame.offset.toString(16)}` === head.site.fault;
  });
  const frame = atSite ?? report.frames[0];
  return frame === undefined ? (head.symbol ?? "unknown code") : frameName(report, frame);
}

export function actWords(report: FaultReport | null, edit: Edit): string {
  switch (edit.kind) {
    case "abandon": {
      const { frame, returnValue } = edit.point;
      const from = frameName(report, report?.frames[frame]);
      const to = frameName(report, report?.frames[frame + 1]);
      return `${edit.rung === "inward" ? "Abandoned the failing function alone" : "Abandoned the request"}: ${from} returned ${returnValue} to ${to}`;
    }
    case "neutralise":
      return edit.skip.kind === "drop"
        ? "Dropped the one store"
        : "Completed the one instruction as if it had read zero";
    case "park":
      return "Parked the thread for good";
    case "leave":
      return "Had the process of this one connection leave in order";
    case "mend":
      return "Cleared a damaged pointer of the kernel's, and ran the same instruction again";
    case "deliver":
      return `Passed the signal on: ${deliverWords[edit.reason] ?? edit.reason}`;
  }
}

export const deliverWords: Readonly<Record<string, string>> = {
  sentByProcess: "another process sent it",
  runtimeOwnsSignal: "the program's runtime lives by it",
  notServing: "nobody was served yet",
  exhausted: "nothing was left that could save the program",
  disabled: "suppression is switched off for this workload",
  raisedByHandler: "the program's own handler raised it, to end it",
};

export function verdictOfRecord({ trials }: FaultRecord): FaultEnd {
  const last = trials.at(-1);
  if (last === undefined) return "open";
  if (last.decision.edit.kind === "deliver") return "delivered";
  return last.outcome?.verdict ?? "probation";
}

/** What it came to, in one sentence. */
export function outcomeWords(record: FaultRecord): string {
  const last = record.trials.at(-1);
  const outcome = last?.outcome ?? null;
  const { workload } = record.head;
  switch (verdictOfRecord(record)) {
    case "clean":
      return outcome?.rung === "quarantine"
        ? `${workload} goes on; the guilty client was cut, and nobody else saw anything.`
        : `${workload} goes on; one request was given up, and nobody else saw anything.`;
    case "degraded":
      return `${workload} goes on, but something of it was given up or may be wrong.`;
    case "failed":
      return `The act did not hold: ${outcome?.evidence[0] ?? "no reason is on record"}.`;
    case "probation":
      return `${workload} goes on; the verdict is not in yet.`;
    case "delivered":
      return `The signal was the program's own affair, and was passed on.`;
    case "open":
      return "Only the beginning is on record.";
  }
}
