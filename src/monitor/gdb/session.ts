// SPDX-License-Identifier: Apache-2.0
/**
 * One conversation with a stub, as a pure machine: inputs are frames and requests, effects are packets and answers.
 *
 *     sync ──its own echo──▶ features ──reply──▶ noAck ──OK──▶ nonStop ──OK──▶ passSignals ──OK──▶ open ──lost──▶ closed
 *      └ only for a stub that outlived its client: everything before the echo is old and dropped
 *
 * In `open` the stub answers in the order of the packets, so `expected` is a queue. Beside it:
 * - Stops: a `%Stop` is answered with `vStopped` until the stub says OK. In the same write go the requests that every
 *   stop needs (select the thread, registers, cause), so a stop is known whole after one round trip.
 * - Selection: reads and `G` act on the thread that `Hg` selected last. Reads travel in one write with their `Hg`; if it
 *   fails, their replies are worthless and dropped. A `G` is only sent once its `Hg` is confirmed, with nothing between:
 *   until then other requests that select are held.
 * - Each stop has a serial number; whoever holds an older one is refused.
 * Source: GDB manual, "Remote Protocol Support for Non-Stop Mode"; gdbserver 13 measured.
 */
import { unreachable } from "#errors.ts";
import { next, type Step, violation } from "#machine.ts";
import {
  errorReply,
  type Features,
  formatThread,
  parseFeatures,
  parseStopReply,
  type StopReply,
  type ThreadId,
} from "./messages.ts";
import { passedSignals } from "./signals.ts";

/** A stop reply that leaves no thread stopped. */
export type Ended = Exclude<StopReply, { kind: "stopped" }>;
export type Stopped = Extract<StopReply, { kind: "stopped" }> & { readonly serial: number };

/** What reply the next packet is. `texts` gathers the replies of one request. */
type Expected =
  | { readonly kind: "drain" }
  | { readonly kind: "select"; readonly thread: string; readonly id: number }
  | { readonly kind: "answer"; readonly id: number; readonly last: boolean };

type Request = { readonly id: number; readonly thread: ThreadId | null; readonly packets: readonly string[] };
export type Resume = {
  readonly id: number;
  readonly thread: ThreadId;
  readonly serial: number;
  /** `c`, or `C` and the signal's number. */
  readonly action: string;
  /** The `G` packet, or null where no register changes. */
  readonly registers: string | null;
};

export type OpenState = {
  readonly kind: "open";
  readonly features: Features;
  readonly expected: readonly Expected[];
  readonly stopped: ReadonlyMap<number, Stopped>;
  /**
   * `asked`: between `?` and its reply; a notification that crosses it is old, `?` tells it again. `telling`: between a
   * stop and the OK that ends them; the stub sends no notification then. `again`: the same, and `?` is to be sent after.
   */
  readonly draining: "no" | "asked" | "telling" | "again";
  /** The thread that the last `Hg` asked for, and whether the stub agreed. */
  readonly selected: { readonly thread: string; readonly confirmed: boolean } | null;
  /** A resume that waits for its `Hg`, and the requests that wait for it. */
  readonly held: { readonly resume: Resume; readonly requests: readonly (Request | Resume)[] } | null;
  /** Replies so far to the request that is being answered. */
  readonly texts: readonly string[];
  readonly failed: string | null;
  readonly serial: number;
};
type Greeting = "sync" | "features" | "noAck" | "nonStop" | "passSignals";
export type SessionState =
  | { readonly kind: "idle" }
  | { readonly kind: Greeting; readonly echo: string; readonly features: Features | null }
  | OpenState
  | { readonly kind: "closed" };

export type SessionInput =
  /** `sync`: a request and the reply that only this client can get; null for a stub that nobody used before. */
  | { readonly kind: "start"; readonly sync: { readonly request: string; readonly reply: string } | null }
  | { readonly kind: "packet" | "notification"; readonly text: string }
  | { readonly kind: "ack" | "nak" }
  | ({ readonly kind: "request" } & Request)
  | ({ readonly kind: "resume" } & Resume)
  /** Asks for every thread that is stopped now. */
  | { readonly kind: "rescan" }
  /** Many stopped threads go on at once, without a signal. */
  | {
      readonly kind: "resumeMany";
      readonly id: number;
      readonly threads: readonly ThreadId[];
      readonly packets: readonly string[];
    }
  | { readonly kind: "lost" };

