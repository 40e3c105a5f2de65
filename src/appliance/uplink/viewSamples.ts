// SPDX-License-Identifier: Apache-2.0
/**
 * What the monitor sees, and what we cost ourselves, as metrics of the catalogue. Gets a view; gives samples by group. What
 * was not seen has no sample: a missing number is never 0. Pure but for the cost of our own process.
 */
import { readdirSync } from "node:fs";
import { type HostHealth, type MonitorView, pressureResources } from "#health.ts";
import type { MetricName, MetricSample } from "#metrics.ts";

const sample = (name: MetricName, labels: readonly string[], value: number): MetricSample => ({
  ...{ kind: "value", name, labels, value },
});

export function hostSamples(host: HostHealth): MetricSample[] {
  const { pressure, memory, temperatures, disks, flash, clock } = host;
  const pressures = pressure.kind === "absent" ? null : pressure.value;
  const zones = temperatures.kind === "absent" ? [] : temperatures.value;
  const worst = flash.kind === "absent" ? [] : flash.value.map(({ usedRatio }) => usedRatio);
  return [
    ...pressureResources.flatMap((resource) => {
      const line = pressures?.[resource];
      return line == null ? [] : [sample("host_pressure_ratio", [resource], line.some.over60s)];
    }),
    ...(memory.kind === "absent" ? [] : [sample("host_memory_available_bytes", [], memory.value.availableBytes)]),
    ...zones.map(({ zone, celsius }) => sample("host_temperature_celsius", [zone], celsius)),
    ...disks.map(({ mount, freeBytes }) => sample("host_disk_free_bytes", [mount], freeBytes)),
    ...(worst.length === 0 ? [] : [sample("host_emmc_life_ratio", [], Math.max(...worst))]),
    ...(clock.kind === "absent" ? [] : [sample("host_clock_offset_seconds", [], clock.value.offsetSeconds)]),
  ];
}

/** An event that was never on hardware has no total, and a ratio of 0. */
export function counterSamples({ counters, workloads }: MonitorView): MetricSample[] {
  const kinds = ["hardware", "software", "none"] as const;
  const readings = workloads.flatMap((one) => {
    if (one.counters === null) return [];
    const { workload } = one.counters;
    return one.counters.readings.flatMap(({ event, cluster, total, runningRatio }) => {
      const labels = [workload, cluster === "" ? event : `${event}@${cluster}`];
      const ratio = sample("counter_running_ratio", labels, runningRatio);
      return total === null ? [ratio] : [ratio, sample("counter_events_total", labels, total)];
    });
  });
  return [...kinds.map((kind) => sample("counters_available", [kind], counters.kind === kind ? 1 : 0)), ...readings];
}

export function selfSamples(lagSeconds: number): MetricSample[] {
  const { user, system } = process.cpuUsage();
  return [
    sample("self_rss_bytes", [], process.memoryUsage.rss()),
    sample("self_cpu_seconds_total", [], (user + system) / 1e6),
    sample("self_loop_lag_seconds", [], lagSeconds),
    ...openFiles().map((count) => sample("self_open_fds", [], count)),
  ];
}

function openFiles(): number[] {
  try {
    return [readdirSync("/proc/self/fd").length];
  } catch {
    return []; // Without a /proc it is not known.
  }
}
