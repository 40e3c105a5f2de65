// SPDX-License-Identifier: Apache-2.0
/** Health as samples of the catalogue. What is not known gives no sample. Pure. */
import { type HostHealth, type Pressures, pressureResources, seenOr, type WorkloadHealth } from "#health.ts";
import { type MetricName, type MetricSample, sampleOf } from "#metrics.ts";

export function hostSamples(host: HostHealth): MetricSample[] {
  const { processorSeconds, busySeconds, disks, links } = host;
  const memory = seenOr(host.memory, null);
  const clock = seenOr(host.clock, null);
  const throttling = seenOr(host.throttling, null);
  const flash = seenOr(host.flash, []);
  const emmc = flash.filter(({ kind }) => kind === "emmc").map(({ usedRatio }) => usedRatio);
  const pressure = seenOr(host.pressure, null);
  return [
    ...(pressure === null ? [] : pressureSamples(pressure, "host_pressure_ratio", [])),
    ...pressureResources.map((resource) =>
      sampleOf(
        "host_pressure_stalled_seconds_total",
        [resource],
        pressure?.[resource]?.some.stalledSeconds ?? Number.NaN,
      ),
    ),
    sampleOf("host_cpu_seconds_total", ["busy"], busySeconds),
    sampleOf("host_cpu_seconds_total", ["idle"], processorSeconds - busySeconds),
    ...known("host_memory_bytes", [], memory?.totalBytes),
    ...known("host_memory_available_bytes", [], memory?.availableBytes),
    ...known("host_swap_bytes", [], memory?.swapTotalBytes),
    ...known("host_swap_free_bytes", [], memory?.swapFreeBytes),
    ...seenOr(host.temperatures, []).map(({ zone, celsius }) => sampleOf("host_temperature_celsius", [zone], celsius)),
    ...known("host_throttled_total", [], throttling?.times),
    ...(throttling?.cooling ?? []).map(({ device, state, stateMax }) =>
      sampleOf("host_cooling_ratio", [device], stateMax === 0 ? Number.NaN : state / stateMax),
    ),
    ...disks.map(({ mount, totalBytes }) => sampleOf("host_disk_bytes", [mount], totalBytes)),
    ...disks.map(({ mount, freeBytes }) => sampleOf("host_disk_free_bytes", [mount], freeBytes)),
    ...known("host_emmc_life_ratio", [], emmc.length === 0 ? null : Math.max(...emmc)),
    ...flash.map(({ device, usedRatio }) => sampleOf("host_flash_life_ratio", [device], usedRatio)),
    ...known("host_clock_synced", [], clock === null ? null : Number(clock.synced)),
    ...known("host_clock_offset_seconds", [], clock?.offsetSeconds),
    ...links.flatMap(({ name, up, receivedBytes, sentBytes, errors, dropped }) => [
      sampleOf("host_link_up", [name], Number(up)),
      sampleOf("host_link_received_bytes_total", [name], receivedBytes),
      sampleOf("host_link_sent_bytes_total", [name], sentBytes),
      sampleOf("host_link_errors_total", [name], errors + dropped),
    ]),
  ];
}

export function workloadSamples(health: WorkloadHealth): MetricSample[] {
  const { workload, probes } = health;
  const running = seenOr(health.process, null);
  const group = seenOr(health.controlGroup, null);
  const leak = seenOr(health.leak, null);
  return [
    sampleOf("workload_up", [workload], Number(running !== null && running.state !== "Z")),
    ...known("workload_cpu_seconds_total", [workload], running?.cpuSeconds),
    ...known("workload_resident_bytes", [workload], running?.residentBytes),
    ...known("workload_threads", [workload], running?.threads),
    ...known("workload_open_files", [workload], running?.openFiles),
    ...known("workload_open_files_max", [workload], running?.openFilesMax),
    ...(group === null ? [] : pressureSamples(group.pressure, "workload_pressure_ratio", [workload])),
    ...known("workload_leak_bytes_per_second", [workload], leak === null ? null : leak.perHour / 3600),
    ...probes.flatMap(({ probe, state }) =>
      state === "waiting" ? [] : [sampleOf("probe_up", [workload, probe], Number(state === "passing"))],
    ),
  ];
}

const pressureSamples = (pressures: Pressures, name: MetricName, labels: readonly string[]): MetricSample[] =>
  pressureResources.flatMap((resource) => known(name, [...labels, resource], pressures[resource]?.some.over10s));

const known = (name: MetricName, labels: readonly string[], value: number | null | undefined): MetricSample[] =>
  value == null ? [] : [sampleOf(name, labels, value)];