export type SessionEffect =
  | { readonly kind: "send"; readonly packets: readonly string[] }
  | { readonly kind: "acknowledge" }
  | { readonly kind: "ready"; readonly features: Features }
  | { readonly kind: "answer"; readonly id: number; readonly texts: readonly string[] }
  | { readonly kind: "refused"; readonly id: number; readonly reason: "stale" | "closed" | "select" }
  /** Registers and cause follow as the answer with id `-serial`. */
  | { readonly kind: "stopped"; readonly stop: Stopped }
  | { readonly kind: "ended"; readonly reply: Ended }
  /** A thread has forked, and waits with its child's first thread; null: it goes on after a vfork. */
  | { readonly kind: "forked"; readonly thread: ThreadId; readonly child: ThreadId | null }
  /** Every stop that was there has been told. */
  | { readonly kind: "drained" };

export type SessionStep = Step<SessionState, SessionEffect>;

export const siginfoRequest = "qXfer:siginfo:read::0,80";
/**
 * Features that change what the stub does: thread ids with their process, execs told as such. Without `xmlRegisters` the
 * registers of x86-64 end with SSE: `g` takes half, `G` a third of the time that all of AVX-512 takes (measured), and what
 * lies beyond is neither read nor written.
 */
export const featuresRequest = "qSupported:multiprocess+;vContSupported+;exec-events+;no-resumed+";
export const passRequest = `QPassSignals:${passedSignals.map((number) => number.toString(16)).join(";")}`;

export function stepSession(state: SessionState, input: SessionInput): SessionStep {
  if (input.kind === "lost") return loseSession(state);
  switch (state.kind) {
    case "idle":
      return input.kind === "start" ? start(input.sync) : violation(`${input.kind} before the start`);
    case "closed":
      return "id" in input ? next(state, { kind: "refused", id: input.id, reason: "closed" }) : next(state);
    case "open":
      return stepOpen(state, input);
    default:
      return stepGreeting(state, input);
  }
}

function start(sync: { request: string; reply: string } | null): SessionStep {
  const packets = [sync?.request ?? featuresRequest];
  const state = { kind: sync === null ? "features" : "sync", echo: sync?.reply ?? "", features: null } as const;
  // The acknowledgement frees a stub that still waits for one from the client before us.
  return next<SessionState, SessionEffect>(state, { kind: "acknowledge" }, { kind: "send", packets });
}

function loseSession(state: SessionState): SessionStep {
  if (state.kind !== "open") return next({ kind: "closed" });
  const waiting = new Set<number>();
  for (const expected of state.expected) if (expected.kind !== "drain") waiting.add(expected.id);
  for (const request of state.held === null ? [] : [state.held.resume, ...state.held.requests]) waiting.add(request.id);
  const effects = [...waiting].map((id): SessionEffect => ({ kind: "refused", id, reason: "closed" }));
  return next<SessionState, SessionEffect>({ kind: "closed" }, ...effects);
}

function stepGreeting(state: Extract<SessionState, { kind: Greeting }>, input: SessionInput): SessionStep {
  if (input.kind === "ack" || input.kind === "nak") return next(state);
  if (input.kind === "notification" && state.echo !== "") return next(state);
  if (input.kind !== "packet") return violation(`${input.kind} before the stub is ready`);
  // Until QStartNoAckMode is answered the stub waits for this; later it ignores it.
  const acknowledge: SessionEffect = { kind: "acknowledge" };
  const go = (kind: Greeting, packet: string, features = state.features): SessionStep =>
    next<SessionState, SessionEffect>({ ...state, kind, features }, acknowledge, { kind: "send", packets: [packet] });
  if (state.kind === "sync")
    return input.text === state.echo ? go("features", featuresRequest) : next(state, acknowledge);
  if (state.kind === "features") return go("noAck", "QStartNoAckMode", parseFeatures(input.text));
  if (input.text !== "OK") return violation(`${state.kind} answered with ${JSON.stringify(input.text.slice(0, 40))}`);
  if (state.kind === "noAck") return go("nonStop", "QNonStop:1");
  if (state.kind === "nonStop") return go("passSignals", passRequest);
  const features = state.features ?? new Map<string, string | boolean>();
  return next<SessionState, SessionEffect>(openState(features), { kind: "ready", features });
}

