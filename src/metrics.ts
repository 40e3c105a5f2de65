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
  readonly unit: "" | "s" | "B" | "/" | "Cel" | "B/s";
  readonly labels: readonly string[];
  /** One sentence for a person, without a full stop. */
  readonly help: string;
  /** Upper bounds of a histogram's buckets, rising; +Inf is implied. */
  readonly bounds?: readonly number[];
};

const stopBounds = [0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1];
const longBounds = [0.00001, 0.0001, 0.001, 0.01, 0.1, 1, 10, 60];
const pageBounds = [0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.1, 1, 10, 60];

const counter = (group: MetricGroup, help: string, ...labels: string[]): MetricDefinition => ({
  ...{ kind: "counter", group, unit: "", labels, help },
});
const gauge = (
  group: MetricGroup,
  unit: MetricDefinition["unit"],
  help: string,
  ...labels: string[]
): MetricDefinition => ({ kind: "gauge", group, unit, labels, help });
const seconds = (
  group: MetricGroup,
  bounds: readonly number[],
  help: string,
  ...labels: string[]
): MetricDefinition => ({ kind: "histogram", group, unit: "s", labels, bounds, help });
const counterOf = (
  unit: MetricDefinition["unit"],
  ...[group, help, ...labels]: Parameters<typeof counter>
): MetricDefinition => ({ ...counter(group, help, ...labels), unit });

