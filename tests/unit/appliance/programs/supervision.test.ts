// SPDX-License-Identifier: Apache-2.0
/** The life of a program as a machine: what is started again, when, and when no more. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { faultOfEnd, isWantedBack, programFaultKinds } from "#appliance/programs/programFault.ts";
import {
  newProgram,
  type Program,
  type ProgramEffect,
  type ProgramInput,
  superviseProgram,
} from "#appliance/programs/supervision.ts";
import { attemptsInRow, backoffMs, chooseRestart, jittered } from "#appliance/restart.ts";
import { seededRandom } from "#clock.ts";
import type { RestartPolicy } from "#config/schema.ts";

const policy: RestartPolicy = {
  policy: "onFailure",
  attemptsMax: 3,
  windowMs: 10_000,
  backoffMs: 100,
  backoffMsMax: 1_000,
  quietMs: 2_000,
};
type Bare = ProgramInput extends infer One ? (One extends unknown ? Omit<One, "atMs"> : never) : never;

/** Feeds inputs so many ms apart; gives the state and all effects. */
function drive(inputs: readonly Bare[], { from = newProgram, used = policy, apartMs = 1 } = {}) {
  let state: Program = from;
  const effects: ProgramEffect[] = [];
  for (const [index, input] of inputs.entries()) {
    const step = superviseProgram(state, { ...input, atMs: index * apartMs } as ProgramInput, used);
    if (step.kind === "violation") throw new TypeError(step.reason);
    state = step.state;
    effects.push(...step.effects);
  }
  return { state, effects, kinds: effects.map(({ kind }) => kind) };
}

const start: Bare = { kind: "command", command: "start" };
const died: Bare = { kind: "ended", fault: { kind: "signal", why: "it was ended by SIGSEGV" } };
const zombie: Bare = { kind: "fault", fault: { kind: "zombie", why: "it does not serve" } };
const up: readonly Bare[] = [start, { kind: "started" }, { kind: "serves" }];
const again: readonly Bare[] = [{ kind: "timer" }, { kind: "started" }, { kind: "serves" }];

describe("rung 6", () => {
  test("a program that died of a fault is started again, and the restart is judged", () => {
    const { state, effects } = drive([...up, died, ...again]);
    expect(state.phase).toEqual({ kind: "running", serves: true });
    expect(effects).toEqual([
      { kind: "launch" },
      { kind: "fault", fault: { kind: "signal", why: "it was ended by SIGSEGV" }, act: "restart" },
      { kind: "wait", waitMs: 0 },
      { kind: "launch" },
      { kind: "outcome", verdict: "clean", why: "it was ended by SIGSEGV", downMs: 3 },
    ]);
  });

  test("waits double, and a budget that is used up leads to error", () => {
    const { state, effects } = drive([...up, died, ...again, died, ...again, died, ...again, died]);
    const waits = effects.flatMap((effect) => (effect.kind === "wait" ? [effect.waitMs] : []));
    expect(waits).toEqual([0, 100, 200]);
    expect(state.phase.kind).toBe("error");
    expect(effects.at(-1)).toMatchObject({ kind: "fault", act: "hold" });
    // Only a person clears it.
    for (const input of [{ kind: "timer" }, died, zombie, { kind: "serves" }] as Bare[]) {
      expect(drive([input], { from: state }).state).toEqual(state);
    }
    expect(drive([start], { from: state }).state).toMatchObject({ phase: { kind: "starting" }, attempts: [] });
  });

  test("the waits begin anew after quiet; the budget remembers longer", () => {
    expect(attemptsInRow([0, 500, 5_000], 5_100, policy)).toBe(1);
    expect(attemptsInRow([4_000, 5_000], 5_100, policy)).toBe(2);
    expect(attemptsInRow([4_000, 5_000], 7_000, policy)).toBe(0);
    expect(chooseRestart([0, 500], 3_000, policy)).toEqual({ kind: "again", waitMs: 0 });
    expect(chooseRestart([0, 500, 900], 9_999, policy)).toMatchObject({ kind: "spent" });
    expect(chooseRestart([0, 500, 900], 10_000, policy)).toEqual({ kind: "again", waitMs: 0 });
  });

  test("a wait is drawn out by chance, by a fifth at most", () => {
    const random = seededRandom(7);
    const drawn = Array.from({ length: 200 }, () => jittered(1_000, random));
    expect(Math.min(...drawn)).toBeGreaterThanOrEqual(1_000);
    expect(Math.max(...drawn)).toBeLessThan(1_200);
    expect(new Set(drawn).size).toBeGreaterThan(190);
    expect([0, 1, 2, 5, 900].map((attempts) => backoffMs(attempts, policy))).toEqual([0, 100, 200, 1_000, 1_000]);
  });

  test("a zombie is stopped first, and started again once it is gone", () => {
    const { state, kinds } = drive([...up, zombie]);
    expect(state.phase.kind).toBe("ending");
    expect(kinds).toEqual(["launch", "fault", "stop"]);
    expect(drive([died, ...again], { from: state }).kinds).toEqual(["wait", "launch", "outcome"]);
  });

  test("a restart that does not come so far as to serve has failed, and is followed by the next", () => {
    const exited: Bare = { kind: "ended", fault: { kind: "exitCode", why: "it ended with exit code 1" } };
    const { state, effects } = drive([...up, died, { kind: "timer" }, { kind: "started" }, exited], {
      used: { ...policy, policy: "onFault" },
    });
    expect(effects).toContainEqual({ kind: "outcome", verdict: "failed", why: "it ended with exit code 1", downMs: 3 });
    expect(state.phase.kind).toBe("backoff");
  });
});

