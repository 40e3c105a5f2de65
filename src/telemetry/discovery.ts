// SPDX-License-Identifier: Apache-2.0
/**
 * Home Assistant discovery, off by default: one retained JSON message that makes a box a device with its state, health and
 * counts. Pure. Source: Home Assistant, "MQTT device discovery payload" (abbreviated keys `dev`, `o`, `cmps`).
 */
import { type MetricName, metricCatalogue } from "#metrics.ts";
import type { BoxTopics } from "./topics.ts";

export type DiscoveryFacts = {
  readonly model: string;
  readonly version: string;
  readonly workloads: readonly string[];
};

/** The payload of `homeassistant/device/DEVICE/config`. Needs the JSON mirror for the metrics. */
export function discoveryConfig(topics: BoxTopics, facts: DiscoveryFacts): string {
  const { device } = topics;
  const components: Record<string, unknown> = {
    online: {
      p: "binary_sensor",
      unique_id: `${device}_online`,
      name: "Online",
      device_class: "connectivity",
      state_topic: topics.state,
      value_template: "{{ 'ON' if value_json.s in ['online', 'maintenance'] else 'OFF' }}",
    },
    health: {
      p: "sensor",
      unique_id: `${device}_health`,
      name: "Health",
      state_topic: topics.state,
      value_template: "{{ value_json.health | default('unknown') }}",
    },
  };
  for (const workload of facts.workloads) {
    Object.assign(components, metricSensor(topics, "workload_up", workload, "running"));
    Object.assign(components, metricSensor(topics, "restarts_total", workload, "restarts"));
  }
  return JSON.stringify({
    dev: { ids: [`holdfast_${device}`], name: device, mf: "Holdfast", mdl: facts.model, sw: facts.version },
    o: { name: "holdfast", sw: facts.version },
    cmps: components,
    qos: 1,
  });
}

function metricSensor(topics: BoxTopics, metric: MetricName, workload: string, title: string): Record<string, unknown> {
  const name = `${metric}/${workload}`;
  return {
    [`${metric}_${workload}`]: {
      p: "sensor",
      unique_id: `${topics.device}_${metric}_${workload}`,
      name: `${workload} ${title}`,
      state_topic: topics.mirror(topics.live(metricCatalogue[metric].group)),
      value_template: `{{ (value_json | selectattr('n', 'eq', ${JSON.stringify(name)}) | first | default({'v': none})).v }}`,
    },
  };
}
