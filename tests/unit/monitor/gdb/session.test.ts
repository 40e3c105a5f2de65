// SPDX-License-Identifier: Apache-2.0
/**
 * The session machine: its greeting, the order of its packets, and random walks with invariants.
 */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { GdbError } from "#errors.ts";
import {
  type OpenState,
  type SessionEffect,
  type SessionInput,
  type SessionState,
  siginfoRequest,
  stepSession,
} from "#monitor/gdb/session.ts";

const features = "PacketSize=47ff;QNonStop+";
const echo = { request: "vFile:readlink:00", reply: "F2;me" };
const idle: SessionState = { kind: "idle" };

/** Steps through inputs; every one must be allowed. */
function run(from: SessionState, ...inputs: SessionInput[]): { state: SessionState; effects: SessionEffect[] } {
  const effects: SessionEffect[] = [];
  let state = from;
  for (const input of inputs) {
    const step = stepSession(state, input);
    if (step.kind === "violation") throw new RangeError(step.reason);
    state = step.state;
    effects.push(...step.effects);
  }
  return { state, effects };
}

const packet = (text: string): SessionInput => ({ kind: "packet", text });
const told = (text: string): SessionInput => ({ kind: "notification", text: `Stop:${text}` });
const ok = packet("OK");
const sent = (effects: readonly SessionEffect[]): string[] =>
  effects.flatMap((effect) => (effect.kind === "send" ? effect.packets : []));
const greeted = (): SessionState => run(idle, { kind: "start", sync: null }, packet(features), ok, ok, ok).state;
const stopOf = (tid: number, signal = "0b"): string => `T${signal}thread:p1.${tid.toString(16)};core:0;`;

test("the greeting asks for features, no acknowledgements, non-stop mode and passed signals, in this order", () => {
  const { state, effects } = run(
    idle,
    { kind: "start", sync: null },
    { kind: "ack" },
    packet(features),
    { kind: "ack" },
    ok,
    ok,
    ok,
  );
  expect(state.kind).toBe("open");
  const names = sent(effects).map((text) => text.split(/[:;]/)[0]);
  expect(names).toEqual(["qSupported", "QStartNoAckMode", "QNonStop", "QPassSignals"]);
  expect(effects.at(-1)?.kind).toBe("ready");
  expect(effects.filter(({ kind }) => kind === "acknowledge")).toHaveLength(4);
});

test("a stub that outlived its client: all before the echo is dropped", () => {
  const old = [packet("OK"), packet("T0bthread:p1.1;"), told(stopOf(1)), packet("F5;stale")];
  const { effects } = run(idle, { kind: "start", sync: echo }, ...old, packet(echo.reply));
  expect(sent(effects).map((text) => text.split(/[:;]/)[0])).toEqual(["vFile", "qSupported"]);
});

test("a greeting that is refused is a violation", () => {
  const { state } = run(idle, { kind: "start", sync: null }, packet(features));
  expect(stepSession(state, packet("E01")).kind).toBe("violation");
  expect(stepSession(idle, packet("OK")).kind).toBe("violation");
});

test("a stop is asked for the next stop, registers and cause in one write", () => {
  const { effects } = run(greeted(), told(stopOf(5)));
  expect(effects[0]).toEqual({ kind: "send", packets: ["vStopped", "Hgp1.5", "g", siginfoRequest] });
  expect(effects[1]?.kind).toBe("stopped");
});

test("several stops: each is told once, with its own registers, until OK", () => {
  const first = run(greeted(), told(stopOf(5)));
  const second = run(first.state, packet(stopOf(6, "08")), ok, packet("aa"), packet("E01"));
  expect(second.effects.filter(({ kind }) => kind === "stopped")).toHaveLength(1);
  expect(second.effects).toContainEqual({ kind: "answer", id: -1, texts: ["aa", "E01"] });
  const third = run(second.state, ok, ok, packet("bb"), packet("E01"));
  expect(third.effects.filter(({ kind }) => kind === "answer" || kind === "drained")).toEqual([
    { kind: "drained" },
    { kind: "answer", id: -2, texts: ["bb", "E01"] },
  ]);
  const open = third.state as OpenState;
  expect([...open.stopped.keys()]).toEqual([5, 6]);
  expect([open.draining, open.expected.length]).toEqual(["no", 0]);
});

