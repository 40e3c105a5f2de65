// SPDX-License-Identifier: Apache-2.0
/**
 * Which REST call is legal when, and where it leads. Pure; time and sockets are elsewhere.
 *
 *     absent ──started──▶ empty ──create──▶ created ──boot──▶ running ⇄ paused
 *                           ▲  ◀── delete ── any            │ ▲ shutdown ▼ │
 *                           └────── restore, receive ──────▶│ created ◀────┘
 *     running, paused ──send──▶ migrating ──failed──▶ as before      any ──exit──▶ absent
 *
 * A call that failed leaves the state `unsure`; an event that does not agree with the state leaves it as it is, for
 * events come later than answers. Both have the effect `ask`: look at `vm.info`, whose answer settles it. Events may be
 * lost too, so nothing is ever concluded from their absence.
 * Source: `valid_transition` in `vmm/src/vm.rs` and the request handlers in `vmm/src/lib.rs`, v53.0. After a failed
 * create the configuration stays behind, and after a failed boot the VM stays: both want a delete.
 */
import { next, type Step, violation } from "#machine.ts";
import type { MonitorEvent } from "./monitorEvent.ts";
import type { CallName } from "./restCalls.ts";
import type { ReportedState } from "./vmConfig.ts";

export type VmState =
  /** No process. */
  | { readonly kind: "absent" }
  /** A process without a VM. */
  | { readonly kind: "empty" }
  /** Configured, not running. */
  | { readonly kind: "created" }
  | { readonly kind: "running" }
  | { readonly kind: "paused" }
  /** A checkpoint or migration is being sent; `vm.info` shows the state from before. */
  | { readonly kind: "migrating"; readonly before: "running" | "paused" }
  /** Waits for, or takes in, a VM. Its control thread answers nothing else meanwhile. */
  | { readonly kind: "receiving" }
  /** Not known until `vm.info` answers. */
  | { readonly kind: "unsure" };

export type VmInput =
  | { readonly kind: "started" }
  | { readonly kind: "exited" }
  /** About to be sent. */
  | { readonly kind: "send"; readonly call: CallName }
  | { readonly kind: "answered"; readonly call: CallName; readonly resumed?: boolean }
  | { readonly kind: "failed"; readonly call: CallName }
  | { readonly kind: "event"; readonly event: MonitorEvent }
  /** `vm.info` answered, or said that there is no VM (null); and whether a migration still goes on. */
  | { readonly kind: "info"; readonly state: ReportedState | null; readonly migrating?: boolean };

/** The one effect: look at `vm.info`. */
export type VmEffect = { readonly kind: "ask" };
type VmStep = Step<VmState, VmEffect>;

const absent: VmState = { kind: "absent" };
const empty: VmState = { kind: "empty" };
const created: VmState = { kind: "created" };
const running: VmState = { kind: "running" };
const paused: VmState = { kind: "paused" };
const unsure: VmState = { kind: "unsure" };
const ask: VmEffect = { kind: "ask" };

const booted = ["running", "paused"] as const;
const configured = ["created", ...booted] as const;
const anywhere = ["empty", ...configured, "migrating", "unsure"] as const;

/** The states in which a call makes sense. */
const legal: Readonly<Record<CallName, readonly VmState["kind"][]>> = {
  "vmm.ping": [...anywhere, "receiving"],
  "vmm.shutdown": [...anywhere, "receiving"],
  "vm.info": anywhere,
  "vm.counters": booted,
  "vm.create": ["empty"],
  "vm.delete": ["empty", ...configured, "unsure"],
  "vm.boot": ["created"],
  "vm.pause": ["running"],
  "vm.resume": ["paused"],
  "vm.shutdown": booted,
  "vm.reboot": booted,
  "vm.power-button": booted,
  "vm.resize": configured,
  "vm.add-device": configured,
  "vm.add-disk": configured,
  "vm.add-net": configured,
  "vm.add-vsock": configured,
  "vm.remove-device": configured,
  "vm.snapshot": ["paused"],
  "vm.restore": ["empty"],
  "vm.send-migration": booted,
  "vm.receive-migration": ["empty"],
};

