// SPDX-License-Identifier: Apache-2.0
/**
 * Writes `telegraf/holdfast.star` from the metric catalogue: run it after a change there. A test fails where they differ.
 *
 * The script is in the part of Starlark that is also Python, so the test can run it.
 */
import { fileURLToPath } from "node:url";
import { metricDefinition, metricNames } from "#metrics.ts";

export const starlarkPath = fileURLToPath(new URL("telegraf/holdfast.star", import.meta.url));

export function starlarkScript(): string {
  const labels = metricNames
    .map((name) => `    "${name}": ${JSON.stringify(metricDefinition(name).labels)},`)
    .join("\n");
  return `# SPDX-License-Identifier: Apache-2.0
# Written by scripts/fleet/starlarkLabels.ts from the metric catalogue: do not edit.
# A SenML name METRIC/LABEL/LABEL as a field with tags; METRIC/…/le/BOUND as a bucket, …/count and …/sum beside it.

labels = {
${labels}
}

def apply(metric):
    name = metric.tags.pop("name", None)
    if name == None:
        return metric
    metric.tags["box"] = metric.tags.pop("prefix", "/")[:-1]
    parts = name.split("/")
    known = labels.get(parts[0])
    rest = parts[1:]
    if known == None or len(rest) < len(known):
        return None
    suffix = ""
    if len(rest) > len(known):
        kind = rest[len(known)]
        suffix = "_" + kind
        if kind == "le":
            metric.tags["le"] = rest[len(known) + 1]
            suffix = "_bucket"
    for index in range(len(known)):
        metric.tags[known[index]] = rest[index].replace(":2f", "/").replace(":20", " ")
    metric.fields[parts[0] + suffix] = metric.fields.pop("value")
    return metric
`;
}

if (import.meta.main) await Bun.write(starlarkPath, starlarkScript());