const stopped = (tid: number): SessionState =>
  run(greeted(), told(stopOf(tid)), ok, ok, packet("aa"), packet("E01")).state;
const thread = (tid: number) => ({ pid: 1, tid });
const resumeOf = (id: number, tid: number, serial: number, registers: string | null): SessionInput => ({
  kind: "resume",
  id,
  thread: thread(tid),
  serial,
  action: "c",
  registers,
});

test("registers and resume go in one write where the thread is selected already", () => {
  const { effects } = run(stopped(5), resumeOf(1, 5, 1, "Gff"));
  expect(effects).toEqual([{ kind: "send", packets: ["Gff", "vCont;c:p1.5"] }]);
});

test("registers are written only after the thread was confirmed; what selects others waits", () => {
  const other = run(stopped(5), { kind: "request", id: 1, thread: thread(9), packets: ["m0,8"] });
  expect(sent(other.effects)).toEqual(["Hgp1.9", "m0,8"]);
  const resuming = run(other.state, resumeOf(2, 5, 1, "Gff"));
  expect(sent(resuming.effects)).toEqual(["Hgp1.5"]);
  const held = run(resuming.state, { kind: "request", id: 3, thread: thread(7), packets: ["m8,8"] });
  expect(sent(held.effects)).toEqual([]);
  const answered = run(held.state, ok, packet("00"), ok);
  expect(answered.effects).toEqual([
    { kind: "answer", id: 1, texts: ["00"] },
    { kind: "send", packets: ["Gff", "vCont;c:p1.5"] },
    { kind: "send", packets: ["Hgp1.7", "m8,8"] },
  ]);
});

test("a thread that cannot be selected has no registers written and is not read", () => {
  const other = run(stopped(5), { kind: "request", id: 1, thread: thread(9), packets: ["m0,8"] });
  const failed = run(other.state, resumeOf(2, 5, 1, "Gff"), packet("E01"), packet("00"), packet("E01"));
  expect(failed.effects.filter(({ kind }) => kind !== "send")).toEqual([
    { kind: "refused", id: 1, reason: "select" },
    { kind: "refused", id: 2, reason: "select" },
  ]);
  expect(sent(failed.effects)).not.toContain("Gff");
});

test("an old serial is refused, and so is a second resume", () => {
  const once = run(stopped(5), resumeOf(1, 5, 1, null));
  expect(sent(once.effects)).toEqual(["vCont;c:p1.5"]);
  expect(run(once.state, resumeOf(2, 5, 1, null)).effects).toEqual([{ kind: "refused", id: 2, reason: "stale" }]);
});

test("the end of the process and an exec end the stops of its threads", () => {
  const ended = run(stopped(5), told("X09;process:1"));
  expect(sent(ended.effects)).toEqual(["vStopped"]);
  expect((ended.state as OpenState).stopped.size).toBe(0);
  const replaced = run(stopped(5), told("T05exec:2f62;thread:p1.1;core:0;"));
  expect([...(replaced.state as OpenState).stopped.keys()]).toEqual([1]);
});

test("a fork is told with its child, nothing is asked about it, and the stops of others stay", () => {
  const stopped = run(greeted(), told(stopOf(5)), ok, ok, packet("00"), packet("l")).state;
  const { state, effects } = run(stopped, told("T05fork:p9.9;thread:p1.1;core:0;"), ok);
  expect(sent(effects)).toEqual(["vStopped"]);
  expect(effects.filter(({ kind }) => kind === "forked")).toEqual([
    { kind: "forked", thread: { pid: 1, tid: 1 }, child: { pid: 9, tid: 9 } },
  ]);
  expect([...(state as OpenState).stopped.keys()]).toEqual([5]);
  const after = run(state, told("T05vforkdone:;thread:p1.1;core:0;"), ok);
  expect(after.effects).toContainEqual({ kind: "forked", thread: { pid: 1, tid: 1 }, child: null });
});

