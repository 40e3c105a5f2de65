// SPDX-License-Identifier: Apache-2.0
/**
 * The life of one supervised guest as a pure machine: commands, faults and results in; what to do next out.
 *
 *                 start                    booted                settled
 *     down, held ───────▶ starting ───────────────▶ booting ─────────────▶ up ⇄ paused
 *       ▲  ▲                 ▲                        │ fault               │ fault
 *       │  │ budget spent    │ timer                  ▼                     ▼
 *       │  └──────────── ending ◀── kill ── cold boot, restore ◀──── waiting ──▶ resetting ──▶ booting
 *       └─ stop ─────────────┘
 *
 * `ending` knows what follows once the process is gone. Time comes with each input. A command that makes no sense is a
 * violation, whose reason goes to whoever asked.
 */
import type { RestartPolicy } from "#config/schema.ts";
import { next, type Step, violation } from "#machine.ts";
import type { ExitReport } from "#vm/exitReport.ts";
import { attemptsInWindow } from "../restart.ts";
import { faultOfExit, type GuestFault } from "./guestFault.ts";
import { chooseStep, type GuestRung } from "./guestRung.ts";

export type Phase =
  | { readonly kind: "down"; readonly why: string }
  | { readonly kind: "error"; readonly why: string }
  | { readonly kind: "waiting"; readonly rung: GuestRung }
  | { readonly kind: "starting" }
  | { readonly kind: "resetting" }
  | { readonly kind: "booting" }
  | { readonly kind: "up" }
  | { readonly kind: "paused" }
  | { readonly kind: "ending"; readonly after: AfterEnd };
export type AfterEnd =
  | { readonly kind: "down"; readonly why: string }
  | { readonly kind: "error"; readonly why: string }
  | { readonly kind: "start"; readonly rung: GuestRung; readonly waitMs: number };

export type Supervised = {
  readonly phase: Phase;
  /** Automatic restarts, wall clock in ms, oldest first. */
  readonly attempts: readonly number[];
  /** The step whose success is not known yet. */
  readonly trial: { readonly rung: GuestRung; readonly fault: GuestFault; readonly sinceMs: number } | null;
};

/** `restore`: back to a checkpoint, whatever it does now. */
export type GuestCommand = "start" | "stop" | "pause" | "resume" | "reset" | "restore";
export type SuperviseInput = { readonly atMs: number } & (
  | { readonly kind: "command"; readonly command: GuestCommand }
  | { readonly kind: "booted" }
  /** `final`: trying again is of no use until something on this box changes. */
  | { readonly kind: "startFailed"; readonly why: string; readonly final: boolean }
  | { readonly kind: "resetFailed"; readonly why: string }
  | { readonly kind: "settled" }
  | { readonly kind: "paused" }
  | { readonly kind: "resumed" }
  /** The guest was booted anew by its own process, whoever wanted it. */
  | { readonly kind: "rebooted" }
  | { readonly kind: "fault"; readonly fault: GuestFault }
  | { readonly kind: "ended"; readonly report: ExitReport }
  | { readonly kind: "timer" }
  /** Found at our start. */
  | { readonly kind: "adopted"; readonly paused: boolean }
);

export type GuestEffect =
  /** Ends in `booted` or `startFailed`. `rung`: how, where a fault led here; null for an ordinary start. */
  | { readonly kind: "launch"; readonly rung: GuestRung | null }
  | { readonly kind: "reboot" }
  | { readonly kind: "pause" }
  | { readonly kind: "resume" }
  /** In order: power button, wait, end. */
  | { readonly kind: "stop" }
  | { readonly kind: "kill" }
  | { readonly kind: "wait"; readonly waitMs: number }
  | { readonly kind: "fault"; readonly fault: GuestFault; readonly act: GuestRung | "note" | "stayDown" | "hold" }
  | {
      readonly kind: "outcome";
      readonly rung: GuestRung;
      readonly verdict: "clean" | "failed";
      readonly why: string;
      readonly downMs: number;
    };

type SuperviseStep = Step<Supervised, GuestEffect>;

/** Before anything was decided about it. */
export const notStarted = "not started yet";
export const newGuest: Supervised = { phase: { kind: "down", why: notStarted }, attempts: [], trial: null };

/** Whether a restored guest may be offered; changes as checkpoints come and go. */
export type Abilities = { readonly restorable: boolean };