const openState = (features: Features): OpenState => ({
  kind: "open",
  features,
  expected: [],
  stopped: new Map(),
  draining: "no",
  selected: null,
  held: null,
  texts: [],
  failed: null,
  serial: 0,
});

function stepOpen(state: OpenState, input: Exclude<SessionInput, { kind: "lost" }>): SessionStep {
  switch (input.kind) {
    case "packet":
      return takeReply(state, input.text);
    case "notification":
      if (!input.text.startsWith("Stop:")) return next(state);
      if (state.draining === "asked") return next(state);
      if (state.draining !== "no") return violation("a second stop notification before the first was answered");
      return takeStop({ ...state, draining: "telling" }, input.text.slice("Stop:".length));
    case "request":
    case "resume":
      return submit(state, input);
    case "rescan":
      return state.draining === "telling" ? next({ ...state, draining: "again" }) : rescan(state);
    case "resumeMany": {
      const stopped = new Map(state.stopped);
      for (const thread of input.threads) stopped.delete(thread.tid);
      return send({ ...state, stopped }, input.id, input.packets);
    }
    case "ack":
    case "nak":
      return next(state);
    case "start":
      return violation("a second start");
    default:
      return unreachable(input);
  }
}

function rescan(state: OpenState): SessionStep {
  if (state.draining !== "no") return next(state);
  const expected: readonly Expected[] = [...state.expected, { kind: "drain" }];
  return next<SessionState, SessionEffect>(
    { ...state, draining: "asked", stopped: new Map(), expected },
    { kind: "send", packets: ["?"] },
  );
}

/** Sends a request, or holds it behind a resume whose thread is still being selected. */
function submit(state: OpenState, request: Request | Resume): SessionStep {
  if (state.held !== null && request.thread !== null) {
    return next({ ...state, held: { ...state.held, requests: [...state.held.requests, request] } });
  }
  return "serial" in request ? resume(state, request) : read(state, request);
}

function read(state: OpenState, { id, thread, packets }: Request): SessionStep {
  // Attach and detach change what is selected behind our back.
  const moves = packets.some((packet) => packet.startsWith("vAttach") || packet.startsWith("D;"));
  if (thread === null) return send(moves ? { ...state, selected: null } : state, id, packets);
  const name = formatThread(thread);
  if (state.selected?.thread === name && state.selected.confirmed) return send(state, id, packets);
  return send(selecting(state, name, id), id, packets, [`Hg${name}`]);
}

const selecting = (state: OpenState, thread: string, id: number): OpenState => ({
  ...state,
  selected: { thread, confirmed: false },
  expected: [...state.expected, { kind: "select", thread, id }],
});

function send(state: OpenState, id: number, packets: readonly string[], before: readonly string[] = []): SessionStep {
  const answers = packets.map((_, index): Expected => ({ kind: "answer", id, last: index === packets.length - 1 }));
  return next<SessionState, SessionEffect>(
    { ...state, expected: [...state.expected, ...answers] },
    { kind: "send", packets: [...before, ...packets] },
  );
}

function resume(state: OpenState, request: Resume): SessionStep {
  const { id, thread, serial, action, registers } = request;
  if (state.stopped.get(thread.tid)?.serial !== serial) return next(state, { kind: "refused", id, reason: "stale" });
  const name = formatThread(thread);
  if (registers !== null && !(state.selected?.thread === name && state.selected.confirmed)) {
    const held = { resume: request, requests: [] };
    return next<SessionState, SessionEffect>(
      { ...selecting(state, name, id), held },
      { kind: "send", packets: [`Hg${name}`] },
    );
  }
  const stopped = new Map(state.stopped);
  stopped.delete(thread.tid);
  const go = `vCont;${action}:${name}`;
  return send({ ...state, stopped }, id, registers === null ? [go] : [registers, go]);
}

