// SPDX-License-Identifier: Apache-2.0
/**
 * What a guard tells whoever watches its output, as it happens: one JSON object a line (`--json`), or one sentence.
 *
 * The JSON form is a contract: fields and events may be added, never changed. Addresses and offsets are `0x…` strings.
 * Lines are written after the thread runs again; a slow reader holds nobody.
 */
import { hex } from "#bytes.ts";
import type { Decision, FaultReport, Frame, ModuleReference, Outcome } from "#fault.ts";
import type { Detection } from "#health.ts";
import type { StorageState } from "#storage/stateFile.ts";
import { type CheckpointNotice, checkpointSentence } from "./checkpointNotices.ts";

export type FrameNotice = { pc: string; module: string; offset: string; symbol?: string };

export type Notice =
  | { event: "guarding"; workload: string; pid: number; threads: number; attached: boolean; serving: boolean }
  | {
      event: "fault";
      id: string;
      workload: string;
      signal: string;
      thread: number;
      site: string;
      frames: FrameNotice[];
      action: string;
      stopUs: number;
    }
  | {
      event: "outcome";
      id: string;
      workload: string;
      rung: Outcome["rung"];
      verdict: Outcome["verdict"];
      stopUs: number;
      session: Outcome["session"];
      evidence: readonly string[];
    }
  | { event: "delivered"; id: string; workload: string; signal: string; thread: number; site: string; reason: string }
  | { event: "guest"; workload: string; phase: string; pid: number | null; why: string | null }
  | { event: "guestFault"; workload: string; kind: string; why: string; act: string }
  | { event: "guestOutcome"; workload: string; rung: string; verdict: "clean" | "failed"; downMs: number; why: string }
  | { event: "program"; workload: string; phase: string; pid: number | null; why: string | null }
  | { event: "programFault"; workload: string; kind: string; why: string; act: string }
  | {
      event: "programOutcome";
      workload: string;
      rung: "restart";
      verdict: "clean" | "failed";
      downMs: number;
      why: string;
    }
  /** A process that the program has forked. */
  | { event: "child"; workload: string; pid: number; state: "guarded" }
  | CheckpointNotice
  | { event: "released"; workload: string; address: string; owner: number; waiter: number }
  | { event: "unguarded"; workload: string; pid: number; reason: string }
  | { event: "stopping"; workload: string; pid: number; signal: string }
  /** Whether faults can be written down: `blind` where they cannot. */
  | { event: "record"; workload: string; state: StorageState["kind"]; why: string }
  | { event: "warning"; workload: string; text: string }
  /** Where the status page is. `claim`: the one-time code that makes its first admin; null where it has one. */
  | { event: "status"; workload: string; url: string; fingerprint: string | null; claim: string | null }
  | {
      event: "detection";
      workload: string;
      detector: Detection["detector"];
      kind: Detection["kind"];
      text: string;
      evidence: Detection["evidence"];
    }
  | { event: "exit"; workload: string; code: number | null; signal: string | null };

export class Notices {
  constructor(
    readonly workload: string,
    private readonly form: "json" | "text",
    private readonly write: (line: string) => void,
    /** Hears every notice too; must not throw. */
    private readonly hear: (notice: Notice) => void = () => {},
  ) {}

  fault(report: FaultReport, decision: Decision, stopUs: number): void {
    const shared = {
      id: report.id as string,
      workload: this.workload,
      signal: report.signal,
      thread: report.tid,
      site: report.site.fault,
    };
    if (decision.edit.kind === "deliver" && decision.edit.reason !== "exhausted") {
      this.tell({ event: "delivered", ...shared, reason: decision.edit.reason });
      return;
    }
    const frames = report.frames.map((frame) => frameNotice(frame, report.modules));
    this.tell({ event: "fault", ...shared, frames, action: decision.key, stopUs });
    if (decision.edit.kind === "deliver") this.tell({ event: "delivered", ...shared, reason: decision.edit.reason });
  }

  outcome(outcome: Outcome): void {
    const { fault, rung, verdict, stopUs, session, evidence } = outcome;
    this.tell({ event: "outcome", id: fault, workload: this.workload, rung, verdict, stopUs, session, evidence });
  }

  tell(notice: Notice): void {
    this.hear(notice);
    this.write(this.form === "json" ? JSON.stringify(notice) : `holdfast: ${printable(sentence(notice))}`);
  }
}

export function frameNotice(frame: Frame, modules: readonly ModuleReference[]): FrameNotice {
  const module = frame.module === null ? undefined : modules[frame.module];
  const notice: FrameNotice = { pc: hex(frame.pc), module: module?.path ?? "?", offset: hex(frame.offset) };
  if (frame.symbol !== null) notice.symbol = frame.symbol;
  return notice;
}