test("an exec in one process leaves the stops of another", () => {
  const first = run(greeted(), told(stopOf(5)), packet("T0bthread:p9.9;core:0;"), ok, packet("00"), packet("l")).state;
  const { state } = run(first, packet("T05exec:2f62;thread:p9.9;core:0;"));
  expect([...(state as OpenState).stopped.keys()]).toEqual([5, 9]);
});

test("a rescan tells every stopped thread again, and a notification that crosses it is old", () => {
  const asked = run(stopped(5), { kind: "rescan" });
  expect(sent(asked.effects)).toEqual(["?"]);
  const crossed = run(asked.state, told(stopOf(6)));
  expect(crossed.effects).toEqual([]);
  const answered = run(crossed.state, packet(stopOf(5)), ok);
  expect(answered.effects.map(({ kind }) => kind)).toEqual(["send", "stopped", "drained"]);
  const late = run(greeted(), told(stopOf(5)), { kind: "rescan" });
  expect(sent(late.effects)).not.toContain("?");
  expect(sent(run(late.state, ok).effects)).toEqual(["?"]);
});

test("a stop that is told twice, as gdbserver does to `?` after an unanswered notification, is one stop", () => {
  const asked = run(greeted(), { kind: "rescan" });
  const five = packet(stopOf(5));
  const { state, effects } = run(asked.state, five, five, ok, packet("00"), packet("l"), packet(stopOf(6)), ok);
  const stops = effects.flatMap((effect) => (effect.kind === "stopped" ? [effect.stop.thread.tid] : []));
  expect(stops).toEqual([5, 6]);
  expect([...(state as OpenState).stopped.keys()]).toEqual([5, 6]);
  expect(sent(effects).filter((text) => text === "vStopped")).toHaveLength(3);
  expect(effects.at(-1)?.kind).toBe("drained");
});

test("what the stub may not do is a violation", () => {
  expect(stepSession(greeted(), packet("OK")).kind).toBe("violation");
  expect(stepSession(run(greeted(), told(stopOf(5))).state, told(stopOf(6))).kind).toBe("violation");
  const selecting = run(greeted(), { kind: "request", id: 1, thread: thread(5), packets: ["g"] });
  expect(stepSession(selecting.state, packet("00")).kind).toBe("violation");
});

test("once lost, everything that waits is refused, and so is everything after", () => {
  const waiting = run(
    stopped(5),
    { kind: "request", id: 7, thread: thread(9), packets: ["m0,8"] },
    resumeOf(8, 5, 1, "Gff"),
  );
  const lost = run(waiting.state, { kind: "lost" });
  expect(lost.effects).toEqual([7, 8].map((id) => ({ kind: "refused", id, reason: "closed" })));
  expect(run(lost.state, resumeOf(9, 5, 1, null)).effects).toEqual([{ kind: "refused", id: 9, reason: "closed" }]);
});

/** A stub as simple as can be: knows what was sent and gives its replies in order. */
type Action = {
  readonly kind: "stop" | "reply" | "failReply" | "read" | "resume" | "write" | "rescan";
  readonly tid: number;
};
const anyAction: fc.Arbitrary<Action> = fc.record({
  kind: fc.constantFrom("stop", "reply", "reply", "reply", "failReply", "read", "resume", "write", "rescan"),
  tid: fc.integer({ min: 1, max: 4 }),
});

class Walk {
  state: SessionState = greeted();
  /** Packets whose replies have not come. */
  pending: string[] = [];
  selected = "";
  stubStopped = new Set<number>();
  queue: number[] = [];
  answered = new Set<number>();
  asked = new Set<number>();
  lastId = 0;

  input(input: SessionInput): void {
    const step = stepSession(this.state, input);
    if (step.kind === "violation") throw new RangeError(`violation: ${step.reason}`);
    this.state = step.state;
    for (const effect of step.effects) this.take(effect);
  }

  take(effect: SessionEffect): void {
    if (effect.kind === "send") this.pending.push(...effect.packets);
    if (effect.kind === "stopped") this.asked.add(-effect.stop.serial);
    if (effect.kind !== "answer" && effect.kind !== "refused") return;
    expect(this.asked.has(effect.id)).toBe(true);
    expect(this.answered.has(effect.id)).toBe(false);
    this.answered.add(effect.id);
  }

