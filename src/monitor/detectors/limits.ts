// SPDX-License-Identifier: Apache-2.0
/**
 * The limits of every detector, as configured or as they are. Each detector can be switched off by its name.
 *
 * The defaults are those at which a replayed day of mixed load gives at most one false alarm a detector
 * (tests/unit/monitor/detectors/day.test.ts).
 */
import type { DetectorName } from "#health.ts";

export type DetectorLimits = {
  readonly off: readonly DetectorName[];
  /** A thread that has not waited for anything for so long, and works. */
  readonly hangMs: number;
  /** Share of a processor above which such a thread works. */
  readonly hangShareMin: number;
  readonly livelockMs: number;
  readonly livelockSwitchesMin: number;
  /** IPC against its usual value, and cache misses an instruction against theirs. */
  readonly thrashIpcRatioMax: number;
  readonly thrashMissRatioMin: number;
  readonly thrashMs: number;
  /** Exits a second, and as many times the usual rate. */
  readonly exitsPerSecondMin: number;
  readonly exitsRatioMin: number;
  readonly exitStormMs: number;
  readonly faultsMin: number;
  readonly faultStormMs: number;
  /** Growth within the window, and points (minutes) it takes. */
  readonly leakBytesMin: number;
  readonly leakPointsMin: number;
  /** So soon the memory that is left would be gone. */
  readonly leakHoursLeftMax: number;
  /** Share of time, for so long. */
  readonly memoryFullMin: number;
  readonly memoryPressureMs: number;
  readonly ioFullMin: number;
  readonly ioPressureMs: number;
  readonly clockJumpMs: number;
  /** A trouble is over once it was not seen for so long. */
  readonly clearMs: number;
};

export const defaultDetectorLimits: DetectorLimits = {
  off: [],
  hangMs: 10_000,
  hangShareMin: 0.1,
  livelockMs: 20_000,
  livelockSwitchesMin: 1_000,
  thrashIpcRatioMax: 0.35,
  thrashMissRatioMin: 3,
  thrashMs: 30_000,
  exitsPerSecondMin: 100_000,
  exitsRatioMin: 5,
  exitStormMs: 10_000,
  faultsMin: 10,
  faultStormMs: 60_000,
  leakBytesMin: 32 * 2 ** 20,
  leakPointsMin: 110,
  leakHoursLeftMax: 48,
  memoryFullMin: 0.1,
  memoryPressureMs: 20_000,
  ioFullMin: 0.6,
  ioPressureMs: 120_000,
  clockJumpMs: 3_000,
  clearMs: 10_000,
};
