// SPDX-License-Identifier: Apache-2.0
/**
 * Which events are to be counted on this machine, and in which groups. Gets a box; gives groups of kernel event numbers,
 * and for all that is not there the reason. Pure but for the box.
 *
 * x86: the kernel's generic hardware events, once for each kind of core. AArch64: the PMU's own list under PMUv3 names, once
 * for each cluster (big.LITTLE), since an event counts only on the cores of its PMU. Groups stay small enough for the six
 * counters that most processors have, so that the events of one group are on hardware at the same time.
 * Source: perf_event_open(2); sysfs-bus-event_source-devices; Arm ARM, D13.12 (common event numbers).
 */
import type { Box } from "#board/box.ts";
import { type PerfEvent, perfTypes } from "#board/native/perfEvents.ts";
import { type Absent, absent, type CounterEvent } from "#health.ts";

export type PlannedEvent = PerfEvent & { readonly event: CounterEvent };
export type PlannedGroup = {
  /** Name of the PMU where the machine has several kinds of cores, else "". */
  readonly cluster: string;
  readonly kind: "hardware" | "software" | "tracepoint";
  /** What is counted of a thread: what the kernel does for it, too, or not. */
  readonly scope: "user and kernel" | "user";
  readonly events: readonly PlannedEvent[];
};
export type EventPlan = {
  readonly groups: readonly PlannedGroup[];
  readonly absent: readonly { readonly event: CounterEvent; readonly cluster: string; readonly reason: Absent }[];
};

const hardwareGroups: readonly (readonly CounterEvent[])[] = [
  ["cycles", "instructions", "cache_misses", "branch_misses"],
  ["stalled_frontend", "stalled_backend"],
];
/** perf_hw_id */
const genericNumbers: Readonly<Partial<Record<CounterEvent, number>>> = {
  ...{ cycles: 0, instructions: 1, cache_misses: 3, branch_misses: 5, stalled_frontend: 7, stalled_backend: 8 },
};
/** PMUv3 names, the outermost cache first. */
const armNames: Readonly<Partial<Record<CounterEvent, readonly string[]>>> = {
  cycles: ["cpu_cycles"],
  instructions: ["inst_retired"],
  cache_misses: ["ll_cache_miss_rd", "l3d_cache_refill", "l2d_cache_refill", "l1d_cache_refill"],
  branch_misses: ["br_mis_pred_retired", "br_mis_pred"],
  stalled_frontend: ["stall_frontend"],
  stalled_backend: ["stall_backend"],
};
/** perf_sw_ids */
const software: readonly PlannedEvent[] = [
  { event: "task_clock", type: perfTypes.software, config: 1n },
  { event: "page_faults", type: perfTypes.software, config: 2n },
  { event: "major_faults", type: perfTypes.software, config: 6n },
  { event: "context_switches", type: perfTypes.software, config: 3n },
  { event: "migrations", type: perfTypes.software, config: 4n },
];

/** As long as nobody has refused it. */
const scope = "user and kernel";
const sources = "/sys/bus/event_source/devices";
const tracing = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

export function planEvents(box: Box): EventPlan {
  const names = box.names(sources);
  const arm = names.filter((name) => /^armv?8|^arm_pmuv3|^apple_.*_pmu$/.test(name)).sort();
  const cores = names.filter((name) => name === "cpu" || name === "cpu_core" || name === "cpu_atom").sort();
  const parts = [
    ...arm.map((pmu) => armGroups(box, pmu, arm.length > 1 ? clusterName(pmu) : "")),
    ...cores.map((pmu) => genericGroups(box, pmu, cores.length > 1)),
    ...(arm.length + cores.length === 0 ? [noPmu()] : []),
    kvmExits(box),
  ];
  return {
    groups: [{ cluster: "", kind: "software", scope, events: software }, ...parts.flatMap((part) => part.groups)],
    absent: parts.flatMap((part) => part.absent),
  };
}

/** `armv8_cortex_a76` is `cortex_a76`. */
const clusterName = (pmu: string): string => pmu.replace(/^armv\d+_/, "");

function armGroups(box: Box, pmu: string, cluster: string): EventPlan {
  const type = Number(box.text(`${sources}/${pmu}/type`));
  const listed = new Set(box.names(`${sources}/${pmu}/events`));
  const missing: CounterEvent[] = [];
  const groups = hardwareGroups.map((events) =>
    events.flatMap((event): PlannedEvent[] => {
      const name = armNames[event]!.find((known) => listed.has(known));
      const config = name === undefined ? null : readConfig(box.text(`${sources}/${pmu}/events/${name}`) ?? "");
      if (config !== null) return [{ event, type, config }];
      missing.push(event);
      return [];
    }),
  );
  return {
    groups: groups.filter(({ length }) => length > 0).map((events) => ({ cluster, kind: "hardware", scope, events })),
    absent: missing.map((event) => ({
      ...{ event, cluster },
      reason: absent(`the PMU ${pmu} does not list ${armNames[event]!.join(", ")}`),
    })),
  };
}

/** `event=0x0011` */
export function readConfig(text: string): bigint | null {
  const found = /^event=(0x[0-9a-f]{1,16})$/i.exec(text.trim());
  return found === null ? null : BigInt(found[1]!);
}

/** With several kinds of cores the upper half of the number names the PMU (PERF_HW_EVENT with an extended type). */
function genericGroups(box: Box, pmu: string, several: boolean): EventPlan {
  const extended = several ? BigInt(box.text(`${sources}/${pmu}/type`) ?? 0) << 32n : 0n;
  const groups = hardwareGroups.map(
    (events): PlannedGroup => ({
      cluster: several ? pmu : "",
      kind: "hardware",
      scope,
      events: events.map((event) => ({
        event,
        type: perfTypes.hardware,
        config: extended | BigInt(genericNumbers[event]!),
      })),
    }),
  );
  return { groups, absent: [] };
}

function noPmu(): EventPlan {
  const reason = absent(
    "this machine shows no PMU: a virtual machine without one, or a kernel without its driver",
    "give the virtual machine a PMU (QEMU: -cpu host,pmu=on), or run on the metal",
  );
  return { groups: [], absent: hardwareGroups.flat().map((event) => ({ event, cluster: "", reason })) };
}

/** Exits of virtual processors, counted on their threads. */
function kvmExits(box: Box): EventPlan {
  const id = tracing.map((folder) => box.text(`${folder}/events/kvm/kvm_exit/id`)).find((text) => text !== null);
  if (id != null) {
    const events: PlannedEvent[] = [{ event: "kvm_exits", type: perfTypes.tracepoint, config: BigInt(id) }];
    return { groups: [{ cluster: "", kind: "tracepoint", scope, events }], absent: [] };
  }
  const reason = absent(
    "the tracepoint kvm:kvm_exit cannot be seen",
    "load kvm, mount tracefs at /sys/kernel/tracing, run as root",
  );
  return { groups: [], absent: [{ event: "kvm_exits", cluster: "", reason }] };
}
