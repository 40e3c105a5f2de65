// SPDX-License-Identifier: Apache-2.0
/** What is to be counted on machines of several kinds, and what is said where something is not there. */
import { expect, test } from "bun:test";
import { counterEvents } from "#health.ts";
import { abilitiesOf } from "#monitor/counters/abilities.ts";
import { type EventPlan, planEvents, readConfig } from "#monitor/counters/eventPlan.ts";
import { isVirtualProcessor, readExits, withoutDeadExits } from "#monitor/counters/kvmStatistics.ts";
import { refusalOf } from "#monitor/counters/refusals.ts";
import { fixtureBox } from "#tests/peers/fixtureBox.ts";

const sources = "/sys/bus/event_source/devices";
const pmu = (name: string, type: number, events: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries([
    [`${sources}/${name}/type`, `${type}`],
    ...Object.entries(events).map(([event, number]) => [`${sources}/${name}/events/${event}`, `event=${number}`]),
  ]);
const words = ({ groups }: EventPlan): string[] =>
  groups.map(
    ({ cluster, kind, events }) =>
      `${kind} ${cluster} ${events.map((each) => `${each.event}=${each.type}:${each.config}`).join(" ")}`,
  );

test("big.LITTLE: PMUv3 names, each cluster apart, what a PMU does not list is absent", () => {
  const plan = planEvents(
    fixtureBox({
      ...pmu("armv8_cortex_a55", 8, {
        cpu_cycles: "0x0011",
        inst_retired: "0x0008",
        l2d_cache_refill: "0x0017",
        br_mis_pred: "0x0010",
      }),
      ...pmu("armv8_cortex_a76", 9, {
        cpu_cycles: "0x0011",
        inst_retired: "0x0008",
        ll_cache_miss_rd: "0x0037",
        l2d_cache_refill: "0x0017",
        br_mis_pred: "0x0010",
        stall_frontend: "0x0023",
        stall_backend: "0x0024",
      }),
    }),
  );
  expect(words(plan)).toEqual([
    "software  task_clock=1:1 page_faults=1:2 major_faults=1:6 context_switches=1:3 migrations=1:4",
    "hardware cortex_a55 cycles=8:17 instructions=8:8 cache_misses=8:23 branch_misses=8:16",
    "hardware cortex_a76 cycles=9:17 instructions=9:8 cache_misses=9:55 branch_misses=9:16",
    "hardware cortex_a76 stalled_frontend=9:35 stalled_backend=9:36",
  ]);
  const missing = plan.absent.map(({ event, cluster, reason }) => `${cluster} ${event}: ${reason.why}`);
  expect(missing).toContain("cortex_a55 stalled_frontend: the PMU armv8_cortex_a55 does not list stall_frontend");
  expect(missing.length).toBe(3);
});

test("an emulated PMU that counts cycles only: all else is absent, with the reason", () => {
  const plan = planEvents(fixtureBox(pmu("armv8_pmuv3_0", 7, { cpu_cycles: "0x0011", sw_incr: "0x0000" })));
  expect(words(plan)[1]).toBe("hardware  cycles=7:17");
  const { kind, events } = abilitiesOf(plan, []);
  expect(kind).toBe("hardware");
  expect([...new Set(events.map(({ event }) => event))].sort()).toEqual([...counterEvents].sort());
  for (const event of [
    "instructions",
    "cache_misses",
    "branch_misses",
    "stalled_frontend",
    "stalled_backend",
  ] as const) {
    const { state } = events.find((each) => each.event === event)!;
    expect(state.kind === "absent" && state.why).toContain("does not list");
  }
});

test("x86: generic events, with the PMU in the upper half where cores differ", () => {
  expect(words(planEvents(fixtureBox(pmu("cpu", 4, {}))))[1]).toBe(
    "hardware  cycles=0:0 instructions=0:1 cache_misses=0:3 branch_misses=0:5",
  );
  const hybrid = words(planEvents(fixtureBox({ ...pmu("cpu_core", 4, {}), ...pmu("cpu_atom", 10, {}) })));
  expect(hybrid[1]).toStartWith(`hardware cpu_atom cycles=0:${10n << 32n}`);
  expect(hybrid[3]).toStartWith(`hardware cpu_core cycles=0:${4n << 32n}`);
});

test("no PMU, no tracepoint: software events, and why not more", () => {
  const plan = planEvents(fixtureBox({}));
  const { kind, why, advice } = abilitiesOf(plan, []);
  expect(kind).toBe("software");
  expect(why).toContain("shows no PMU");
  expect(advice).toContain("pmu=on");
  expect(plan.absent.find(({ event }) => event === "kvm_exits")?.reason.advice).toContain("mount tracefs");
  const traced = planEvents(fixtureBox({ "/sys/kernel/tracing/events/kvm/kvm_exit/id": "103" }));
  expect(words(traced).at(-1)).toBe("tracepoint  kvm_exits=2:103");
});

test("a refusal names the setting that would allow it", () => {
  const box = fixtureBox({ "/proc/sys/kernel/perf_event_paranoid": "4" });
  expect(refusalOf("cycles", 13, box)).toEqual({
    kind: "absent",
    why: "not permitted: kernel.perf_event_paranoid is 4",
    advice: "CAP_PERFMON, or sysctl kernel.perf_event_paranoid=1",
  });
  expect(refusalOf("cycles", 24, box).advice).toContain("LimitNOFILE");
  expect(refusalOf("cycles", 2, box).why).toContain("does not count cycles");
  expect(refusalOf("cycles", 77, box).why).toContain("77");
});

test("a PMU's event numbers", () => {
  expect(["event=0x11", "event=0x0011", "event=0x3c,umask=0x1", "", "x"].map(readConfig)).toEqual([
    17n,
    17n,
    null,
    null,
    null,
  ]);
});

test("exits by KVM's own statistics", () => {
  const at = "/sys/kernel/debug/kvm";
  const files = {
    [`${at}/700-12/exits`]: "9",
    [`${at}/700-12/io_exits`]: "4",
    [`${at}/700-12/halt_poll_success`]: "7",
    [`${at}/701-12/exits`]: "1",
  };
  expect(readExits(fixtureBox(files), 700)).toEqual({ kind: "seen", value: { exits: 9, io_exits: 4 } });
  // Cloud Hypervisor makes the virtual machine in another thread than its first.
  const tasks = { "/proc/699/task/699/comm": "cloud-hyperviso", "/proc/699/task/700/comm": "vmm" };
  expect(readExits(fixtureBox({ ...files, ...tasks }), 699)).toEqual({
    kind: "seen",
    value: { exits: 9, io_exits: 4 },
  });
  expect(readExits(fixtureBox({ [`${at}/9-3/pf_taken`]: "1" }), 9)).toMatchObject({
    kind: "absent",
    why: expect.stringContaining("refuses"),
  });
  expect(readExits(fixtureBox(files), 5)).toMatchObject({
    kind: "absent",
    why: "process 5 has no virtual machine of KVM",
  });
  expect(readExits(fixtureBox({}), 5)).toMatchObject({ advice: expect.stringContaining("mount debugfs") });
  expect(["vcpu0", "CPU 1/KVM", "vcpu", "vmm", "_console"].map(isVirtualProcessor)).toEqual([
    true,
    true,
    false,
    false,
    false,
  ]);
});

test("a tracepoint that the kernel lists and never passes is not told as no exits", () => {
  const reading = { event: "kvm_exits", cluster: "", total: 0, runningRatio: 1 } as const;
  const clock = { event: "task_clock", cluster: "", total: 0, runningRatio: 1 } as const;
  expect(withoutDeadExits([reading, clock], 0.5)).toEqual([reading, clock]);
  expect(withoutDeadExits([reading, clock], 20)).toEqual([{ ...reading, total: null }, clock]);
  expect(withoutDeadExits([{ ...reading, total: 1 }], 20)).toEqual([{ ...reading, total: 1 }]);
});
