// SPDX-License-Identifier: Apache-2.0
/**
 * Probation under a clock that is moved by hand. Gets a program that is whatever the test says; gives the outcomes.
 */
import { describe, expect, test } from "bun:test";
import { Probation } from "#appliance/probation.ts";
import { Trials } from "#appliance/trials.ts";
import { ManualClock } from "#clock.ts";
import { address, type Decision, type Edit, type FaultReport, type Outcome, type TrialId } from "#fault.ts";
import type { Probe } from "#monitor/probes.ts";
import { TaskGroup } from "#tasks.ts";
import { report } from "../reports.ts";

const limits = { probationMs: 2000, quietMs: 100 };
const fault = report([{ name: "deref" }, { name: "command", by: "pointer" }, { name: "loop" }, { name: "main" }], {
  spine: 2,
});
const decision: Decision = {
  trial: "fault-1.1" as TrialId,
  edit: { kind: "abandon", rung: "abandon", point: { frame: 1, returnValue: -1n } },
  key: "abandon somewhere=-1",
  session: null,
  cut: false,
  reason: "test",
  past: [],
};

function stage(probes: readonly Probe[] = [], its: Partial<FaultReport> = {}, edit: Edit = decision.edit) {
  const clock = new ManualClock();
  const program = {
    alive: true,
    thread: "busy" as "idle" | "busy" | "gone",
    blocked: 5,
    leftovers: { waiters: 0, released: 0 },
    unserved: null as string | null,
    midChange: false,
    cutFromWork: false,
    waiting: false,
  };
  const outcomes: Outcome[] = [];
  const trials = new Trials([]);
  const tasks = new TaskGroup();
  const life = {
    isAlive: () => program.alive,
    threadState: () => program.thread,
    timesBlocked: () => program.blocked,
    isWaiting: () => program.waiting,
    leftovers: () => program.leftovers,
    unserved: async () => program.unserved,
    isTorn: (_report: unknown, _decision: unknown, released: boolean) =>
      (released && program.midChange) || program.cutFromWork,
  };
  const probation = new Probation(life, probes, limits, trials, tasks, clock, (outcome) => outcomes.push(outcome));
  probation.begin({ ...fault, ...its }, { ...decision, edit }, { rung: "abandon", cutFailure: null }, 900);
  return { clock, program, outcomes, trials, probation };
}

test("idle again and quiet since: clean, long before the end of probation", async () => {
  const { clock, program, outcomes, trials } = stage();
  program.thread = "idle";
  await clock.advance(150);
  await clock.advance(150);
  expect(outcomes.map((outcome) => [outcome.verdict, outcome.rung, outcome.stopUs])).toEqual([
    ["clean", "abandon", 900],
  ]);
  expect(outcomes[0]!.probationMs).toBeLessThan(300);
  expect(trials.relevantTo(fault)[0]!.verdict).toBe("clean");
});

test("nothing is said before the evidence is there", async () => {
  const { clock, outcomes, probation } = stage();
  await clock.advance(1900);
  expect(outcomes).toEqual([]);
  expect(probation.openTrials).toBe(1);
});

test("a thread that never waits again hangs: failed", async () => {
  const { clock, outcomes } = stage();
  await clock.advance(2100);
  expect(outcomes.map((outcome) => outcome.verdict)).toEqual(["failed"]);
});

test("a thread that went to wait somewhere else at once, and stays there, does not hang", async () => {
  const { clock, program, outcomes } = stage();
  program.waiting = true;
  await clock.advance(2100);
  expect(outcomes.map((outcome) => outcome.verdict)).toEqual(["clean"]);
});

test("a busy thread that waited for something now and then lives: clean at the end of probation", async () => {
  const { clock, program, outcomes } = stage();
  await clock.advance(1000);
  program.blocked += 40;
  await clock.advance(1100);
  expect(outcomes.map((outcome) => outcome.verdict)).toEqual(["clean"]);
});

test("a thread that is idle while requests wait in vain serves nobody: failed", async () => {
  const { clock, program, outcomes } = stage();
  program.thread = "idle";
  program.unserved = "3 requests wait unread";
  await clock.advance(300);
  expect(outcomes.map(({ verdict, evidence }) => [verdict, ...evidence])).toEqual([
    ["failed", "probe failed: 3 requests wait unread"],
  ]);
});