/** One notice for people. */
export function sentence(notice: Notice): string {
  switch (notice.event) {
    case "guarding":
      return `guarding ${notice.workload}: process ${notice.pid}, ${count(notice.threads, "thread")}${notice.serving ? "" : "; not seen waiting for work yet"}`;
    case "fault":
      return `${notice.signal === "SIGSTOP" ? "endless loop" : notice.signal} in ${notice.workload}, thread ${notice.thread}, at ${placeName(notice)}; ${notice.action.split(" ")[0]} after ${notice.stopUs} µs (fault ${notice.id})`;
    case "outcome":
      return `${notice.verdict === "failed" ? "not survived" : `survived, ${notice.verdict}`}: ${notice.rung} (fault ${notice.id}): ${notice.evidence.join("; ")}`;
    case "delivered":
      return `${notice.signal} passed on to ${notice.workload}, thread ${notice.thread}: ${deliverReasons[notice.reason] ?? notice.reason}`;
    case "guest":
      return `guest ${notice.workload}: ${notice.phase}${notice.pid === null ? "" : `, process ${notice.pid}`}${notice.why === null ? "" : `: ${notice.why}`}`;
    case "guestFault":
      return `guest ${notice.workload}: ${notice.why}; ${guestActs[notice.act] ?? notice.act}`;
    case "guestOutcome":
      return `guest ${notice.workload}: ${notice.rung} ${notice.verdict === "clean" ? "helped" : "did not help"} after ${notice.downMs} ms (${notice.why})`;
    case "program":
      return `program ${notice.workload}: ${notice.phase}${notice.pid === null ? "" : `, process ${notice.pid}`}${notice.why === null ? "" : `: ${notice.why}`}`;
    case "programFault":
      return `program ${notice.workload}: ${notice.why}; ${programActs[notice.act] ?? notice.act}`;
    case "programOutcome":
      return `program ${notice.workload}: the restart ${notice.verdict === "clean" ? `helped: it serves again after ${notice.downMs} ms, its connections are lost` : "did not help"} (${notice.why})`;
    case "child":
      return `guarding ${notice.workload}: process ${notice.pid}, which it has forked`;
    case "checkpoint":
    case "restore":
    case "restored":
      return checkpointSentence(notice);
    case "released":
      return `released a lock of ${notice.workload} that thread ${notice.owner} had left behind: thread ${notice.waiter} waited for it`;
    case "unguarded":
      return `${notice.workload} (process ${notice.pid}) is not guarded now: ${notice.reason}`;
    case "stopping":
      return `${notice.signal} was passed on to ${notice.workload} (process ${notice.pid}); once more to kill it`;
    case "record":
      return recordSentence(notice);
    case "warning":
      return notice.text;
    case "status":
      return statusSentence(notice);
    case "detection":
      return `${notice.workload}: ${notice.detector}${notice.kind === "raised" ? "" : " is over"}: ${notice.text}`;
    case "exit":
      return `${notice.workload} ended${howEnded(notice)}`;
  }
}

function recordSentence({ workload, state, why }: Extract<Notice, { event: "record" }>): string {
  const all = `; ${workload} is guarded all the same`;
  if (state === "blind") return `degraded: faults cannot be recorded now: ${why}${all}`;
  if (why !== "") return `degraded: the record of faults is at risk: ${why}${all}`;
  return `faults of ${workload} are recorded again`;
}

function statusSentence({ url, fingerprint, claim }: Extract<Notice, { event: "status" }>): string {
  const print = fingerprint === null ? "" : `; its certificate has the fingerprint ${fingerprint}`;
  const code = claim === null ? "" : `; claim it within 24 hours with the code ${claim}`;
  return `status page: ${url}${code}${print}`;
}

function howEnded({ code, signal }: Extract<Notice, { event: "exit" }>): string {
  if (signal !== null) return ` by ${signal}`;
  return code === null ? "; nobody saw how" : ` with exit code ${code}`;
}

/** One line whatever the names in it are: control characters would move the terminal's cursor, or forge a line. */
const printable = (text: string): string =>
  text
    .replaceAll(/\s*\n\s*/g, "; ")
    .replaceAll(/\p{Cc}/gu, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`);

const deliverReasons: Readonly<Record<string, string>> = {
  sentByProcess: "another process sent it",
  runtimeOwnsSignal: "its runtime handles this signal itself",
  notServing: "it was not serving anybody yet",
  exhausted: "nothing is left that could save it",
  disabled: "switched off for this workload",
  raisedByHandler: "its own signal handler raised it, to end it",
};

const programActs: Readonly<Record<string, string>> = {
  restart: "it is started again",
  stayDown: "it stays down",
  error: "it stays down until a person starts it",
  left: "systemd decides what comes next",
};

const guestActs: Readonly<Record<string, string>> = {
  reset: "it is reset",
  restore: "it is restored from its last checkpoint",
  coldboot: "it is booted cold",
  note: "nothing to do",
  stayDown: "it stays down",
  hold: "it is held down until somebody starts it",
};

function placeName(notice: Extract<Notice, { event: "fault" }>): string {
  const frame = notice.frames[0];
  return frame === undefined ? notice.site : (frame.symbol ?? `${frame.module}+${frame.offset}`);
}

const count = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? "" : "s"}`;
