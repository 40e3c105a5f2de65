// SPDX-License-Identifier: Apache-2.0
/**
 * Pressure stall information: the share of time in which tasks waited for a processor, for memory or for a disk. Gets the
 * text of one file of the kernel; gives ratios, or null where it is none. Pure.
 *
 * Source: Documentation/accounting/psi.rst. The line `full` is missing for the processor before Linux 5.13.
 */
import type { Pressure, PressureLine } from "#health.ts";

export function parsePressure(text: string): Pressure | null {
  const some = lineOf(text, "some");
  return some === null ? null : { some, full: lineOf(text, "full") };
}

function lineOf(text: string, kind: "some" | "full"): PressureLine | null {
  const found = new RegExp(`^${kind} avg10=([\\d.]+) avg60=([\\d.]+) avg300=([\\d.]+) total=(\\d+)$`, "m").exec(text);
  if (found === null) return null;
  const [over10s, over60s, over300s] = found.slice(1, 4).map((percent) => Number(percent) / 100);
  return { over10s: over10s!, over60s: over60s!, over300s: over300s!, stalledSeconds: Number(found[4]) / 1e6 };
}
