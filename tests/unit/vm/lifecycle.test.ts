// SPDX-License-Identifier: Apache-2.0
/**
 * The VM's lifecycle: calls lead where the real one goes, late events never win over answers, random walks stay sane.
 */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { illegal, startState, stepVm, type VmInput, type VmState } from "#vm/lifecycle.ts";
import type { MonitorEvent } from "#vm/monitorEvent.ts";
import { type CallName, routes } from "#vm/restCalls.ts";

const calls = Object.keys(routes) as CallName[];

function walk(state: VmState, ...inputs: VmInput[]): VmState {
  for (const input of inputs) {
    const step = stepVm(state, input);
    if (step.kind === "violation") return state;
    state = step.state;
  }
  return state;
}

const done = (call: CallName): VmInput[] => [
  { kind: "send", call },
  { kind: "answered", call },
];
const event = (kind: "vm.paused" | "vm.resumed" | "vm.rebooted" | "vm.migration-failed"): VmInput => ({
  kind: "event",
  event: { kind, sinceStartMs: 1 } as MonitorEvent,
});
const running = walk(startState, { kind: "started" }, ...done("vm.create"), ...done("vm.boot"));

describe("lifecycle", () => {
  test("create, boot, pause, resume, shutdown, delete", () => {
    expect(running.kind).toBe("running");
    const paused = walk(running, ...done("vm.pause"));
    expect(paused.kind).toBe("paused");
    expect(walk(paused, ...done("vm.resume")).kind).toBe("running");
    expect(walk(paused, ...done("vm.shutdown")).kind).toBe("created");
    expect(walk(paused, ...done("vm.delete")).kind).toBe("empty");
    expect(walk(paused, { kind: "exited" }).kind).toBe("absent");
  });

  test("an event that is later than our own call asks instead of deciding", () => {
    const step = stepVm(running, event("vm.paused"));
    expect(step).toEqual({ kind: "next", state: running, effects: [{ kind: "ask" }] });
    expect(stepVm(running, event("vm.rebooted"))).toEqual({ kind: "next", state: running, effects: [] });
  });

  test("a failed call is not believed either way until vm.info has answered", () => {
    const created = walk(startState, { kind: "started" }, ...done("vm.create"));
    const step = stepVm(created, { kind: "failed", call: "vm.boot" });
    expect(step).toEqual({ kind: "next", state: { kind: "unsure" }, effects: [{ kind: "ask" }] });
    expect(illegal({ kind: "unsure" }, "vm.boot")).toContain("unsure");
    expect(illegal({ kind: "unsure" }, "vm.delete")).toBeNull();
    expect(walk({ kind: "unsure" }, { kind: "info", state: "Created" }).kind).toBe("created");
    expect(walk({ kind: "unsure" }, { kind: "info", state: null }).kind).toBe("empty");
    expect(stepVm(running, { kind: "failed", call: "vm.info" })).toEqual({ kind: "next", state: running, effects: [] });
  });

  test("a declined migration leaves the VM as it was", () => {
    for (const before of [running, walk(running, ...done("vm.pause"))]) {
      const sending = walk(before, ...done("vm.send-migration"));
      expect(sending.kind).toBe("migrating");
      expect(walk(sending, event("vm.paused"), event("vm.resumed")).kind).toBe("migrating");
      expect(illegal(sending, "vm.pause")).toContain("migrating");
      expect(walk(sending, event("vm.migration-failed")).kind).toBe(before.kind);
    }
  });

  test("the end of a migration may be known before its call is answered", () => {
    const inputs: VmInput[] = [
      { kind: "send", call: "vm.send-migration" },
      event("vm.migration-failed"),
      { kind: "answered", call: "vm.send-migration" },
    ];
    expect(walk(running, ...inputs).kind).toBe("running");
    const sending = walk(running, inputs[0]!);
    expect(walk(sending, { kind: "failed", call: "vm.send-migration" }).kind).toBe("running");
    // An event that got lost: vm.info settles it, once the counters are given again.
    expect(walk(sending, { kind: "info", state: "Running", migrating: true }).kind).toBe("migrating");
    expect(walk(sending, { kind: "info", state: "Paused" }).kind).toBe("paused");
  });

  test("receiving holds every other call back", () => {
    const receiving = walk(startState, { kind: "started" }, { kind: "send", call: "vm.receive-migration" });
    expect(receiving.kind).toBe("receiving");
    for (const call of calls) {
      const free = call === "vmm.ping" || call === "vmm.shutdown";
      expect(illegal(receiving, call) === null).toBe(free);
    }
  });

  test("random walks: no call without a process, running only by a boot, violations change nothing", () => {
    const input = fc.oneof(
      fc.constantFrom<VmInput>({ kind: "started" }, { kind: "exited" }),
      fc.constantFrom(...calls).map((call): VmInput => ({ kind: "send", call })),
      fc.constantFrom(...calls).map((call): VmInput => ({ kind: "answered", call })),
      fc.constantFrom(...calls).map((call): VmInput => ({ kind: "failed", call })),
      fc.constantFrom("Created", "Running", "Paused", null).map((state) => ({ kind: "info", state }) as VmInput),
      fc
        .constantFrom("vm.paused", "vm.resumed", "vm.rebooted", "vm.migration-failed")
        .map((kind) => event(kind as "vm.paused")),
    );
    fc.assert(
      fc.property(fc.array(input, { maxLength: 60 }), (inputs) => {
        let state = startState;
        for (const item of inputs) {
          const step = stepVm(state, item);
          if (step.kind === "violation") {
            expect(item.kind === "started" || item.kind === "send").toBe(true);
            continue;
          }
          if (item.kind === "send") expect(illegal(state, item.call)).toBeNull();
          if (item.kind === "exited") expect(step.state.kind).toBe("absent");
          if (state.kind === "absent" && item.kind !== "started") expect(step.state.kind).toBe("absent");
          if (item.kind === "event" && state.kind !== "migrating") expect(step.state).toEqual(state);
          state = step.state;
        }
      }),
      { numRuns: 2_000 },
    );
  });
});
