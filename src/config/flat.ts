// SPDX-License-Identifier: Apache-2.0
/**
 * A configuration as one flat table: `guest.NAME.memory.bytes` and its value. Gets a Config; gives scalars by dotted path,
 * for a fleet that asks what is in effect. Lists of words become text; rows of a list go by their name, else their number.
 *
 * What may hold a secret of somebody else is left out: environment, command lines, probes. Whatever leaves the box goes through the filter for secrets of `src/telemetry/box.ts` as well. Limit: 512 settings.
 */
import type { Config } from "./schema.ts";

const settingsMax = 512;
const left: readonly string[] = ["environment", "command", "cmdline", "probes"];

export function flatConfig(config: Config): Readonly<Record<string, string | number | boolean>> {
  const { guests, programs, ...rest } = config;
  const rows = [...flatten("", rest), ...flatten("guest", guests), ...flatten("program", programs)];
  return Object.fromEntries(rows.slice(0, settingsMax));
}

function flatten(path: string, value: unknown): (readonly [string, string | number | boolean])[] {
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return [[path, value]];
  if (Array.isArray(value)) {
    if (value.every((item) => typeof item !== "object")) return [[path, value.join(" ")]];
    return value.flatMap((item, index) => flatten(joined(path, nameOf(item) ?? String(index)), item));
  }
  if (typeof value !== "object" || value === null) return [];
  const told = Object.entries(value).filter(([key]) => !left.includes(key));
  return told.flatMap(([key, inner]) => flatten(joined(path, key), inner));
}

const joined = (path: string, key: string): string => (path === "" ? key : `${path}.${key}`);

function nameOf(item: unknown): string | null {
  const name = (item as { name?: unknown } | null)?.name;
  return typeof name === "string" ? name : null;
}
