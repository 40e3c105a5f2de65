// SPDX-License-Identifier: Apache-2.0
/**
 * `[monitor]` of the configuration: how often counters are sampled, and the limits of the detectors. What is left out is as
 * monitor/detectors/limits.ts has it. Gets the parsed section; gives settings of the monitor's own type.
 */
import * as v from "valibot";
import { detectorNames } from "#health.ts";
import type { DetectorLimits } from "#monitor/detectors/limits.ts";
import { count } from "./values.ts";

const dayMs = 86_400_000;
const time = (least: number) => v.optional(count(least, dayMs));
const ratio = v.optional(v.pipe(v.number("wants a share from 0 to 1"), v.minValue(0), v.maxValue(1)));

export const monitorSection = v.strictObject({
  /** Samples of the counters a second. */
  rateHz: v.optional(count(1, 1_000), 10),
  off: v.optional(v.array(v.picklist(detectorNames, `wants names of detectors: ${detectorNames.join(", ")}`))),
  hangMs: time(1_000),
  livelockMs: time(5_000),
  thrashMs: time(5_000),
  exitsPerSecondMin: v.optional(count(1, 1e9)),
  exitStormMs: time(2_000),
  faultsMin: v.optional(count(1, 1_000_000)),
  faultStormMs: time(1_000),
  leakBytesMin: v.optional(count(1, Number.MAX_SAFE_INTEGER)),
  leakHoursLeftMax: v.optional(count(1, 24 * 365)),
  memoryFullMin: ratio,
  memoryPressureMs: time(2_000),
  ioFullMin: ratio,
  ioPressureMs: time(2_000),
  clockJumpMs: time(100),
  clearMs: time(1_000),
});

export type MonitorSection = v.InferOutput<typeof monitorSection>;

/** The settings that differ from the defaults. */
export function limitsOf({ rateHz: _, ...limits }: MonitorSection): Partial<DetectorLimits> {
  return Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined));
}