describe("what is respected", () => {
  test("a program that was asked to end stays down, however it ends", () => {
    for (const input of [
      { kind: "command", command: "stop" },
      { kind: "asked", why: "asked" },
    ] as Bare[]) {
      expect(drive([...up, input, died]).state.phase.kind).toBe("stopped");
    }
    expect(drive([...up, died, { kind: "asked", why: "asked" }]).state.phase.kind).toBe("stopped");
  });

  test("under onFault a program that never served is not started a second time", () => {
    const used = { ...policy, policy: "onFault" as const };
    expect(drive([start, { kind: "started" }, died], { used }).state.phase.kind).toBe("stopped");
    expect(drive([start, { kind: "started" }, died]).state.phase.kind).toBe("backoff");
  });

  test("which ends are wanted back by which policy", () => {
    const wanted = (name: RestartPolicy["policy"]) =>
      programFaultKinds.filter((kind) => isWantedBack(kind, { policy: name }));
    expect(wanted("always")).toEqual([...programFaultKinds]);
    expect(wanted("onFailure")).toEqual(programFaultKinds.filter((kind) => kind !== "ended"));
    expect(wanted("onFault")).toEqual(["signal", "outOfMemory", "zombie"]);
    expect(wanted("never")).toEqual([]);
  });

  test("how an end is told from a fault", () => {
    const kinds = (code: number | null, signal: string | null, outOfMemory = false) =>
      faultOfEnd({ code, signal }, outOfMemory).kind;
    expect([kinds(0, null), kinds(3, null), kinds(null, null)]).toEqual(["ended", "exitCode", "unseen"]);
    expect([kinds(null, "SIGSEGV"), kinds(null, "SIGABRT")]).toEqual(["signal", "signal"]);
    expect([kinds(null, "SIGKILL"), kinds(null, "SIGKILL", true)]).toEqual(["killed", "outOfMemory"]);
    expect([kinds(null, "SIGTERM"), kinds(null, "SIGUSR1")]).toEqual(["ended", "killed"]);
  });

  test("a command that makes no sense is refused with the state", () => {
    const { state } = drive(up);
    const step = superviseProgram(state, { kind: "command", command: "start", atMs: 9 }, policy);
    expect(step).toEqual({ kind: "violation", reason: "it cannot start now: the program is running" });
  });

  test("a final failure to start is an error at once", () => {
    const { state } = drive([start, { kind: "startFailed", why: "no such program", final: true }]);
    expect(state.phase).toEqual({ kind: "error", why: "no such program" });
  });
});

test("whatever comes, at most one process is wanted, and never more restarts in a window than the budget", () => {
  const fault = fc.constantFrom(...programFaultKinds).map((kind) => ({ kind, why: kind }));
  const input: fc.Arbitrary<Bare> = fc.oneof(
    fc.constantFrom<Bare>({ kind: "started" }, { kind: "serves" }, { kind: "timer" }, { kind: "asked", why: "asked" }),
    fc
      .constantFrom("start", "stop", "restart")
      .map((command): Bare => ({ kind: "command", command: command as "start" })),
    fault.map((what): Bare => ({ kind: "ended", fault: what })),
    fault.map((what): Bare => ({ kind: "fault", fault: what })),
    fc.boolean().map((final): Bare => ({ kind: "startFailed", why: "no", final })),
  );
  fc.assert(
    fc.property(
      fc.array(input, { maxLength: 60 }),
      fc.constantFrom("always", "onFailure", "onFault"),
      (inputs, name) => {
        let state = newProgram;
        let live = 0;
        for (const [index, bare] of inputs.entries()) {
          // The world: what is not there cannot end, and what was not launched does not start.
          if (["started", "startFailed"].includes(bare.kind) && live !== 1) continue;
          if (bare.kind === "ended" && live !== 2) continue;
          const atMs = index * 10;
          const step = superviseProgram(state, { ...bare, atMs } as ProgramInput, {
            ...policy,
            policy: name as "always",
          });
          if (step.kind === "violation") continue;
          if (bare.kind === "started") live = 2;
          if (bare.kind === "startFailed" || bare.kind === "ended") live = 0;
          for (const effect of step.effects) {
            if (effect.kind !== "launch") continue;
            expect(live).toBe(0);
            live = 1;
          }
          state = step.state;
          expect(state.attempts.length).toBeLessThanOrEqual(policy.attemptsMax);
          if (state.phase.kind === "backoff") expect(live).toBe(0);
        }
      },
    ),
    { numRuns: 500 },
  );
});
