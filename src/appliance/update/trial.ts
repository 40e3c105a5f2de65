// SPDX-License-Identifier: Apache-2.0
/**
 * A trial as it runs: looks at the supervisor every few seconds, holds the looks against the gate, and ends the trial. Gets
 * what can be asked of the supervisor; resolves when the version is good, or has been sent back.
 *
 * Checks: ready (as `/readyz` says), workloads that were up and their probes, the self-test, record and outbox take writes,
 * the clock is not before the build, the broker if it was heard before the update.
 */
import type { Clock } from "#clock.ts";
import { explainInLine } from "#errors.ts";
import type { MonitorView } from "#health.ts";
import type { WorkloadTold } from "#status/told.ts";
import { beginGate, type GateCheck, type GateTimes, gateTimes, stepGate } from "./gate.ts";
import type { Updates } from "./updates.ts";

export type TrialPorts = {
  readonly clock: Clock;
  /** Since the start of the box, ms. */
  readonly upMs: () => number;
  readonly ready: (signal: AbortSignal) => Promise<readonly GateCheck[]>;
  readonly workloads: () => readonly WorkloadTold[];
  readonly view: () => MonitorView;
  /** null: passed. */
  readonly testSelf: (signal: AbortSignal) => Promise<string | null>;
  /** Writes a row into record and outbox, and waits until they are durable. */
  readonly proveWrites: (signal: AbortSignal) => Promise<void>;
  readonly brokerConnected: () => boolean;
};

const retryTestMs = 30_000;
const writesEveryMs = 30_000;
const running: readonly string[] = ["guarded", "unguarded", "up"];

/** Nothing to do where no trial is on. */
export async function runTrial(
  updates: Updates,
  ports: TrialPorts,
  signal: AbortSignal,
  times: GateTimes = gateTimes,
): Promise<void> {
  const { clock } = ports;
  const nowMs = (): number => clock.monotonicNs() / 1e6;
  let state = beginGate(nowMs(), ports.upMs(), times);
  const tests = new Repeated("self-test", ports.testSelf, retryTestMs, null, nowMs);
  const writes = new Repeated("record", (each) => written(ports, each), writesEveryMs, writesEveryMs, nowMs);
  for (;;) {
    const { phase } = updates.book;
    if (phase.kind !== "trial") return;
    const { workloads, brokerSeen } = phase.before;
    const checks = [
      ...(await ports.ready(signal)),
      ...workloads.map((name) => workloadCheck(name, ports)),
      clockCheck(clock.wallMs(), updates.box.image.builtAtMs),
      ...(brokerSeen ? [brokerCheck(ports.brokerConnected())] : []),
      tests.look(signal),
      writes.look(signal),
    ];
    const step = stepGate(state, checks, nowMs(), times);
    state = step.state;
    const bad = checks.find(({ good }) => !good);
    updates.lacks = bad === undefined ? null : `${bad.name}: ${bad.says}`;
    if (updates.book.phase.kind !== "trial") return;
    if (step.verdict.kind !== "wait") {
      updates.give(step.verdict);
      return;
    }
    await clock.sleep(times.everyMs, signal);
  }
}

/** What of a supervisor is written down before an update, for its successor to be measured by. */
export const workloadsUp = (workloads: readonly WorkloadTold[]): string[] =>
  workloads.filter(({ state }) => running.includes(state)).map(({ name }) => name);

function workloadCheck(name: string, { workloads, view }: TrialPorts): GateCheck {
  const told = workloads().find((each) => each.name === name);
  const check = `workload ${name}`;
  if (told === undefined) return { name: check, good: false, says: "it was up before the update and is gone" };
  if (!running.includes(told.state)) {
    return { name: check, good: false, says: `${told.state}${told.why === null ? "" : `: ${told.why}`}` };
  }
  const probes = view().workloads.find(({ health }) => health.workload === name)?.health.probes ?? [];
  const bad = probes.find(({ state }) => state !== "passing");
  if (bad === undefined) return { name: check, good: true, says: told.state };
  return {
    name: check,
    good: false,
    says: `probe ${bad.probe} is ${bad.state}${bad.why === null ? "" : `: ${bad.why}`}`,
  };
}

const clockCheck = (wallMs: number, builtAtMs: number): GateCheck => ({
  name: "clock",
  good: wallMs >= builtAtMs,
  says: wallMs >= builtAtMs ? "right" : `it shows ${new Date(wallMs).toISOString()}, which is before the build`,
});

const brokerCheck = (connected: boolean): GateCheck => ({
  name: "broker",
  good: connected,
  says: connected ? "connected" : "it was heard before the update and is not now",
});

async function written({ proveWrites }: TrialPorts, signal: AbortSignal): Promise<string | null> {
  await proveWrites(signal);
  return null;
}

/** A check that takes a while: asked in the background, again after a failure, and after a success if it is to be. */
class Repeated {
  #says: GateCheck;
  #running = false;
  #nextMs = 0;

  constructor(
    private readonly name: string,
    private readonly ask: (signal: AbortSignal) => Promise<string | null>,
    private readonly retryMs: number,
    private readonly againMs: number | null,
    private readonly nowMs: () => number,
  ) {
    this.#says = { name, good: false, says: "not done yet" };
  }

  look(signal: AbortSignal): GateCheck {
    if (!this.#running && this.nowMs() >= this.#nextMs) {
      this.#running = true;
      void this.#run(signal);
    }
    return this.#says;
  }

  async #run(signal: AbortSignal): Promise<void> {
    let wrong: string | null;
    try {
      wrong = await this.ask(signal);
    } catch (error) {
      wrong = explainInLine(error);
    }
    const againMs = wrong === null ? this.againMs : this.retryMs;
    this.#nextMs = againMs === null ? Number.POSITIVE_INFINITY : this.nowMs() + againMs;
    this.#says = { name: this.name, good: wrong === null, says: wrong ?? "passed" };
    this.#running = false;
  }
}
