// SPDX-License-Identifier: Apache-2.0
/**
 * False alarms over a replayed day of mixed load: at most one a detector in 24 h, all workloads together. The usual form
 * replays one day, `./scripts/test path` five others as well.
 */
import { expect, test } from "bun:test";
import type { Detection, DetectorName } from "#health.ts";
import { detect, newBank } from "#monitor/detectors/bank.ts";
import { emptyHistory, withFrame } from "#monitor/detectors/frame.ts";
import { defaultDetectorLimits } from "#monitor/detectors/limits.ts";
import { long } from "#tests/skip.ts";
import { replay, type Workload, workloads } from "./replayedDay.ts";

const daySeconds = 86_400;
const seeds = long("path") ? [11, 12, 13, 14, 15, 16] : [11];
const timeoutMs = 600_000;

function alarms(workload: Workload, seed: number): Detection[] {
  let [history, bank] = [emptyHistory, newBank];
  const raised: Detection[] = [];
  for (const frame of replay(workload, seed, daySeconds)) {
    history = withFrame(history, frame);
    const { state, news } = detect(bank, workload, history, defaultDetectorLimits);
    bank = state;
    raised.push(...news.filter(({ kind }) => kind === "raised"));
  }
  return raised;
}

for (const seed of seeds) {
  test(
    `a day of mixed load, seed ${seed}: at most one false alarm a detector`,
    () => {
      const counts = new Map<DetectorName, string[]>();
      for (const workload of workloads) {
        for (const { detector, text, sinceMs } of alarms(workload, seed)) {
          counts.set(detector, [
            ...(counts.get(detector) ?? []),
            `${workload} ${new Date(sinceMs).toISOString()}: ${text}`,
          ]);
        }
      }
      const many = [...counts].filter(([, told]) => told.length > 1);
      expect(many).toEqual([]);
    },
    timeoutMs,
  );
}
