// SPDX-License-Identifier: Apache-2.0
/**
 * The life of one supervised program as a pure machine, rung 6 in it: commands, ends and faults in; what to do next out.
 *
 *                start              started             fault: it lives, and serves nobody
 *     stopped ─────────▶ starting ──────────▶ running ─────────────────────────▶ ending
 *       ▲                   ▲  │ failed         │ ended                             │ ended
 *       │ wanted by nobody  │  ▼                ▼                                   ▼
 *       ├───────────────────┼─ may it be started again? ◀───────────────────────────┘
 *       │             timer │  │ yes        │ the budget is used up
 *       │                backoff            ▼
 *       └──stop── (anywhere)               held ──start, by a person──▶ starting
 *
 * A restart is a trial until the program serves again. Time comes with each input. A command that makes no sense is a
 * violation, whose reason goes to whoever asked.
 */
import type { RestartPolicy } from "#config/schema.ts";
import { next, type Step, violation } from "#machine.ts";
import { attemptsInWindow, chooseRestart } from "../restart.ts";
import { isWantedBack, type ProgramFault } from "./programFault.ts";

export type ProgramPhase =
  | { readonly kind: "stopped"; readonly why: string }
  | { readonly kind: "starting" }
  /** `serves`: it was seen waiting for work, or its probes passed. */
  | { readonly kind: "running"; readonly serves: boolean }
  | { readonly kind: "ending"; readonly after: AfterEnd }
  | { readonly kind: "backoff"; readonly why: string }
  /** Down until a person starts it. */
  | { readonly kind: "error"; readonly why: string };
export type AfterEnd =
  | { readonly kind: "stopped"; readonly why: string }
  | { readonly kind: "error"; readonly why: string }
  | { readonly kind: "start" }
  | { readonly kind: "backoff"; readonly why: string; readonly waitMs: number };

export type Program = {
  readonly phase: ProgramPhase;
  /** Automatic restarts, wall clock in ms, oldest first. */
  readonly attempts: readonly number[];
  /** The restart whose success is not known yet. */
  readonly trial: { readonly fault: ProgramFault; readonly sinceMs: number } | null;
  /** It has served in some life of this supervisor's. */
  readonly everServed: boolean;
};

export type ProgramCommand = "start" | "stop" | "restart";
export type ProgramInput = { readonly atMs: number } & (
  | { readonly kind: "command"; readonly command: ProgramCommand }
  /** Somebody has asked the program itself to end, past us. */
  | { readonly kind: "asked"; readonly why: string }
  | { readonly kind: "started" }
  /** `final`: trying again is of no use until something on this box changes. */
  | { readonly kind: "startFailed"; readonly why: string; readonly final: boolean }
  | { readonly kind: "serves" }
  /** It lives, and does not serve. */
  | { readonly kind: "fault"; readonly fault: ProgramFault }
  | { readonly kind: "ended"; readonly fault: ProgramFault }
  | { readonly kind: "timer" }
  /** Found running at our start. */
  | { readonly kind: "adopted"; readonly serves: boolean }
);

export type ProgramAct = "restart" | "stayDown" | "hold";
export type ProgramEffect =
  /** Ends in `started` or `startFailed`. */
  | { readonly kind: "launch" }
  /** In order: SIGTERM, wait, SIGKILL. Ends in `ended`. */
  | { readonly kind: "stop" }
  | { readonly kind: "wait"; readonly waitMs: number }
  | { readonly kind: "fault"; readonly fault: ProgramFault; readonly act: ProgramAct }
  | {
      readonly kind: "outcome";
      readonly verdict: "clean" | "failed";
      readonly why: string;
      readonly downMs: number;
    };

type ProgramStep = Step<Program, ProgramEffect>;

export const notStarted = "not started yet";
export const newProgram: Program = {
  phase: { kind: "stopped", why: notStarted },
  attempts: [],
  trial: null,
  everServed: false,
};

export function superviseProgram(state: Program, input: ProgramInput, policy: RestartPolicy): ProgramStep {
  const { phase } = state;
  switch (input.kind) {
    case "command":
      return obey(state, input.command);
    case "asked":
      return asked(state, input.why);
    case "started":
      if (phase.kind === "starting") return next(at(state, { kind: "running", serves: false }));
      // A stop came while it started.
      return phase.kind === "ending" ? next(state, { kind: "stop" }) : next(state);
    case "startFailed":
      return startFailed(state, input, policy);
    case "serves":
      return phase.kind === "running" && !phase.serves ? settle(state, input.atMs) : next(state);
    case "fault":
      return phase.kind === "running" ? takeFault(state, input.fault, input.atMs, policy, true) : next(state);
    case "ended":
      if (phase.kind === "ending") return followEnd(state, phase.after);
      return phase.kind === "running" ? takeFault(state, input.fault, input.atMs, policy, false) : next(state);
    case "timer":
      return phase.kind === "backoff" ? next(at(state, { kind: "starting" }), { kind: "launch" }) : next(state);
    case "adopted":
      return next({ ...at(state, { kind: "running", serves: input.serves }), everServed: input.serves });
  }
}

