// SPDX-License-Identifier: Apache-2.0
/**
 * The life of a guest: each fault ends in its rung, steps escalate, budgets hold, and no walk gets stuck or acts twice.
 */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { faultOfEvent, faultOfLine, type GuestFaultKind } from "#appliance/guests/guestFault.ts";
import { chooseStep } from "#appliance/guests/guestRung.ts";
import {
  type GuestCommand,
  type GuestEffect,
  newGuest,
  type Supervised,
  type SuperviseInput,
  supervise,
} from "#appliance/guests/supervision.ts";
import { attemptsInWindow, backoffMs } from "#appliance/restart.ts";
import type { RestartPolicy } from "#config/schema.ts";
import type { ExitReport } from "#vm/exitReport.ts";

const policy: RestartPolicy = {
  policy: "onFault",
  attemptsMax: 3,
  windowMs: 10_000,
  backoffMs: 100,
  backoffMsMax: 1_000,
  quietMs: 5_000,
};
type Bare = SuperviseInput extends infer One ? (One extends unknown ? Omit<One, "atMs"> : never) : never;

/** Feeds inputs one ms apart; gives the state and all effects. */
function drive(inputs: readonly Bare[], from = newGuest, used = policy, restorable = false) {
  let state: Supervised = from;
  const effects: GuestEffect[] = [];
  for (const [index, input] of inputs.entries()) {
    const step = supervise(state, { ...input, atMs: index } as SuperviseInput, used, { restorable });
    if (step.kind === "violation") throw step;
    state = step.state;
    effects.push(...step.effects);
  }
  return { state, effects, kinds: effects.map((effect) => effect.kind).join(" ") };
}

const command = (name: GuestCommand): Bare => ({ kind: "command", command: name });
const fault = (kind: GuestFaultKind): Bare => ({ kind: "fault", fault: { kind, why: `a ${kind}` } });
const exit = (kind: ExitReport["kind"]): Bare => ({ kind: "ended", report: { kind, why: kind, status: null } });
const up: Bare[] = [command("start"), { kind: "booted" }, { kind: "settled" }];

describe("a guest's life", () => {
  test("start, settle, pause, resume, stop", () => {
    const { state, kinds } = drive([
      ...up,
      command("pause"),
      { kind: "paused" },
      command("resume"),
      { kind: "resumed" },
      { kind: "settled" },
      command("stop"),
      exit("ordered"),
    ]);
    expect(state.phase).toEqual({ kind: "down", why: "stopped on request" });
    expect(kinds).toBe("launch pause resume stop");
  });

  test("a panic is reset; one that comes back before it settles is booted cold", () => {
    const once = drive([...up, fault("panic"), { kind: "timer" }, { kind: "rebooted" }, { kind: "settled" }]);
    expect(once.state.phase.kind).toBe("up");
    expect(once.kinds).toBe("launch fault wait reboot outcome");
    expect(once.effects.at(-1)).toMatchObject({ rung: "reset", verdict: "clean" });
    const twice = drive([
      ...up,
      fault("panic"),
      { kind: "timer" },
      { kind: "rebooted" },
      fault("panic"),
      exit("ordered"),
    ]);
    expect(twice.kinds).toBe("launch fault wait reboot outcome fault kill wait");
    expect(twice.effects[4]).toMatchObject({ rung: "reset", verdict: "failed" });
    expect(twice.state.phase).toEqual({ kind: "waiting", rung: "coldboot" });
  });

  test("with a checkpoint, restore comes between", () => {
    const { state } = drive(
      [...up, fault("hang"), { kind: "timer" }, { kind: "rebooted" }, fault("hang")],
      newGuest,
      policy,
      true,
    );
    expect(state.phase).toMatchObject({ kind: "ending", after: { kind: "start", rung: "restore" } });
    const killed = drive([...up, exit("killed")], newGuest, policy, true);
    expect(killed.state.phase).toEqual({ kind: "waiting", rung: "restore" });
  });

  test("a hypervisor that is gone is started again, a silent one is killed first", () => {
    expect(drive([...up, exit("killed"), { kind: "timer" }]).kinds).toBe("launch fault wait launch");
    expect(drive([...up, fault("hypervisorSilent"), exit("ordered"), { kind: "timer" }]).kinds).toBe(
      "launch fault kill wait launch",
    );
  });

  test("power-off is respected, unless the policy says always", () => {
    expect(drive([...up, exit("powerOff")]).state.phase).toEqual({ kind: "down", why: "powerOff" });
    const always = drive([...up, exit("powerOff"), { kind: "timer" }], newGuest, { ...policy, policy: "always" });
    expect(always.state.phase.kind).toBe("starting");
  });

  test("a guest that resets itself is left alone, and counted", () => {
    const reset: Bare[] = [{ kind: "rebooted" }];
    const once = drive([...up, ...reset]);
    expect(once.state).toMatchObject({ phase: { kind: "booting" }, attempts: [3] });
    const often = drive([...up, ...reset, ...reset, ...reset, ...reset]);
    expect(often.state.phase).toMatchObject({ kind: "ending", after: { kind: "error" } });
  });

  test("out of memory in the guest is noted and left to its probes", () => {
    expect(drive([...up, fault("outOfMemory")])).toMatchObject({
      state: { phase: { kind: "up" } },
      kinds: "launch fault",
    });
  });

  test("the budget holds it down until somebody starts it", () => {
    const round: Bare[] = [exit("killed"), { kind: "timer" }, { kind: "booted" }];
    const { state, effects } = drive([...up, ...round, ...round, ...round, exit("killed")]);
    expect(state.phase).toMatchObject({ kind: "error" });
    expect(effects.filter((effect) => effect.kind === "wait").map((effect) => effect.waitMs)).toEqual([0, 100, 200]);
    expect(drive([command("start")], state).state).toMatchObject({ phase: { kind: "starting" }, attempts: [] });
  });

  test("a start that can never succeed is held at once; another is tried again", () => {
    const failed = (final: boolean): Bare => ({ kind: "startFailed", why: "no /dev/kvm", final });
    expect(drive([command("start"), failed(true)]).state.phase).toEqual({ kind: "error", why: "no /dev/kvm" });
    expect(drive([command("start"), failed(false), { kind: "timer" }]).kinds).toBe("launch fault wait launch");
    expect(drive([command("start"), command("stop"), failed(false)]).state.phase.kind).toBe("down");
  });

  test("commands that make no sense now are refused with the reason", () => {
    for (const name of ["stop", "pause", "resume", "reset"] as const) {
      const step = supervise(newGuest, { ...command(name), atMs: 0 } as SuperviseInput, policy, { restorable: false });
      expect(step).toMatchObject({ kind: "violation" });
    }
  });

  test("a guest found running is not judged by its past", () => {
    expect(drive([{ kind: "adopted", paused: false }, { kind: "settled" }])).toMatchObject({
      state: { phase: { kind: "up" } },
      kinds: "",
    });
    expect(drive([{ kind: "adopted", paused: true }]).state.phase.kind).toBe("paused");
  });
});

