// SPDX-License-Identifier: Apache-2.0
/**
 * Updates of a box that is a folder: installed by a stand-in for RAUC, tried, proven or sent back, held back by a lock.
 */
import { afterEach, describe, expect, test } from "bun:test";
import { existsSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fresh } from "#appliance/page/workloadBook.ts";
import { beginGate, type GateCheck, gateTimes, stepGate } from "#appliance/update/gate.ts";
import { Rauc } from "#appliance/update/rauc.ts";
import type { Slot } from "#appliance/update/slotEnvironment.ts";
import { runTrial, type TrialPorts } from "#appliance/update/trial.ts";
import { Updates, type UpdatesOptions } from "#appliance/update/updates.ts";
import { compareVersions } from "#appliance/update/versions.ts";
import { ManualClock } from "#clock.ts";
import { UpdateError } from "#errors.ts";
import type { MonitorView } from "#health.ts";
import { silentLog } from "#log.ts";
import type { WorkloadTold } from "#status/told.ts";
import { SlottedTree } from "#tests/peers/slottedTree.ts";

const never = new AbortController().signal;
const before = { workloads: ["redis"], brokerSeen: true };

/** Bundles of the stand-in have no payload; that of real ones is looked at in bundles.test.ts. */
class ToolOfFake extends Rauc {
  override checkWhole = async (): Promise<void> => {};
}

/** One supervisor on the box: its updates, what it told, and whether it wants a restart. */
class Supervisor implements AsyncDisposable {
  readonly told: string[] = [];
  readonly ends: string[] = [];
  readonly restarted = Promise.withResolvers<void>();
  readonly clock: ManualClock;
  readonly updates: Updates;
  busy: string | null = null;

  constructor(tree: SlottedTree, clock = new ManualClock(), change: Partial<UpdatesOptions> = {}) {
    this.clock = clock;
    const box = tree.box;
    this.updates = new Updates({
      ...{ box, tool: new ToolOfFake(box.toolConfig, tree.tool), clock, log: silentLog },
      boot: { id: `boot-${tree.boots}`, why: "the kernel left dmesg-1 in pstore" },
      tell: (event, { why, reason }) =>
        void this.told.push(`${event}${(reason ?? why) === undefined ? "" : ` ${reason ?? why}`}`),
      restart: async () => this.restarted.resolve(),
      before: () => before,
      busy: () => this.busy,
      ...change,
    });
    this.updates.onEnd(({ job, why }) => void this.ends.push(`${job} ${why ?? "succeeded"}`));
    this.updates.begin();
  }

  get phase() {
    return this.updates.book.phase;
  }

