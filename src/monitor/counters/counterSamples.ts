// SPDX-License-Identifier: Apache-2.0
/**
 * Counters as samples of the catalogue. An event that was never on hardware has its ratio, 0, and no value. Where a
 * processor has clusters, the event is `EVENT@CLUSTER`. Pure.
 */
import { seenOr, type WorkloadCounters } from "#health.ts";
import { type MetricSample, sampleOf } from "#metrics.ts";

export function counterSamples({ workload, readings, exits }: WorkloadCounters): MetricSample[] {
  const counted = readings.flatMap(({ event, cluster, total, runningRatio }) => {
    const name = cluster === "" ? event : `${event}@${cluster}`;
    const ratio = sampleOf("counter_running_ratio", [workload, name], runningRatio);
    return total === null ? [ratio] : [sampleOf("counter_events_total", [workload, name], Math.round(total)), ratio];
  });
  const byReason = Object.entries(seenOr(exits, {})).map(([reason, total]) =>
    sampleOf("guest_exits_total", [workload, reason], total),
  );
  return [...counted, ...byReason];
}
