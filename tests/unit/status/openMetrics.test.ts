// SPDX-License-Identifier: Apache-2.0
/**
 * `/metrics` as text: by its rules, and read back by the reference parser (prometheus_client) for every metric there is.
 */
import { expect, test } from "bun:test";
import { type MetricSample, metricDefinition, metricNames, sampleOf } from "#metrics.ts";
import { openMetricsText } from "#status/openMetrics.ts";
import { missing, need } from "#tests/skip.ts";

test("each family once, with type, unit and help; a counter's sample ends with _total", () => {
  const text = openMetricsText([
    sampleOf("self_cpu_seconds_total", [], 1.5),
    sampleOf("faults_total", ["shop", "SIGSEGV"], 3),
    sampleOf("faults_total", ["shop", "SIGSEGV"], 4),
    sampleOf("host_disk_free_bytes", ['/a"b\\c\nd'], Number.NaN),
    sampleOf("host_temperature_celsius", ['a"b\\c\nd'], 41.25),
  ]);
  expect(text.split("\n")).toEqual([
    "# TYPE holdfast_self_cpu_seconds counter",
    "# UNIT holdfast_self_cpu_seconds seconds",
    "# HELP holdfast_self_cpu_seconds Processor time of the supervisor.",
    "holdfast_self_cpu_seconds_total 1.5",
    "# TYPE holdfast_faults counter",
    "# HELP holdfast_faults Fatal signals that were worked on.",
    'holdfast_faults_total{workload="shop",signal="SIGSEGV"} 3',
    "# TYPE holdfast_host_temperature_celsius gauge",
    "# UNIT holdfast_host_temperature_celsius celsius",
    "# HELP holdfast_host_temperature_celsius Temperature by zone.",
    'holdfast_host_temperature_celsius{zone="a\\"b\\\\c\\nd"} 41.25',
    "# EOF",
    "",
  ]);
  expect(openMetricsText([])).toBe("# EOF\n");
});

/** One or two samples of every metric of the catalogue, with labels that need escaping. */
function everyMetric(): MetricSample[] {
  return metricNames.flatMap((name, index): MetricSample[] => {
    const { kind, labels, bounds } = metricDefinition(name);
    return ["shop", 'a "quoted"\\ one\n'].slice(0, labels.length === 0 ? 1 : 2).map((value) => {
      const values = labels.map(() => value);
      if (kind !== "histogram") return sampleOf(name, values, index / 8);
      const buckets = bounds!.map((_, at) => at);
      return { kind, name, labels: values, buckets, count: bounds!.length, sum: 12.5 };
    });
  });
}

const reader = `
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
print(json.dumps({f.name: [f.type, f.unit, [[s.name, s.labels, s.value] for s in f.samples]]
                  for f in text_string_to_metric_families(sys.stdin.read())}))
`;
/** Debian's Python first: that one finds Debian's packages. */
const python = ["/usr/bin/python3", "python3"].find((program) => {
  if (missing(program) !== null) return false;
  return Bun.spawnSync([program, "-c", "import prometheus_client.openmetrics.parser"]).success;
});
const prometheusClient = (): string | null =>
  python === undefined ? "prometheus_client: apt-get install python3-prometheus-client" : null;

need(prometheusClient)("the reference parser reads every metric back", () => {
  const samples = everyMetric();
  const ran = Bun.spawnSync([python!, "-c", reader], { stdin: Buffer.from(openMetricsText(samples)) });
  expect(ran.stderr.toString()).toBe("");
  const families = JSON.parse(ran.stdout.toString()) as Record<string, [string, string, [string, object, number][]]>;
  expect(Object.keys(families).length).toBe(metricNames.length);
  for (const sample of samples) {
    const { kind, labels } = metricDefinition(sample.name);
    const [type, , points] = families[`holdfast_${sample.name.replace(/_total$/, "")}`]!;
    expect(type).toBe(kind);
    const named = Object.fromEntries(labels.map((label, index) => [label, sample.labels[index]]));
    const value = sample.kind === "value" ? sample.value : sample.count;
    const suffix = sample.kind === "value" ? "" : "_count";
    expect(points).toContainEqual([`holdfast_${sample.name}${suffix}`, named, value]);
  }
});