const at = (state: Program, phase: ProgramPhase): Program => ({ ...state, phase });
const isDown = ({ kind }: ProgramPhase): boolean => kind === "stopped" || kind === "error" || kind === "backoff";

function obey(state: Program, command: ProgramCommand): ProgramStep {
  const { phase } = state;
  const fresh: Program = { ...state, attempts: [], trial: null };
  switch (command) {
    case "start":
      return isDown(phase) ? next(at(fresh, { kind: "starting" }), { kind: "launch" }) : no("start", phase);
    case "stop": {
      const after: AfterEnd = { kind: "stopped", why: "stopped on request" };
      if (phase.kind === "stopped") return no("stop", phase);
      if (isDown(phase)) return next(at(fresh, after));
      return endFirst(fresh, after);
    }
    case "restart":
      if (isDown(phase)) return next(at(fresh, { kind: "starting" }), { kind: "launch" });
      return phase.kind === "running" ? endFirst(fresh, { kind: "start" }) : no("restart", phase);
  }
}

const no = (command: ProgramCommand, phase: ProgramPhase): ProgramStep =>
  violation(`it cannot ${command} now: the program is ${phase.kind}${"why" in phase ? ` (${phase.why})` : ""}`);

/** What is being started, or ends already, is stopped once it runs, or not once more. */
function endFirst(state: Program, after: AfterEnd): ProgramStep {
  const ending = at(state, { kind: "ending", after });
  return state.phase.kind === "running" ? next(ending, { kind: "stop" }) : next(ending);
}

function asked(state: Program, why: string): ProgramStep {
  if (state.phase.kind === "stopped" || state.phase.kind === "error") return next(state);
  const fresh: Program = { ...state, trial: null };
  if (state.phase.kind === "backoff") return next(at(fresh, { kind: "stopped", why }));
  return next(at(fresh, { kind: "ending", after: { kind: "stopped", why } }));
}

function takeFault(
  state: Program,
  fault: ProgramFault,
  atMs: number,
  policy: RestartPolicy,
  lives: boolean,
): ProgramStep {
  const failed = failedTrial(state, fault, atMs);
  const go = (after: AfterEnd, act: ProgramAct, tried: Program): ProgramStep => {
    const told: ProgramEffect = { kind: "fault", fault, act };
    if (lives) return next(at(tried, { kind: "ending", after }), ...failed, told, { kind: "stop" });
    const followed = followEnd(tried, after);
    return followed.kind === "next" ? { ...followed, effects: [...failed, told, ...followed.effects] } : followed;
  };
  const untried: Program = { ...state, trial: null };
  if (!isToReturn(state, fault, policy)) return go({ kind: "stopped", why: fault.why }, "stayDown", untried);
  const choice = chooseRestart(state.attempts, atMs, policy);
  if (choice.kind === "spent") return go({ kind: "error", why: `${fault.why}; ${choice.why}` }, "hold", untried);
  const attempts = [...attemptsInWindow(state.attempts, atMs, policy), atMs];
  const tried: Program = { ...state, attempts, trial: { fault, sinceMs: atMs } };
  return go({ kind: "backoff", why: fault.why, waitMs: choice.waitMs }, "restart", tried);
}

/**
 * A restart that was begun is seen through, however a life of it ends. A program that only its own faults bring back, and
 * that never came so far as to serve, was started in vain.
 */
function isToReturn({ trial, everServed }: Program, { kind }: ProgramFault, policy: RestartPolicy): boolean {
  if (policy.policy === "onFault" && !everServed) return false;
  return isWantedBack(kind, policy) || (trial !== null && kind !== "ended");
}

function failedTrial({ trial }: Program, fault: ProgramFault, atMs: number): ProgramEffect[] {
  if (trial === null) return [];
  return [{ kind: "outcome", verdict: "failed", why: fault.why, downMs: atMs - trial.sinceMs }];
}

function settle(state: Program, atMs: number): ProgramStep {
  const { trial } = state;
  const settled: Program = { ...state, phase: { kind: "running", serves: true }, trial: null, everServed: true };
  if (trial === null) return next(settled);
  return next(settled, { kind: "outcome", verdict: "clean", why: trial.fault.why, downMs: atMs - trial.sinceMs });
}

function startFailed(
  state: Program,
  { why, final, atMs }: { readonly why: string; readonly final: boolean; readonly atMs: number },
  policy: RestartPolicy,
): ProgramStep {
  const { phase } = state;
  if (phase.kind === "ending") return followEnd(state, phase.after);
  if (phase.kind !== "starting" && phase.kind !== "running") return next(state);
  const fault: ProgramFault = { kind: "startFailed", why };
  if (!final) return takeFault(state, fault, atMs, policy, false);
  const failed = failedTrial(state, fault, atMs);
  return next({ ...state, trial: null, phase: { kind: "error", why } }, ...failed, {
    kind: "fault",
    fault,
    act: "hold",
  });
}

function followEnd(state: Program, after: AfterEnd): ProgramStep {
  switch (after.kind) {
    case "start":
      return next(at(state, { kind: "starting" }), { kind: "launch" });
    case "backoff":
      return next(at(state, { kind: "backoff", why: after.why }), { kind: "wait", waitMs: after.waitMs });
    default:
      return next(at(state, after));
  }
}