test("a new fault refutes the trial at once, and it has no second outcome", async () => {
  const { clock, program, outcomes, trials, probation } = stage();
  await clock.advance(5);
  probation.refute(trials.relevantTo(fault)[0]!, fault);
  program.thread = "idle";
  await clock.advance(3000);
  expect(outcomes.map((outcome) => outcome.verdict)).toEqual(["failed"]);
});

describe("a process of one connection", () => {
  const leaveAt = address(0x1000n);
  const leave: Edit = { kind: "leave", at: leaveAt };
  const verdicts = (outcomes: readonly Outcome[]): string[] => outcomes.map(({ verdict }) => verdict);

  test("that has left when told to, with an exit code: clean; by a signal: failed", async () => {
    for (const [code, verdict] of [
      [1, "clean"],
      [null, "failed"],
    ] as const) {
      const { clock, program, outcomes, probation } = stage([], { leaveAt }, leave);
      program.alive = false;
      program.thread = "gone";
      await clock.advance(100);
      expect(outcomes).toEqual([]);
      probation.programEnded("as it did", code);
      expect(verdicts(outcomes)).toEqual([verdict]);
    }
  });

  test("that stays although it was told to leave: failed, whatever it does", async () => {
    const { clock, program, outcomes } = stage([], { leaveAt }, leave);
    program.thread = "idle";
    await clock.advance(2100);
    expect(outcomes.map(({ evidence }) => evidence)).toEqual([["the process did not leave when it was told to"]]);
  });

  test("that was helped otherwise and ends with its client: not failed; of any other process that is its end", () => {
    const { outcomes, probation } = stage([], { leaveAt });
    probation.programEnded("exit code 0", 0);
    expect(verdicts(outcomes)).toEqual(["degraded"]);
    const other = stage();
    other.probation.programEnded("exit code 0", 0);
    expect(verdicts(other.outcomes)).toEqual(["failed"]);
  });
});

test("the end of the program fails every open trial", async () => {
  const { outcomes, probation } = stage();
  probation.programEnded("SIGSEGV", null);
  expect(outcomes.map((outcome) => [outcome.verdict, ...outcome.evidence])).toEqual([
    ["failed", "the program ended: SIGSEGV"],
  ]);
});

test("a zombie is no survivor: an idle thread with a failing probe", async () => {
  const { clock, program, outcomes } = stage([async () => "connect to port 1: refused"]);
  program.thread = "idle";
  await clock.advance(300);
  expect(outcomes.map((outcome) => outcome.verdict)).toEqual(["failed"]);
  expect(outcomes[0]!.evidence[0]).toContain("refused");
});

test("a thread that ended is a loss", async () => {
  const { clock, program, outcomes } = stage();
  program.thread = "gone";
  await clock.advance(100);
  expect(outcomes.map((outcome) => outcome.verdict)).toEqual(["degraded"]);
});

test("a lock released for a waiter is a loss; one that cannot be, or that guarded half a change, is a failure", async () => {
  for (const [leftovers, midChange, verdict] of [
    [{ waiters: 0, released: 1 }, false, "degraded"],
    [{ waiters: 2, released: 0 }, false, "failed"],
    [{ waiters: 0, released: 1 }, true, "failed"],
    [{ waiters: 0, released: 0 }, true, "clean"],
  ] as const) {
    const { clock, program, outcomes } = stage();
    Object.assign(program, { thread: "idle", leftovers, midChange });
    await clock.advance(300);
    expect(outcomes.map((outcome) => outcome.verdict)).toEqual([verdict]);
  }
  const { clock, program, outcomes } = stage();
  Object.assign(program, { thread: "idle", cutFromWork: true });
  await clock.advance(300);
  expect(outcomes.map((outcome) => outcome.verdict)).toEqual(["failed"]);
});

test("what nothing was left to be done for has failed at once; what was passed on for other reasons has no outcome", () => {
  const { outcomes, probation } = stage();
  const passed = (reason: "exhausted" | "sentByProcess"): Decision => ({
    ...decision,
    edit: { kind: "deliver", reason },
    reason: "all edits have failed",
  });
  probation.gaveUp(fault, passed("sentByProcess"), 900);
  probation.gaveUp(fault, passed("exhausted"), 900);
  expect(outcomes).toMatchObject([{ rung: "restart", verdict: "failed", stopUs: 900 }]);
  expect(outcomes[0]!.evidence[0]).toBe("all edits have failed");
});