/** Every metric there is, by name without prefix. */
export const metricCatalogue = {
  faults_total: counter("workload", "Fatal signals that were worked on", "workload", "signal"),
  suppressions_total: counter("workload", "Trials by rung of the ladder and outcome", "workload", "rung", "outcome"),
  sessions_cut_total: counter("workload", "Client connections that were cut as guilty", "workload"),
  locks_released_total: counter("workload", "Locks of abandoned work that were released", "workload"),
  probes_failed_total: counter("workload", "Probes without the right answer", "workload"),
  hangs_total: counter("workload", "Hangs that were found", "workload"),
  stop_seconds: seconds("workload", stopBounds, "Stop of a thread, from its signal to its resume", "workload"),
  workload_up: gauge("workload", "", "1 while the workload runs", "workload"),
  workload_protected: gauge("workload", "", "1 while faults of the workload are worked on", "workload"),
  restarts_total: counter("workload", "Restarts of the workload", "workload"),
  restart_budget_left: gauge("workload", "", "Restarts that are left in this window", "workload"),
  workload_cpu_seconds_total: counterOf("s", "workload", "Processor time of the workload", "workload"),
  workload_resident_bytes: gauge("workload", "B", "Memory of the workload that is resident", "workload"),
  workload_threads: gauge("workload", "", "Threads of the workload", "workload"),
  workload_open_files: gauge("workload", "", "Open descriptors of the workload", "workload"),
  workload_open_files_max: gauge("workload", "", "Descriptors that the workload may open", "workload"),
  workload_pressure_ratio: gauge(
    "workload",
    "/",
    "Share of the last 10 s in which a task of the workload waited for the resource",
    "workload",
    "resource",
  ),
  workload_leak_bytes_per_second: gauge("workload", "B/s", "Growth of resident memory, Theil-Sen slope", "workload"),
  probe_up: gauge("workload", "", "1 while the probe passes", "workload", "probe"),
  detector_raised: gauge("workload", "", "1 while the detector sees trouble", "workload", "detector"),
  detections_total: counter("workload", "Troubles that the detector has found", "workload", "detector"),
  guests: gauge("guest", "", "Guests by state", "state"),
  restore_seconds: seconds("guest", longBounds, "Restore of a guest, from request to first answer", "workload"),
  restore_page_seconds: seconds("guest", pageBounds, "Wait of a restored guest for one page", "workload"),
  checkpoint_pause_seconds: seconds("guest", longBounds, "Pause of a guest for a checkpoint", "workload"),
  restore_pages_total: counter("guest", "Pages of restored guests by where they came from", "workload", "source"),
  guest_exits_total: counter("guest", "Exits of virtual processors by reason", "workload", "reason"),
  counter_events_total: counter(
    "counters",
    "Processor and kernel events, scaled by enabled over running time; task_clock in ns",
    "workload",
    "event",
  ),
  counter_running_ratio: gauge("counters", "/", "Share of time that the event was counted", "workload", "event"),
  counters_available: gauge("counters", "", "1 for the kind of counters that this machine has", "kind"),
  outbox_messages: gauge("link", "", "Messages that wait for the broker", "class"),
  outbox_bytes: gauge("link", "B", "Bytes that wait for the broker", "class"),
  outbox_oldest_seconds: gauge("link", "s", "Age of the oldest message that waits", "class"),
  outbox_dropped_total: counter("link", "Messages that were dropped", "class"),
  mqtt_connected: gauge("link", "", "1 while the broker is connected"),
  mqtt_connects_total: counter("link", "Connections that the broker accepted"),
  mqtt_ack_seconds: seconds("link", stopBounds, "Time until the broker acknowledged a message"),
  commands_total: counter("link", "Commands by result", "result"),
  herd_records: gauge("link", "", "Rescue records of other boxes that are held"),
  herd_used_total: counter("link", "Rescue records that were used, by outcome", "outcome"),
  herd_ignored_total: counter("link", "Rescue records that were ignored, by reason", "why"),
  herd_published_total: counter("link", "Rescue records that were published"),
  self_rss_bytes: gauge("self", "B", "Resident memory of the supervisor"),
  self_cpu_seconds_total: counterOf("s", "self", "Processor time of the supervisor"),
  self_loop_lag_seconds: gauge("self", "s", "Longest delay of the main loop in the last 10 s"),
  self_open_fds: gauge("self", "", "Open descriptors of the supervisor"),
  self_samples_late_total: counter("self", "Samples that were taken more than one period late"),
  host_pressure_ratio: gauge("host", "/", "Share of the last 10 s in which a task waited for the resource", "resource"),
  host_pressure_stalled_seconds_total: counterOf(
    "s",
    "host",
    "Time in which a task waited for the resource",
    "resource",
  ),
  host_cpu_seconds_total: counterOf("s", "host", "Processor time by use: busy or idle", "use"),
  host_memory_bytes: gauge("host", "B", "Memory of the box"),
  host_memory_available_bytes: gauge("host", "B", "Memory that is available without swapping"),
  host_swap_bytes: gauge("host", "B", "Swap space of the box"),
  host_swap_free_bytes: gauge("host", "B", "Swap space that is free"),
  host_temperature_celsius: gauge("host", "Cel", "Temperature by zone", "zone"),
  host_throttled_total: counter("host", "Times that processors were slowed for heat"),
  host_cooling_ratio: gauge("host", "/", "How far a cooling device is at work", "device"),
  host_disk_bytes: gauge("host", "B", "Size of the file system", "mount"),
  host_disk_free_bytes: gauge("host", "B", "Space that is free", "mount"),
  host_emmc_life_ratio: gauge("host", "/", "Share of the eMMC's life that is used up, the worst one"),
  host_flash_life_ratio: gauge("host", "/", "Share of the life of an eMMC or NVMe that is used up", "device"),
  host_clock_synced: gauge("host", "", "1 while the clock is synchronised"),
  host_clock_offset_seconds: gauge("host", "s", "Offset of the clock from its source"),
  host_link_up: gauge("host", "", "1 while the network link is up", "link"),
  host_link_received_bytes_total: counterOf("B", "host", "Bytes received", "link"),
  host_link_sent_bytes_total: counterOf("B", "host", "Bytes sent", "link"),
  host_link_errors_total: counter("host", "Errors and drops of the link", "link"),
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

/** Whoever has samples to show. Called at each collection; must be quick. */
export type MetricSource = () => Iterable<MetricSample>;

export const sampleOf = (name: MetricName, labels: readonly string[], value: number): MetricSample => ({
  kind: "value",
  name,
  labels,
  value,
});