  reply(fail: boolean): void {
    const packet = this.pending.shift();
    if (packet === undefined) return;
    this.input({ kind: "packet", text: this.#replyTo(packet, fail) });
  }

  #replyTo(packet: string, fail: boolean): string {
    if (packet.startsWith("Hg")) {
      if (fail) return "E01";
      this.selected = packet.slice(2);
      return "OK";
    }
    // A register write names its thread: it must be the one that the stub has selected.
    if (packet.startsWith("G")) expect(this.selected).toBe(`p1.${packet.slice(1)}`);
    if (packet === "vStopped") this.queue.shift();
    if (packet === "?") this.queue = [...this.stubStopped];
    if (packet === "vStopped" || packet === "?") return this.queue.length === 0 ? "OK" : stopOf(this.queue[0]!);
    const resumed = /^vCont;c:p1\.(\d)$/.exec(packet);
    if (resumed !== null) this.stubStopped.delete(Number(resumed[1]));
    return packet === "g" ? "00" : "OK";
  }

  act({ kind, tid }: Action): void {
    if (kind === "reply" || kind === "failReply") this.reply(kind === "failReply");
    else if (kind === "rescan") this.input({ kind: "rescan" });
    else if (kind === "stop") this.stop(tid);
    else this.ask(kind, tid);
  }

  stop(tid: number): void {
    if (this.stubStopped.has(tid)) return;
    this.stubStopped.add(tid);
    this.queue.push(tid);
    if (this.queue.length === 1) this.input(told(stopOf(tid)));
  }

  ask(kind: Action["kind"], tid: number): void {
    this.lastId += 1;
    this.asked.add(this.lastId);
    const id = this.lastId;
    const serial = (this.state as OpenState).stopped.get(tid)?.serial ?? 0;
    if (kind === "read") this.input({ kind: "request", id, thread: thread(tid), packets: ["m0,8", "m8,8"] });
    else this.input(resumeOf(id, tid, serial, kind === "write" ? `G${tid}` : null));
  }
}

test("random walks: every request is answered once, and registers reach only their own thread", () => {
  fc.assert(
    fc.property(fc.array(anyAction, { maxLength: 120 }), (actions) => {
      const walk = new Walk();
      for (const action of actions) walk.act(action);
      for (let limit = 0; walk.pending.length > 0; limit += 1) {
        expect(limit).toBeLessThan(5000);
        walk.reply(false);
      }
      const open = walk.state as OpenState;
      expect(walk.answered.size).toBe(walk.asked.size);
      expect([open.expected.length, open.held, open.draining]).toEqual([0, null, "no"]);
      expect([...open.stopped.keys()].sort()).toEqual([...walk.stubStopped].sort());
    }),
    { numRuns: 1000 },
  );
});

test("random inputs: a next state, a violation, or GdbError, and nothing else", () => {
  const anyText = fc.oneof(fc.constantFrom("OK", "E01", features, stopOf(1), "W00;process:1", ""), fc.string());
  const anyInput: fc.Arbitrary<SessionInput> = fc.oneof(
    fc.record({ kind: fc.constantFrom("packet", "notification"), text: anyText }),
    anyText.map(told),
    fc.constantFrom<SessionInput>({ kind: "ack" }, { kind: "nak" }, { kind: "rescan" }, { kind: "start", sync: echo }),
    fc.record({ kind: fc.constant("request"), id: fc.nat(), thread: fc.constant(null), packets: fc.constant(["g"]) }),
  );
  fc.assert(
    fc.property(fc.constantFrom(idle, greeted(), stopped(3)), fc.array(anyInput), (from, inputs) => {
      let state: SessionState = from;
      for (const input of inputs) {
        try {
          const step = stepSession(state, input);
          if (step.kind === "next") state = step.state;
        } catch (error) {
          expect(error).toBeInstanceOf(GdbError);
        }
      }
    }),
    { numRuns: 500 },
  );
});
