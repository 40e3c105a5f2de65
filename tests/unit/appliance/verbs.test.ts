// SPDX-License-Identifier: Apache-2.0
/**
 * Orders from outside, carried out or refused with a reason: every verb of the vocabulary that is not telemetry's own, and
 * settings that are on trial. Gets requests; needs no machine.
 */
import { describe, expect, test } from "bun:test";
import { LiveSettings, wholeSetting } from "#appliance/liveSettings.ts";
import { SuppressionSwitch } from "#appliance/suppressionSwitch.ts";
import { executeVerb, type VerbPorts } from "#appliance/verbs.ts";
import { eitherOrders } from "#appliance/workloadOrders.ts";
import { ManualClock } from "#clock.ts";
import { HypervisorError } from "#errors.ts";
import { defaultPolicy } from "#suppression/plan.ts";
import { isOwnVerb } from "#telemetry/ownVerbs.ts";
import {
  type VerbArguments,
  type VerbJob,
  type VerbName,
  type VerbResult,
  type VerbScalar,
  verbNames,
} from "#verbs.ts";

function openSettings(kept = new Map<string, unknown>(), clock = new ManualClock()) {
  const applied: VerbScalar[] = [];
  const learn = (name: string, value: unknown): void =>
    void (value === null ? kept.delete(name) : kept.set(name, value));
  const storage = { learned: new Map(kept), learn, event: () => {} };
  const live = {
    pace: { usual: 5, check: wholeSetting(1, 10), apply: (value: VerbScalar) => void applied.push(value) },
  };
  return { settings: new LiveSettings(live, { "box.name": "b" }, storage, clock), applied, kept, clock };
}

function scene(changes: Partial<VerbPorts> = {}) {
  const clock = new ManualClock();
  const done: string[] = [];
  const noted = (act: string) => (name: string) => Promise.resolve(void done.push(`${act} ${name}`));
  const orders = {
    ...{ names: ["g", "p"], restart: noted("restart"), hold: noted("hold"), release: noted("release") },
    checkpoint: async (name: string) => ({ checkpoint: `${name}-1` }),
    restore: async (name: string, checkpoint: string | null) => void done.push(`restore ${name} ${checkpoint}`),
  };
  const ports: VerbPorts = {
    ...{ orders, suppression: new SuppressionSwitch(clock), settings: openSettings().settings },
    ...{ diagnose: () => ({ well: true }), maintenance: (on, by) => void done.push(`maintenance ${on} ${by}`) },
    update: {
      install: async (job) => void done.push(`install ${job.request.id}`),
      rollback: (by) => void done.push(`rollback ${by}`),
    },
    reboot: async (job) => void done.push(`reboot ${job}`),
    wipe: () => void done.push("wipe"),
    wait: (delayMs) => Promise.resolve(void done.push(`wait ${delayMs}`)),
    later: (delayMs, act) => void done.push(`later ${delayMs} ${act.length}`),
    ...changes,
  };
  return { ports, done, clock };
}

async function ask(ports: VerbPorts, verb: VerbName, args: VerbArguments = {}): Promise<VerbResult | null> {
  let result: VerbResult | null = null;
  const job: VerbJob = {
    request: { id: "job-1", verb, args, role: "admin", by: { via: "mqtt", who: "k" }, deadlineMs: 0 },
    signal: new AbortController().signal,
    progress: () => {},
    finish: async (end) => {
      result = end;
    },
  };
  await executeVerb(job, ports);
  return result;
}

