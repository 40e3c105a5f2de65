// SPDX-License-Identifier: Apache-2.0
/**
 * The metric catalogue: names, kinds, units, labels in their order, and samples as plain data. Counters are cumulative
 * totals, never rates; labels are few and never a product of two large sets.
 *
 * The Prometheus form puts `holdfast_` before the name; the SenML form is `NAME/LABEL/LABEL`, buckets `…/le/BOUND`.
 */

export type MetricKind = "counter" | "gauge" | "histogram";
export const metricGroups = ["host", "workload", "guest", "counters", "link", "self"] as const;
export type MetricGroup = (typeof metricGroups)[number];

export type MetricDefinition = {
  readonly kind: MetricKind;
  readonly group: MetricGroup;
  /** SenML unit (RFC 8428, RFC 8798), or "" where it is a plain count. */
  readonly unit: "" | "s" | "B" | "/" | "Cel";
  readonly labels: readonly string[];
  /** Upper bounds of a histogram's buckets, rising; +Inf is implied. */
  readonly bounds?: readonly number[];
};

const stopBounds = [0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1];
const longBounds = [0.00001, 0.0001, 0.001, 0.01, 0.1, 1, 10, 60];

const counter = (group: MetricGroup, ...labels: string[]): MetricDefinition => ({
  kind: "counter",
  group,
  unit: "",
  labels,
});
const gauge = (group: MetricGroup, unit: MetricDefinition["unit"], ...labels: string[]): MetricDefinition => ({
  kind: "gauge",
  group,
  unit,
  labels,
});
const seconds = (group: MetricGroup, bounds: readonly number[], ...labels: string[]): MetricDefinition => ({
  kind: "histogram",
  group,
  unit: "s",
  labels,
  bounds,
});

/** Every metric there is, by name without prefix. */
export const metricCatalogue = {
  faults_total: counter("workload", "workload", "signal"),
  suppressions_total: counter("workload", "workload", "rung", "outcome"),
  sessions_cut_total: counter("workload", "workload"),
  locks_released_total: counter("workload", "workload"),
  probes_failed_total: counter("workload", "workload"),
  hangs_total: counter("workload", "workload"),
  stop_seconds: seconds("workload", stopBounds, "workload"),
  workload_up: gauge("workload", "", "workload"),
  workload_protected: gauge("workload", "", "workload"),
  restarts_total: counter("workload", "workload"),
  restart_budget_left: gauge("workload", "", "workload"),
  guests: gauge("guest", "", "state"),
  restore_seconds: seconds("guest", longBounds, "workload"),
  restore_page_seconds: seconds("guest", longBounds, "workload"),
  checkpoint_pause_seconds: seconds("guest", longBounds, "workload"),
  restore_pages_total: counter("guest", "workload", "source"),
  counter_events_total: counter("counters", "workload", "event"),
  counter_running_ratio: gauge("counters", "/", "workload", "event"),
  counters_available: gauge("counters", "", "kind"),
  outbox_messages: gauge("link", "", "class"),
  outbox_bytes: gauge("link", "B", "class"),
  outbox_oldest_seconds: gauge("link", "s", "class"),
  outbox_dropped_total: counter("link", "class"),
  mqtt_connected: gauge("link", ""),
  mqtt_connects_total: counter("link"),
  mqtt_ack_seconds: seconds("link", stopBounds),
  commands_total: counter("link", "result"),
  herd_records: gauge("link", ""),
  herd_used_total: counter("link", "outcome"),
  herd_ignored_total: counter("link", "why"),
  herd_published_total: counter("link"),
  self_rss_bytes: gauge("self", "B"),
  self_cpu_seconds_total: { ...counter("self"), unit: "s" },
  self_loop_lag_seconds: gauge("self", "s"),
  self_open_fds: gauge("self", ""),
  host_pressure_ratio: gauge("host", "/", "resource"),
  host_memory_available_bytes: gauge("host", "B"),
  host_temperature_celsius: gauge("host", "Cel", "zone"),
  host_disk_free_bytes: gauge("host", "B", "mount"),
  host_emmc_life_ratio: gauge("host", "/"),
  host_clock_offset_seconds: gauge("host", "s"),
} as const satisfies Record<string, MetricDefinition>;

export type MetricName = keyof typeof metricCatalogue;
export const metricNames = Object.keys(metricCatalogue) as readonly MetricName[];
export const metricDefinition = (name: MetricName): MetricDefinition => metricCatalogue[name];

/** One value at one time. Label values are in the order of the catalogue. */
export type MetricSample =
  | { readonly kind: "value"; readonly name: MetricName; readonly labels: readonly string[]; readonly value: number }
  | {
      readonly kind: "histogram";
      readonly name: MetricName;
      readonly labels: readonly string[];
      /** Cumulative counts, one for each bound of the catalogue. */
      readonly buckets: readonly number[];
      readonly count: number;
      readonly sum: number;
    };