export function supervise(
  state: Supervised,
  input: SuperviseInput,
  policy: RestartPolicy,
  abilities: Abilities,
): SuperviseStep {
  switch (input.kind) {
    case "command":
      return obey(state, input.command);
    case "booted":
      return state.phase.kind === "starting" ? next(at(state, { kind: "booting" })) : next(state);
    case "startFailed":
      return startFailed(state, input, policy, abilities);
    case "resetFailed": {
      const fault: GuestFault = { kind: "hypervisorSilent", why: `the reset failed: ${input.why}` };
      return state.phase.kind === "resetting" ? takeFault(state, fault, input.atMs, policy, abilities) : next(state);
    }
    case "settled":
      return state.phase.kind === "booting" ? settle(state, input.atMs) : next(state);
    case "paused":
      return runs(state) ? next(at(state, { kind: "paused" })) : next(state);
    case "resumed":
      return state.phase.kind === "paused" ? next(at(state, { kind: "booting" })) : next(state);
    case "rebooted":
      return rebooted(state, input.atMs, policy, abilities);
    case "fault":
      return runs(state) || state.phase.kind === "paused"
        ? takeFault(state, input.fault, input.atMs, policy, abilities)
        : next(state);
    case "ended":
      return ended(state, input.report, input.atMs, policy, abilities);
    case "timer":
      return timer(state);
    case "adopted":
      return next(at(state, { kind: input.paused ? "paused" : "booting" }));
  }
}

const at = (state: Supervised, phase: Phase): Supervised => ({ ...state, phase });
/** No process is there. While a reset is backing off there is one. */
const isDown = (phase: Phase): boolean =>
  phase.kind === "down" || phase.kind === "error" || (phase.kind === "waiting" && phase.rung !== "reset");
const runs = ({ phase }: Supervised): boolean => phase.kind === "booting" || phase.kind === "up";

function obey(state: Supervised, command: GuestCommand): SuperviseStep {
  const { phase } = state;
  const fresh: Supervised = { ...state, attempts: [], trial: null };
  switch (command) {
    case "start":
      if (!isDown(phase)) return no("start", phase);
      return next(at(fresh, { kind: "starting" }), { kind: "launch", rung: null });
    case "stop": {
      const after: AfterEnd = { kind: "down", why: "stopped on request" };
      if (phase.kind === "down") return no("stop", phase);
      if (isDown(phase)) return next(at(fresh, after));
      const orderly = phase.kind === "up" || phase.kind === "booting";
      return next(at(fresh, { kind: "ending", after }), { kind: orderly ? "stop" : "kill" });
    }
    case "pause":
      return runs(state) ? next(state, { kind: "pause" }) : no("pause", phase);
    case "resume":
      return phase.kind === "paused" ? next(state, { kind: "resume" }) : no("resume", phase);
    case "reset":
      if (!runs(state) && phase.kind !== "paused") return no("reset", phase);
      return next(at(fresh, { kind: "resetting" }), { kind: "reboot" });
    case "restore": {
      if (isDown(phase)) return next(at(fresh, { kind: "starting" }), { kind: "launch", rung: "restore" });
      if (!runs(state) && phase.kind !== "paused") return no("restore", phase);
      const after: AfterEnd = { kind: "start", rung: "restore", waitMs: 0 };
      return next(at(fresh, { kind: "ending", after }), { kind: "kill" });
    }
  }
}

const no = (command: GuestCommand, phase: Phase): SuperviseStep =>
  violation(`it cannot ${command} now: the guest is ${phase.kind}${"why" in phase ? ` (${phase.why})` : ""}`);