describe("verbs", () => {
  test("every verb that is not telemetry's own has an end, or says who tells it", async () => {
    for (const verb of verbNames.filter((name) => !isOwnVerb(name))) {
      const { ports } = scene();
      const result = await ask(ports, verb, { w: "g", on: true, set: {} });
      if (verb === "reboot" || verb === "update.install") expect(result).toBeNull();
      else expect(["succeeded", "failed"]).toContain(result!.kind);
      if (result?.kind === "failed") expect(result.why, verb).not.toContain("not known");
    }
  });

  test("workloads, checkpoints and maintenance are done, and undone after their time", async () => {
    const { ports, done } = scene();
    await ask(ports, "workload.restart", { w: "p" });
    await ask(ports, "workload.hold", { w: "g", for_s: 60 });
    await ask(ports, "maintenance", { on: true, for_s: 5 });
    expect(await ask(ports, "guest.checkpoint", { w: "g" })).toEqual({
      kind: "succeeded",
      result: { checkpoint: "g-1" },
    });
    await ask(ports, "guest.restore", { w: "g", checkpoint: "g-1" });
    await ask(ports, "reboot", { delay_s: 2 });
    expect(done).toEqual([
      ...["restart p", "hold g", "later 60000 0", "maintenance true k (mqtt)", "later 5000 0"],
      ...["restore g g-1", "wait 2000", "reboot job-1"],
    ]);
  });

  test("what goes wrong is an end with the reason; a bug is not", async () => {
    const broken = (error: Error) =>
      scene({ orders: { ...scene().ports.orders, restart: () => Promise.reject(error) } });
    const trouble = broken(new HypervisorError("hypervisor.state", "it is paused")).ports;
    expect(await ask(trouble, "workload.restart", { w: "g" })).toEqual({ kind: "failed", why: "it is paused" });
    expect(ask(broken(new TypeError("oops")).ports, "workload.restart", { w: "g" })).rejects.toThrow("oops");
  });

  test("an order goes to whoever knows the name", async () => {
    const said: string[] = [];
    const lanes = (who: string, ...names: string[]) => {
      const note = async (name: string): Promise<void> => void said.push(`${who} ${name}`);
      return { names, restart: note, hold: note, release: note };
    };
    const orders = eitherOrders(lanes("guests", "g"), lanes("programs", "p"));
    for (const name of ["g", "p", "x"]) await orders.restart(name, new AbortController().signal);
    expect(said).toEqual(["guests g", "programs p", "guests x"]);
  });
});

describe("suppression switched off", () => {
  test("for one, for all, for a time; rungs can be left out everywhere", async () => {
    const { ports, clock } = scene();
    const { suppression } = ports;
    const rungsOf = (name: string): number => suppression.policyOf(name, defaultPolicy).rungs.size;
    expect(await ask(ports, "suppression.off", { w: "x" })).toMatchObject({ kind: "failed" });
    await ask(ports, "suppression.off", { w: "g", for_s: 10 });
    expect([rungsOf("g"), rungsOf("p")]).toEqual([0, 5]);
    await clock.advance(10_001);
    expect(rungsOf("g")).toBe(5);
    await ask(ports, "suppression.off");
    expect(rungsOf("p")).toBe(0);
    await ask(ports, "suppression.on");
    suppression.rungsOff = new Set(["park", "neutralise"]);
    expect(rungsOf("p")).toBe(3);
  });
});

describe("settings on trial", () => {
  test("are refused whole where one is wrong", () => {
    const { settings, applied } = openSettings();
    expect(settings.set({ pace: 6, "box.name": "c" }, null)).toContain("by a restart");
    expect(settings.set({ pace: 11 }, null)).toContain("from 1 to 10");
    expect(settings.set({ speed: 1 }, null)).toContain("no setting");
    expect(applied).toEqual([]);
    expect(settings.effective()).toEqual({ "box.name": "b", pace: 5 });
  });

  test("go back in their time, also over a restart; made again without a limit they stay", async () => {
    const first = openSettings();
    first.settings.set({ pace: 7 }, null);
    first.settings.set({ pace: 8 }, 1_000);
    first.settings.set({ pace: 9 }, 1_000);
    const again = openSettings(first.kept, first.clock);
    expect(again.settings.effective().pace).toBe(9);
    await first.clock.advance(2_000);
    const later = openSettings(again.kept, first.clock);
    expect(later.settings.effective().pace).toBe(7);
    expect(later.applied).toEqual([9, 7]);
    later.settings.set({ pace: 3 }, 1_000);
    later.settings.set({ pace: 3 }, null);
    await first.clock.advance(5_000);
    expect(openSettings(later.kept, first.clock).settings.effective().pace).toBe(3);
  });
});
