// SPDX-License-Identifier: Apache-2.0
/**
 * Samples for `/metrics`, by the names of the catalogue. Gets the read model, the host and what the
 * supervisor sampled itself; gives text. What is not known is left out, never written as zero. Pure.
 */
import type { MetricName, MetricSample } from "#metrics.ts";
import type { ReadModel } from "../model/readModel.ts";
import { openMetricsText } from "../openMetrics.ts";
import type { View } from "../page.ts";

/** What the supervisor sampled itself goes before what is counted here. */
export function metricsText(view: View, record: ReadModel): string {
  const told = new Set(view.told.metrics.map((sample) => sample.name));
  const own = [...recordSamples(record), ...workloadSamples(view), ...hostSamples(view)];
  return openMetricsText([...view.told.metrics, ...own.filter((sample) => !told.has(sample.name))]);
}

const value = (name: MetricName, labels: readonly string[], amount: number): MetricSample => ({
  kind: "value",
  name,
  labels,
  value: amount,
});

function recordSamples(record: ReadModel): MetricSample[] {
  return [...record.tallies].flatMap(([workload, tally]): MetricSample[] => [
    ...[...tally.faults].map(([signal, count]) => value("faults_total", [workload, signal], count)),
    ...[...tally.outcomes].map(([key, count]) => value("suppressions_total", [workload, ...key.split(" ")], count)),
    value("sessions_cut_total", [workload], tally.cut),
    value("locks_released_total", [workload], tally.locksReleased),
    {
      kind: "histogram",
      name: "stop_seconds",
      labels: [workload],
      buckets: tally.stopBuckets,
      count: tally.stopCount,
      sum: tally.stopSumUs / 1e6,
    },
  ]);
}

function workloadSamples({ told }: View): MetricSample[] {
  const up = new Set(["guarded", "unguarded", "up"]);
  return told.workloads.flatMap(({ name, state, protected: isProtected, restarts }) => [
    value("workload_up", [name], up.has(state) ? 1 : 0),
    value("workload_protected", [name], isProtected ? 1 : 0),
    ...(restarts === null ? [] : [value("restart_budget_left", [name], Math.max(0, restarts.max - restarts.used))]),
  ]);
}

function hostSamples({ host }: View): MetricSample[] {
  const known = (name: MetricName, labels: readonly string[], amount: number | null): MetricSample[] =>
    amount === null ? [] : [value(name, labels, amount)];
  return [
    ...known("host_memory_available_bytes", [], host.memoryAvailableBytes),
    ...(["cpu", "memory", "io"] as const).flatMap((resource) =>
      known("host_pressure_ratio", [resource], host.pressure[resource]),
    ),
    ...host.temperatures.map(({ zone, celsius }) => value("host_temperature_celsius", [zone], celsius)),
    ...known("host_disk_free_bytes", ["state"], host.diskFreeBytes),
    ...known("self_rss_bytes", [], host.ownBytes),
    ...known("self_open_fds", [], host.ownDescriptors),
  ];
}