  /** Resolves once the phase is one of these. */
  async reach(...kinds: string[]): Promise<void> {
    while (!kinds.includes(this.phase.kind)) {
      const changed = Promise.withResolvers<void>();
      this.updates.onChange(changed.resolve);
      if (!kinds.includes(this.phase.kind)) await changed.promise;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.updates[Symbol.asyncDispose]();
  }
}

let tree: SlottedTree;
const begin = (version = "1.0"): SlottedTree => {
  tree = new SlottedTree(version);
  tree.powerOn();
  return tree;
};
afterEach(() => tree[Symbol.dispose]());

const install = async (supervisor: Supervisor, path: string, job: string | null = null): Promise<void> => {
  await supervisor.updates.install({ path, olderToo: false, job }, never, () => {});
  await supervisor.reach("installed", "failed");
};

describe("an update", () => {
  test("installed, waits for lock and work, restarts, is proven; clean restarts count nothing", async () => {
    begin();
    const path = tree.bundle("two.raucb", { version: "2.0" });
    await using first = new Supervisor(tree);
    first.busy = "a checkpoint is being taken";
    await install(first, path, "job-1");
    first.updates.give({ kind: "lock", lock: { why: "audit", by: "ada", atMs: 0, untilMs: null } });
    await first.clock.advance(4_000);
    expect(first.updates.waitsFor).toBe("held back by ada: audit");
    first.updates.give({ kind: "lock", lock: null });
    await first.clock.advance(4_000);
    expect(first.updates.waitsFor).toBe("a checkpoint is being taken");
    first.busy = null;
    await first.clock.advance(4_000);
    await first.restarted.promise;
    expect(tree.powerOn().slot).toBe("B");
    {
      await using again = new Supervisor(tree);
      expect(again.phase).toMatchObject({ kind: "trial", version: "2.0", starts: 1, before });
      expect(existsSync(join(tree.box.recordsDirectory, "trial"))).toBe(true);
    }
    for (let start = 0; start < 4; start += 1) {
      expect(tree.powerOn().slot).toBe("B");
      await using again = new Supervisor(tree);
      expect(again.phase.kind).toBe("trial");
    }
    tree.powerOn();
    await using last = new Supervisor(tree);
    last.updates.give({ kind: "passed" });
    expect(last.phase).toMatchObject({ kind: "good", version: "2.0", slot: "B" });
    expect(last.updates.slots).toEqual({ order: ["B", "A"], ok: { A: true, B: true }, tries: { A: 0, B: 0 } });
    expect(last.ends).toEqual(["job-1 succeeded"]);
    expect(existsSync(join(tree.box.recordsDirectory, "trial"))).toBe(false);
  });

  test("a slot that never comes up, or stays silent, is told with its reason and refused", async () => {
    for (const silence of [null, "no supervisor came up within 15 minutes"]) {
      begin();
      const path = tree.bundle("two.raucb", { version: "2.0" });
      {
        await using first = new Supervisor(tree);
        await install(first, path, "job-2");
      }
      if (silence !== null) tree.put("state/update/silence", `${silence}\n`);
      expect(tree.powerOn(["B"]).slot).toBe("A");
      await using back = new Supervisor(tree);
      const told = back.told.join("; ");
      expect(told).toContain(silence ?? "slot B was started 3 times and Holdfast never came up in it");
      expect(told).toContain("update.rolledBack");
      expect(told).toContain("dmesg-1");
      expect(back.ends[0]).toStartWith("job-2 start:");
      expect(back.updates.install({ path, olderToo: false, job: null }, never, () => {})).rejects.toThrow(
        "version 2.0 failed here",
      );
      if (silence === null) tree[Symbol.dispose]();
    }
  });

  test("what may not be installed is refused in words", async () => {
    begin("1.2");
    await using supervisor = new Supervisor(tree);
    const ask = async (bundle: { version: string; compatible?: string }, olderToo = false): Promise<string> => {
      const order = { path: tree.bundle("x.raucb", bundle), olderToo, job: null };
      try {
        await supervisor.updates.install(order, never, () => {});
        return "begun";
      } catch (error) {
        if (!(error instanceof UpdateError)) throw error;
        return `${error.code} ${error.message}`;
      }
    };
    expect(await ask({ version: "1.1.9" })).toStartWith("update.older version 1.1.9 is not newer than 1.2");
    expect(await ask({ version: "1.2" })).toStartWith("update.older");
    expect(await ask({ version: "1.3", compatible: "toaster" })).toBe(
      "update.compatible the bundle is for toaster, and this box is holdfast-test",
    );
    expect(await ask({ version: "no version" })).toStartWith("update.bundle");
    supervisor.updates.give({ kind: "lock", lock: { why: "audit", by: "ada", atMs: 0, untilMs: null } });
    expect(await ask({ version: "1.3" })).toBe("update.state updates are held back by ada: audit");
    expect(supervisor.phase.kind).toBe("idle");
  });

  test("a bundle that breaks while it is written leaves the box as it is, and may come again", async () => {
    begin();
    await using supervisor = new Supervisor(tree);
    await install(supervisor, tree.bundle("two.raucb", { version: "2.0", breaks: true }), "job-3");
    expect(supervisor.phase).toMatchObject({ kind: "failed", stage: "install", version: "2.0" });
    expect(supervisor.ends[0]).toContain("Failed to write: Input/output error");
    expect(supervisor.updates.book.refused).toEqual([]);
    expect(tree.powerOn().slot).toBe("A");
    await install(supervisor, tree.bundle("two.raucb", { version: "2.0" }));
    expect(supervisor.phase.kind).toBe("installed");
  });

  test("a lost environment and a damaged record: told, mended, and the box goes on", async () => {
    begin();
    {
      await using first = new Supervisor(tree);
      await install(first, tree.bundle("two.raucb", { version: "2.0" }));
    }
    truncateSync(tree.environmentPath, 0);
    expect(tree.powerOn().slot).toBe("A");
    {
      await using lost = new Supervisor(tree);
      expect(lost.told).toEqual(["update.rearmed"]);
      expect(lost.updates.slots.order).toEqual(["B", "A"]);
    }
    writeFileSync(join(tree.box.recordsDirectory, "book.json"), "{");
    expect(tree.powerOn().slot).toBe("B");
    await using empty = new Supervisor(tree);
    expect(empty.told).toEqual(["update.recordLost"]);
    expect(empty.phase.kind).toBe("idle");
    expect(empty.updates.slots.tries.B).toBe(0);
  });

  test("a disk that takes no record: orders are refused, what has happened goes on", async () => {
    begin();
    await using supervisor = new Supervisor(tree);
    const path = tree.bundle("two.raucb", { version: "2.0" });
    await install(supervisor, path);
    tree.powerOn();
    const { recordsDirectory } = tree.box;
    await Bun.$`rm -rf ${recordsDirectory}`.quiet();
    writeFileSync(recordsDirectory, "in the way");
    await using ill = new Supervisor(tree);
    expect(ill.told[0]).toStartWith("update.notRecorded");
    expect(() => ill.updates.give({ kind: "lock", lock: null })).toThrow(UpdateError);
  });
});

describe("the gate", () => {
  const good: GateCheck = { name: "readyz", good: true, says: "ok" };
  const bad: GateCheck = { name: "readyz", good: false, says: "redis is down" };
  const walk = (checkAt: (second: number) => GateCheck): string => {
    let state = beginGate(0, 60_000, gateTimes);
    for (let second = 0; ; second += 5) {
      const step = stepGate(state, [checkAt(second)], second * 1000, gateTimes);
      state = step.state;
      if (step.verdict.kind === "passed") return `passed at ${second}`;
      if (step.verdict.kind === "refused") return `${step.verdict.check}: ${step.verdict.why} at ${second}`;
    }
  };

  test("two minutes without a break, within ten from the start of the box", () => {
    expect(walk(() => good)).toBe("passed at 120");
    expect(walk((second) => (second === 100 ? bad : good))).toBe("passed at 225");
    expect(walk(() => bad)).toBe("readyz: redis is down at 540");
    expect(walk((second) => (second % 100 === 0 ? bad : good))).toBe("readyz: redis is down at 540");
    expect(walk((second) => (second < 450 ? bad : good))).toBe("readyz: redis is down at 540");
    expect(beginGate(0, 3_600_000, gateTimes).untilMs).toBe(gateTimes.leastMs);
  });

  const workload = (change: Partial<WorkloadTold>): WorkloadTold => ({
    ...{ ...fresh("redis"), state: "guarded", pid: 1, threads: 1, protected: true },
    ...change,
  });

  /** What of the supervisor is wrong, and the reason that the box then gives after it went back. */
  const cases: readonly (readonly [string, Partial<TrialPorts>, string, number?])[] = [
    ["the clock is before the build", {}, "clock: it shows 2023", 4e12],
    ["not ready", { ready: async () => [{ name: "journal", good: false, says: "blind" }] }, "journal: blind"],
    ["a workload is gone", { workloads: () => [] }, "workload redis: it was up before the update and is gone"],
    [
      "a workload is down",
      { workloads: () => [workload({ state: "down", why: "it ended" })] },
      "workload redis: down: it ended",
    ],
    ["the self-test fails", { testSelf: async () => "gdbserver: not found" }, "self-test: gdbserver: not found"],
    [
      "nothing can be written",
      { proveWrites: () => Promise.reject(new UpdateError("update.state", "full")) },
      "record: full",
    ],
    ["the broker is away", { brokerConnected: () => false }, "broker: it was heard before the update"],
    [
      "a probe fails",
      { view: () => viewWith({ probe: "redis:6379", state: "failing", why: "refused" }) },
      "workload redis: probe redis:6379 is failing: refused",
    ],
  ];
  const viewWith = (probe: { probe: string; state: string; why: string } | null): MonitorView =>
    ({
      workloads: [{ health: { workload: "redis", probes: probe === null ? [] : [probe] } }],
    }) as unknown as MonitorView;

  const trial = async (change: Partial<TrialPorts>, builtAtMs?: number): Promise<Supervisor> => {
    begin();
    tree.builtAtMs = builtAtMs ?? tree.builtAtMs;
    {
      await using first = new Supervisor(tree);
      await install(first, tree.bundle("two.raucb", { version: "2.0" }));
    }
    expect(tree.powerOn().slot).toBe("B");
    const supervisor = new Supervisor(tree);
    const ports: TrialPorts = {
      ...{ clock: supervisor.clock, upMs: () => 60_000, ready: async () => [good], workloads: () => [workload({})] },
      ...{ view: () => viewWith(null), testSelf: async () => null, proveWrites: async () => {} },
      ...{ brokerConnected: () => true, ...change },
    };
    let done = false;
    const ended = runTrial(supervisor.updates, ports, never).then(() => {
      done = true;
    });
    for (let second = 0; second < 700 && !done; second += 5) {
      await supervisor.clock.advance(5_000);
      for (let turn = 0; turn < 20 && !done; turn += 1) await Promise.resolve();
    }
    await ended;
    return supervisor;
  };

  test("all is well: proven", async () => {
    await using supervisor = await trial({});
    expect(supervisor.phase.kind).toBe("good");
    expect(supervisor.updates.lacks).toBeNull();
  });

  for (const [name, change, reason, builtAtMs] of cases) {
    test(`${name}: sent back with that reason, which the other slot tells`, async () => {
      {
        await using supervisor = await trial(change, builtAtMs);
        expect(supervisor.updates.lacks).toStartWith(reason);
        await supervisor.restarted.promise;
      }
      const slot: Slot = tree.powerOn().slot;
      expect(slot).toBe("A");
      await using back = new Supervisor(tree);
      expect(back.told).toEqual([expect.stringContaining(`update.rolledBack ${reason}`)]);
      expect(back.updates.book.lastRollback?.reason).toStartWith(reason);
    });
  }

  test("a clock before the build", async () => {
    begin();
    tree.put(
      "usr/lib/holdfast/image.json",
      JSON.stringify({ version: "1.0", compatible: "holdfast-test", builtAtMs: 4e12 }),
    );
    expect(tree.box.image.builtAtMs).toBe(4e12);
  });
});

test("versions in order", () => {
  const ordered = ["0.9", "1.0~rc1", "1.0", "1.0.1", "1.2", "1.10", "1.10+20261101", "1.10+20261123", "2"];
  for (const [index, version] of ordered.entries()) {
    for (const [other, word] of ordered.entries()) {
      expect(Math.sign(compareVersions(version, word))).toBe(Math.sign(index - other));
    }
  }
  tree = new SlottedTree("1");
});