/** Where a call leads once it has been answered; those not listed change nothing. */
const leadsTo: Partial<Readonly<Record<CallName, VmState>>> = {
  "vmm.shutdown": absent,
  "vm.create": created,
  "vm.delete": empty,
  "vm.boot": running,
  "vm.pause": paused,
  "vm.resume": running,
  "vm.shutdown": created,
  "vm.reboot": running,
};

export const startState: VmState = absent;

export function stepVm(state: VmState, input: VmInput): VmStep {
  switch (input.kind) {
    case "started":
      return state.kind === "absent" ? next(empty) : violation("a process is there already");
    case "exited":
      return next(absent);
    case "send":
      return stepSend(state, input.call);
    case "answered":
      return stepAnswered(state, input.call, input.resumed === true);
    case "failed":
      return stepFailed(state, input.call);
    case "event":
      return stepEvent(state, input.event);
    case "info":
      return stepReported(state, input.state, input.migrating === true);
  }
}

/** Why the call is not legal now, or null where it is. */
export function illegal(state: VmState, call: CallName): string | null {
  if (legal[call].includes(state.kind)) return null;
  return `${call} needs a VM that is ${legal[call].join(" or ")}; it is ${state.kind}`;
}

function stepSend(state: VmState, call: CallName): VmStep {
  const reason = illegal(state, call);
  if (reason !== null) return violation(reason);
  if (call === "vm.receive-migration") return next({ kind: "receiving" });
  // From here on, not from its answer: the event that it failed may be read before the answer is.
  if (call === "vm.send-migration" && (state.kind === "running" || state.kind === "paused")) {
    return next({ kind: "migrating", before: state.kind });
  }
  return next(state);
}

function stepFailed(state: VmState, call: CallName): VmStep {
  if (state.kind === "absent") return next(state);
  if (call === "vm.send-migration" && state.kind === "migrating") return next({ kind: state.before }, ask);
  return changesVm(call) ? next(unsure, ask) : next(state);
}

function stepAnswered(state: VmState, call: CallName, resumed: boolean): VmStep {
  // The process may have ended between the answer and its arrival here.
  if (state.kind === "absent") return next(state);
  if (call === "vm.restore") return next(resumed ? running : paused);
  if (call === "vm.receive-migration") return next(unsure, ask);
  return next(leadsTo[call] ?? state);
}

/** Adding a device, or asking, leaves the VM in the state it was in, whatever comes of it. */
const changesVm = (call: CallName): boolean =>
  leadsTo[call] !== undefined || call === "vm.restore" || call === "vm.receive-migration";

/** The guest acts by itself too: it reboots, it powers off. */
function stepEvent(state: VmState, event: MonitorEvent): VmStep {
  if (state.kind === "absent" || state.kind === "receiving") return next(state);
  if (state.kind === "migrating") return stepMigration(state, event);
  const told = toldState(event);
  return told === null || told === state.kind ? next(state) : next(state, ask);
}

function toldState(event: MonitorEvent): VmState["kind"] | null {
  switch (event.kind) {
    case "vm.paused":
      return "paused";
    case "vm.resumed":
    case "vm.booted":
    case "vm.rebooted":
      return "running";
    case "vm.shutdown":
      return "created";
    case "vm.deleted":
      return "empty";
    default:
      return null;
  }
}

/** A declined migration pauses and resumes the VM by itself; a finished one takes it away. */
function stepMigration(state: VmState & { kind: "migrating" }, event: MonitorEvent): VmStep {
  if (event.kind === "vm.migration-failed") return next({ kind: state.before }, ask);
  return event.kind === "vm.migration-finished" ? next(unsure, ask) : next(state);
}

const beforeOf = (reported: ReportedState | null): "running" | "paused" =>
  reported === "Paused" ? "paused" : "running";

function stepReported(state: VmState, reported: ReportedState | null, migrating: boolean): VmStep {
  if (state.kind === "absent") return next(state);
  if (migrating) return next(state.kind === "migrating" ? state : { kind: "migrating", before: beforeOf(reported) });
  switch (reported) {
    case null:
      return next(empty);
    case "Running":
      return next(running);
    case "Paused":
    case "BreakPoint":
      return next(paused);
    case "Created":
    case "Shutdown":
      return next(created);
  }
}