describe("random walks", () => {
  const inputs: Bare[] = [
    ...(["start", "stop", "pause", "resume", "reset"] as const).map(command),
    ...(["panic", "hang", "outOfMemory", "hypervisorSilent"] as const).map(fault),
    ...(["killed", "powerOff", "ordered"] as const).map(exit),
    ...(["booted", "settled", "paused", "resumed", "rebooted", "timer"] as const).map((kind) => ({ kind })),
    { kind: "startFailed", why: "x", final: false },
    { kind: "resetFailed", why: "x" },
  ];
  test("one process at a time, bounded attempts, held only when spent", () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...inputs), { maxLength: 80 }), fc.boolean(), (walk, restorable) => {
        let state = newGuest;
        for (const [index, input] of walk.entries()) {
          const step = supervise(state, { ...input, atMs: index } as SuperviseInput, policy, { restorable });
          if (step.kind === "violation") {
            expect(input.kind).toBe("command");
            continue;
          }
          const launches = step.effects.filter((effect) => effect.kind === "launch").length;
          expect(launches).toBe(step.state.phase.kind === "starting" && state.phase.kind !== "starting" ? 1 : 0);
          // A launch only where no process can be left.
          const before = state.phase.kind === "waiting" ? state.phase.rung : state.phase.kind;
          if (launches > 0) expect(["down", "error", "restore", "coldboot"]).toContain(before);
          const ends = step.effects.filter((effect) => effect.kind === "kill" || effect.kind === "stop").length;
          if (ends > 0) expect(step.state.phase.kind).toBe("ending");
          expect(step.state.attempts.length).toBeLessThanOrEqual(policy.attemptsMax + 1);
          if (step.state.phase.kind === "up") expect(step.state.trial).toBeNull();
          state = step.state;
        }
      }),
      { numRuns: 5_000 },
    );
  });
});

describe("how faults show", () => {
  test("lines of the console", () => {
    expect(faultOfLine("[    1.234] Kernel panic - not syncing: Attempted to kill init!")).toEqual({
      kind: "panic",
      why: "kernel panic: Attempted to kill init!",
    });
    expect(faultOfLine("Out of memory: Killed process 412 (redis-server) total-vm:1kB")?.why).toContain("redis-server");
    expect(faultOfLine("systemd[1]: Reached target multi-user")).toBeNull();
  });
  test("events", () => {
    expect(faultOfEvent({ kind: "guest.panic", what: "panic", sinceStartMs: 1 })?.kind).toBe("panic");
    expect(faultOfEvent({ kind: "guest.panic", what: "crash_loaded", sinceStartMs: 1 })).toBeNull();
    expect(faultOfEvent({ kind: "vm.booted", sinceStartMs: 1 })).toBeNull();
  });
});

describe("budget and backoff", () => {
  test("doubling, with a limit", () => {
    expect([0, 1, 2, 3, 4, 5, 500].map((attempts) => backoffMs(attempts, policy))).toEqual([
      0, 100, 200, 400, 800, 1_000, 1_000,
    ]);
  });
  test("attempts leave the window; a clock that jumps back frees nobody", () => {
    expect(attemptsInWindow([0, 5_000, 9_999], 10_000, policy)).toEqual([5_000, 9_999]);
    expect(attemptsInWindow([50_000], 10_000, policy)).toEqual([50_000]);
  });
  test("never means never", () => {
    const situation = { fault: "panic", onTrial: null, restorable: true, attempts: [], nowMs: 0 } as const;
    expect(chooseStep(situation, { ...policy, policy: "never" })).toEqual({ kind: "stayDown" });
  });
});
