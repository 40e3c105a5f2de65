// SPDX-License-Identifier: Apache-2.0
/**
 * One crash command against a guarded server, from sending it to the verdict and a newcomer who is served.
 *
 * Gets a trigger and the guard's events; gives the shot with its faults and outcomes. Waits at most `faultMsMax` for a fault
 * after the guilty client has its fate, and `verdictMsMax` for all trials to be judged.
 */
import type { Clock } from "#clock.ts";
import { Bystanders } from "./bystanders.ts";
import { frameResp } from "./framing.ts";
import type { FaultEvent, GuardEvent, OutcomeEvent } from "./guardEvents.ts";
import type { GuardProcess } from "./guardProcess.ts";
import { redisTraffic } from "./redisTraffic.ts";
import { lastOutcome, type Scene, type Shot, sessionsCut, unharmed } from "./scene.ts";
import type { Display } from "./screen.ts";
import { limitAddressSpace } from "./serverProcess.ts";
import type { Trigger } from "./triggers.ts";

export type Range = {
  readonly scene: Scene;
  readonly guard: GuardProcess;
  readonly port: number;
  readonly pid: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly display: Display;
};

const faultMsMax = 2_000;
const verdictMsMax = 20_000;
const newcomerRounds = 20;

export async function fire(trigger: Trigger, number: number, range: Range): Promise<Shot> {
  const { scene, guard, port, pid, signal, display } = range;
  const shot: Shot = {
    ...{ trigger, atSample: scene.samples, state: "sent", fate: null, peer: null },
    ...{ faults: [], outcomes: [], newcomerServed: null },
  };
  scene.shots.push(shot);
  display.shotSent(shot);
  display.event("demoTrigger", { trigger: trigger.name, upstream: trigger.upstream, what: trigger.what });
  const from = guard.events.length;
  if (trigger.addressBytesMax !== null) await limitAddressSpace(pid, trigger.addressBytesMax);
  {
    const enough = new AbortController();
    const sending = trigger.send(port, number, enough.signal);
    sending.catch(() => {}); // met again below, after the wait for the guard's word
    const fault = await guard.waitFor(isFaultOrExit, faultMsMax, from, signal);
    if (fault !== null) await guard.waitFor(() => settled(guard, from), verdictMsMax, from, signal);
    enough.abort();
    await using killing = await sending;
    shot.fate = killing.fate;
    shot.peer = killing.peer;
  }
  if (trigger.addressBytesMax !== null) await limitAddressSpace(pid, null);
  signal.throwIfAborted();
  const seen = guard.events.slice(from);
  shot.faults = seen.filter((event): event is FaultEvent => event.event === "fault");
  shot.outcomes = seen.filter((event): event is OutcomeEvent => event.event === "outcome");
  shot.newcomerServed = await newcomerServed(port, number, range.clock);
  shot.state = stateOf(shot, guard, from);
  display.shotJudged(shot);
  display.event("demoShot", {
    ...{ trigger: trigger.name, state: shot.state, fate: shot.fate, faults: shot.faults.map((fault) => fault.id) },
    ...{ verdict: lastOutcome(shot)?.verdict ?? null, newcomerServed: shot.newcomerServed, cut: sessionsCut(shot) },
  });
  return shot;
}

/** A client that comes now and has a short checked talk, all kinds of commands. */
export async function newcomerServed(port: number, number: number, clock: Clock): Promise<boolean> {
  try {
    await using newcomer = await Bystanders.start({
      ...{ port, connections: 1, framing: frameResp, traffic: redisTraffic, seed: number, clock },
      pace: { kind: "closed", underWay: 1 },
      prefix: `newcomer${number}`,
    });
    for (let round = 0; round < newcomerRounds; round += 1) await newcomer.roundTrip();
    const counts = await newcomer.stop();
    return unharmed(counts) && counts.right >= newcomerRounds;
  } catch {
    return false; // not accepted: the answer to the question
  }
}

function stateOf(shot: Shot, guard: GuardProcess, from: number): Shot["state"] {
  if (guard.events.slice(from).some((event) => event.event === "exit")) return "lost";
  if (shot.faults.length > 0) return settled(guard, from) ? "judged" : "lost";
  return shot.newcomerServed === true ? "fixed" : "lost";
}

/** True where every fault since `from` has an outcome and the last word is no failure, or where nothing more can come. */
function settled(guard: GuardProcess, from: number): boolean {
  const seen = guard.events.slice(from);
  if (seen.some((event) => event.event === "exit")) return true;
  const outcomes = seen.filter((event): event is OutcomeEvent => event.event === "outcome");
  const judged = new Set(outcomes.map((outcome) => outcome.id));
  const standing = seen.some((event) => event.event === "fault" && !judged.has(event.id));
  const last = outcomes.at(-1);
  return !standing && last !== undefined && last.verdict !== "failed";
}

const isFaultOrExit = (event: GuardEvent): boolean => event.event === "fault" || event.event === "exit";
