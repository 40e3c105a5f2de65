// SPDX-License-Identifier: Apache-2.0
/** Counts, values, times and sources, as samples in the order of the catalogue. */
import { expect, test } from "bun:test";
import { sampleOf } from "#metrics.ts";
import { MetricRegistry } from "#monitor/metricRegistry.ts";

test("counts add up, values replace, times fall into buckets", () => {
  const registry = new MetricRegistry();
  registry.observe("stop_seconds", ["shop"], 0.0004);
  registry.observe("stop_seconds", ["shop"], 2);
  registry.add("faults_total", ["shop", "SIGSEGV"]);
  registry.add("faults_total", ["shop", "SIGSEGV"], 2);
  registry.set("workload_up", ["shop"], 0);
  registry.set("workload_up", ["shop"], 1);
  expect(registry.collect()).toEqual([
    { kind: "value", name: "faults_total", labels: ["shop", "SIGSEGV"], value: 3 },
    {
      kind: "histogram",
      name: "stop_seconds",
      labels: ["shop"],
      buckets: [0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
      count: 2,
      sum: 2.0004,
    },
    { kind: "value", name: "workload_up", labels: ["shop"], value: 1 },
  ]);
});

test("a source is asked at each collection, until it is taken away", () => {
  const registry = new MetricRegistry();
  let value = 1;
  const source = registry.source(() => [sampleOf("self_open_fds", [], value)]);
  expect([...registry.collect()].map((sample) => sample.kind === "value" && sample.value)).toEqual([1]);
  value = 7;
  expect([...registry.collect()].map((sample) => sample.kind === "value" && sample.value)).toEqual([7]);
  source[Symbol.dispose]();
  expect(registry.collect()).toEqual([]);
});

test("a sample against the catalogue is a bug", () => {
  const registry = new MetricRegistry();
  expect(() => registry.add("faults_total", ["shop"])).toThrow("labels of the catalogue");
  expect(() => registry.add("workload_up", ["shop"])).toThrow("only counters");
  expect(() => registry.add("hangs_total", ["shop"], -1)).toThrow("only counters");
  expect(() => registry.set("hangs_total", ["shop"], 1)).toThrow("only gauges");
  expect(() => registry.observe("workload_up", ["shop"], 1)).toThrow("only histograms");
});