function takeFault(
  state: Supervised,
  fault: GuestFault,
  atMs: number,
  policy: RestartPolicy,
  abilities: Abilities,
): SuperviseStep {
  const step = chooseStep(
    { fault: fault.kind, onTrial: state.trial?.rung ?? null, attempts: state.attempts, nowMs: atMs, ...abilities },
    policy,
  );
  const failed = step.kind === "note" ? [] : failedTrial(state, fault, atMs);
  if (step.kind === "note") return next(state, { kind: "fault", fault, act: "note" });
  if (step.kind !== "act") {
    const after: AfterEnd =
      step.kind === "hold" ? { kind: "error", why: `${fault.why}; ${step.why}` } : { kind: "down", why: fault.why };
    const told: GuestEffect = { kind: "fault", fault, act: step.kind };
    const untried: Supervised = { ...state, trial: null };
    if (isGone(fault)) return next(at(untried, after), ...failed, told);
    return next(at(untried, { kind: "ending", after }), ...failed, told, { kind: "kill" });
  }
  const { rung, waitMs } = step;
  const attempts = [...attemptsInWindow(state.attempts, atMs, policy), atMs];
  const tried: Supervised = { ...state, attempts, trial: { rung, fault, sinceMs: atMs } };
  const told: GuestEffect = { kind: "fault", fault, act: rung };
  if (isGone(fault) || rung === "reset") {
    return next(at(tried, { kind: "waiting", rung }), ...failed, told, { kind: "wait", waitMs });
  }
  return next(at(tried, { kind: "ending", after: { kind: "start", rung, waitMs } }), ...failed, told, { kind: "kill" });
}

/** After these no process is left to be ended. */
const isGone = ({ kind }: GuestFault): boolean =>
  kind === "hypervisorEnded" || kind === "powerOff" || kind === "startFailed";

function failedTrial({ trial }: Supervised, fault: GuestFault, atMs: number): GuestEffect[] {
  if (trial === null) return [];
  return [{ kind: "outcome", rung: trial.rung, verdict: "failed", why: fault.why, downMs: atMs - trial.sinceMs }];
}

function settle(state: Supervised, atMs: number): SuperviseStep {
  const { trial } = state;
  const settled: Supervised = { ...state, phase: { kind: "up" }, trial: null };
  if (trial === null) return next(settled);
  const { rung, fault, sinceMs } = trial;
  return next(settled, { kind: "outcome", rung, verdict: "clean", why: fault.why, downMs: atMs - sinceMs });
}

function startFailed(
  state: Supervised,
  { why, final, atMs }: { readonly why: string; readonly final: boolean; readonly atMs: number },
  policy: RestartPolicy,
  abilities: Abilities,
): SuperviseStep {
  const { phase } = state;
  if (phase.kind === "ending") return followEnd(state, phase.after);
  if (phase.kind !== "starting") return next(state);
  const fault: GuestFault = { kind: "startFailed", why };
  if (!final) return takeFault(state, fault, atMs, policy, abilities);
  const failed = failedTrial(state, fault, atMs);
  const held: Supervised = { ...state, trial: null, phase: { kind: "error", why } };
  return next(held, ...failed, { kind: "fault", fault, act: "hold" });
}

function rebooted(state: Supervised, atMs: number, policy: RestartPolicy, abilities: Abilities): SuperviseStep {
  if (state.phase.kind === "resetting") return next(at(state, { kind: "booting" }));
  if (!runs(state)) return next(state);
  const fault: GuestFault = {
    kind: "selfReset",
    why: "the guest reset itself: a reboot, a triple fault or its watchdog",
  };
  const step = takeFault(state, fault, atMs, policy, abilities);
  if (step.kind === "violation" || step.state.phase.kind === "ending") return step;
  // It helped itself; it still counts, or a guest that does nothing but reboot would do so for ever.
  const attempts = [...attemptsInWindow(state.attempts, atMs, policy), atMs];
  return next({ ...step.state, attempts, phase: { kind: "booting" } }, ...step.effects);
}

function ended(
  state: Supervised,
  report: ExitReport,
  atMs: number,
  policy: RestartPolicy,
  abilities: Abilities,
): SuperviseStep {
  const { phase } = state;
  if (phase.kind === "ending") return followEnd(state, phase.after);
  if (isDown(phase)) return next(state);
  return takeFault(state, faultOfExit(report), atMs, policy, abilities);
}

function followEnd(state: Supervised, after: AfterEnd): SuperviseStep {
  if (after.kind !== "start") return next(at(state, after));
  return next(at(state, { kind: "waiting", rung: after.rung }), { kind: "wait", waitMs: after.waitMs });
}

function timer(state: Supervised): SuperviseStep {
  const { phase } = state;
  if (phase.kind !== "waiting") return next(state);
  if (phase.rung === "reset") return next(at(state, { kind: "resetting" }), { kind: "reboot" });
  return next(at(state, { kind: "starting" }), { kind: "launch", rung: phase.rung });
}
