// SPDX-License-Identifier: Apache-2.0
/**
 * Samples as the text that Prometheus reads at `/metrics`. Gets samples in any order; gives OpenMetrics 1.0 text, each
 * family once, with type, unit and help, ended by `# EOF`. Pure.
 *
 * A value that is not known (NaN) is left out. Doubles of a point are left out too: the first one counts.
 * Source: the OpenMetrics specification, version 1.0.0, sections on the text format and on metric types.
 */
import { type MetricName, type MetricSample, metricDefinition } from "#metrics.ts";

export const openMetricsType = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const prefix = "holdfast_";
/** Unit names of the format, which end the family's name. */
const unitNames: readonly string[] = ["seconds", "bytes", "ratio", "celsius"];

export function openMetricsText(samples: Iterable<MetricSample>): string {
  const families = new Map<MetricName, MetricSample[]>();
  for (const sample of samples) {
    if (sample.kind === "value" && Number.isNaN(sample.value)) continue;
    const family = families.get(sample.name);
    if (family === undefined) families.set(sample.name, [sample]);
    else family.push(sample);
  }
  const lines: string[] = [];
  for (const [name, family] of families) {
    lines.push(...headLines(name));
    const told = new Set<string>();
    for (const sample of family) {
      const labels = labelText(name, sample.labels);
      if (told.has(labels)) continue;
      told.add(labels);
      lines.push(...pointLines(name, labels, sample));
    }
  }
  return `${lines.join("\n")}${lines.length === 0 ? "" : "\n"}# EOF\n`;
}

/** A counter's family has no `_total`; its one sample has. */
const familyOf = (name: MetricName): string => `${prefix}${name.replace(/_total$/, "")}`;

function headLines(name: MetricName): string[] {
  const { kind, help } = metricDefinition(name);
  const family = familyOf(name);
  const unit = unitNames.find((unit) => family.endsWith(`_${unit}`));
  return [
    `# TYPE ${family} ${kind}`,
    ...(unit === undefined ? [] : [`# UNIT ${family} ${unit}`]),
    `# HELP ${family} ${escaped(help)}.`,
  ];
}

function pointLines(name: MetricName, labels: string, sample: MetricSample): string[] {
  const family = familyOf(name);
  if (sample.kind === "value") {
    const total = metricDefinition(name).kind === "counter" ? "_total" : "";
    return [`${family}${total}${braced(labels)} ${numberText(sample.value)}`];
  }
  const bounds = metricDefinition(name).bounds ?? [];
  const bucket = (bound: string, count: number): string =>
    `${family}_bucket${braced([labels, `le="${bound}"`].filter((part) => part !== "").join(","))} ${count}`;
  return [
    ...bounds.map((bound, index) => bucket(boundText(bound), sample.buckets[index] ?? 0)),
    bucket("+Inf", sample.count),
    `${family}_count${braced(labels)} ${sample.count}`,
    `${family}_sum${braced(labels)} ${numberText(sample.sum)}`,
  ];
}

function labelText(name: MetricName, values: readonly string[]): string {
  const { labels } = metricDefinition(name);
  return labels.map((label, index) => `${label}="${escaped(values[index] ?? "")}"`).join(",");
}

const braced = (labels: string): string => (labels === "" ? "" : `{${labels}}`);

const escaped = (text: string): string =>
  text
    .replaceAll("\\", "\\\\")
    .replaceAll('"', '\\"')
    .replaceAll(/\r\n|[\r\n]/g, "\\n");

const numberText = (value: number): string =>
  value === Number.POSITIVE_INFINITY ? "+Inf" : value === Number.NEGATIVE_INFINITY ? "-Inf" : String(value);

/** Bounds are floats in their canonical form: `1.0`, not `1`. */
const boundText = (bound: number): string => {
  const text = String(bound);
  return /[.e]/.test(text) ? text : `${text}.0`;
};