function takeReply(state: OpenState, text: string): SessionStep {
  const [expected, ...rest] = state.expected;
  if (expected === undefined) return violation(`a reply that nothing asked for: ${JSON.stringify(text.slice(0, 40))}`);
  const after: OpenState = { ...state, expected: rest };
  if (expected.kind === "drain") {
    if (text !== "OK") return takeStop(after.draining === "asked" ? { ...after, draining: "telling" } : after, text);
    const quiet: OpenState = { ...after, draining: "no" };
    if (state.draining === "again") return rescan(quiet);
    return next<SessionState, SessionEffect>(quiet, { kind: "drained" });
  }
  if (expected.kind === "select") return takeSelection(after, expected, text);
  const texts = [...after.texts, text];
  if (!expected.last) return next({ ...after, texts });
  const done: OpenState = { ...after, texts: [], failed: null };
  const { id } = expected;
  if (state.failed !== null) return next<SessionState, SessionEffect>(done, { kind: "refused", id, reason: "select" });
  return next<SessionState, SessionEffect>(done, { kind: "answer", id, texts });
}

function takeSelection(state: OpenState, { thread, id }: { thread: string; id: number }, text: string): SessionStep {
  const agreed = text === "OK";
  if (!agreed && errorReply(text) === null) return violation(`Hg answered with ${JSON.stringify(text.slice(0, 40))}`);
  // A later Hg is already on its way: it decides what is selected.
  const current = state.selected?.thread === thread;
  const later = state.expected.some((expected) => expected.kind === "select");
  const selected = current && !later ? (agreed ? { thread, confirmed: true } : null) : state.selected;
  const { held } = state;
  if (held?.resume.id !== id) return next({ ...state, selected, failed: agreed ? null : text });
  const released: OpenState = { ...state, selected, held: null };
  const first: SessionStep = agreed
    ? resume(released, held.resume)
    : next<SessionState, SessionEffect>(released, { kind: "refused", id, reason: "select" });
  return submitAll(first, held.requests);
}

function submitAll(first: SessionStep, requests: readonly (Request | Resume)[]): SessionStep {
  let step = first;
  const effects = first.kind === "next" ? [...first.effects] : [];
  for (const request of requests) {
    if (step.kind !== "next" || step.state.kind !== "open") return step;
    step = submit(step.state, request);
    if (step.kind === "next") effects.push(...step.effects);
  }
  return step.kind === "next" ? { ...step, effects } : step;
}

/** A stop was told: ask for the next one and for all that is to know about this one, in one write. */
function takeStop(state: OpenState, text: string): SessionStep {
  const reply = parseStopReply(text);
  const draining: OpenState = { ...state, expected: [...state.expected, { kind: "drain" }] };
  const more: SessionEffect = { kind: "send", packets: ["vStopped"] };
  if (reply.kind !== "stopped") return takeEnd(draining, reply, more);
  if (reply.forked !== null) {
    const child = reply.forked === "ended" ? null : reply.forked;
    return next<SessionState, SessionEffect>(draining, more, { kind: "forked", thread: reply.thread, child });
  }
  // To `?` gdbserver 13 tells a stop twice that it has notified before and that nobody has answered.
  if (reply.execPath === null && state.stopped.has(reply.thread.tid))
    return next<SessionState, SessionEffect>(draining, more);
  const serial = state.serial + 1;
  const stop: Stopped = { ...reply, serial };
  // After an exec only the thread that called it is left of its process.
  const isLeft = ([, { thread }]: [number, Stopped]): boolean => thread.pid !== reply.thread.pid;
  const before = reply.execPath === null ? state.stopped : new Map([...state.stopped].filter(isLeft));
  const stopped = new Map(before).set(reply.thread.tid, stop);
  const told: OpenState = { ...draining, stopped, serial };
  const asked = submit(told, { id: -serial, thread: reply.thread, packets: ["g", siginfoRequest] });
  if (asked.kind !== "next") return asked;
  const packets = asked.effects.flatMap((effect) => (effect.kind === "send" ? effect.packets : []));
  const effects: SessionEffect[] = [
    { kind: "send", packets: ["vStopped", ...packets] },
    { kind: "stopped", stop },
  ];
  return { ...asked, effects };
}

function takeEnd(state: OpenState, reply: Ended, more: SessionEffect): SessionStep {
  const stopped = new Map(state.stopped);
  for (const [tid, stop] of stopped) {
    const ended = "pid" in reply ? reply.pid === stop.thread.pid : "thread" in reply && reply.thread.tid === tid;
    if (ended) stopped.delete(tid);
  }
  return next<SessionState, SessionEffect>({ ...state, stopped }, more, { kind: "ended", reply });
}
