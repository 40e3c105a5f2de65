// SPDX-License-Identifier: Apache-2.0
/**
 * False alarms over a replayed day of mixed load: at most one a detector in 24 h, all workloads together. The usual form
 * replays one day, `./scripts/test path` five others as well; `HOLDFAST_DAY_SEEDS=21,22` names others, to hold some back
 * while detectors are changed. In the same load a thread that begins to go round is found in time.
 */
import { expect, test } from "bun:test";
import { seededRandom } from "#clock.ts";
import type { Detection, DetectorName } from "#health.ts";
import { detect, newBank } from "#monitor/detectors/bank.ts";
import { emptyHistory, type Frame, withFrame } from "#monitor/detectors/frame.ts";
import { defaultDetectorLimits } from "#monitor/detectors/limits.ts";
import { long } from "#tests/skip.ts";
import { replay, type Workload, workloads } from "./replayedDay.ts";

const daySeconds = 86_400;
const named = process.env.HOLDFAST_DAY_SEEDS?.split(",").map(Number);
const seeds = named ?? (long("path") ? [11, 12, 13, 14, 15, 16] : [11]);
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

const hungTid = 999_999;
const hangMsMax = defaultDetectorLimits.hangMs + 2_000;

/** A thread that works at `share` of a processor from `fromSecond` on, and waits no more. */
function* hanging(frames: Iterable<Frame>, fromSecond: number, share: number): Generator<Frame> {
  let second = -1;
  for (const frame of frames) {
    second += 1;
    const cpuSeconds = 100 + Math.max(0, second - fromSecond) * share;
    const switches = { voluntary: 77 + Math.min(0, second - fromSecond), forced: 0 };
    const thread = { tid: hungTid, name: "worker", state: "R", cpuSeconds, switches };
    yield { ...frame, threads: [...frame.threads, thread], probes: [] };
  }
}

for (const seed of seeds) {
  test(`a hang in that load is found within 2 s of its limit, seed ${seed}`, () => {
    const random = seededRandom(seed);
    for (const workload of workloads) {
      const fromSecond = 60 + Math.floor(random() * 600);
      const share = 0.2 + 0.8 * random();
      let [history, bank] = [emptyHistory, newBank];
      let foundMs: number | null = null;
      const frames = [...hanging(replay(workload, seed, fromSecond + 60), fromSecond, share)];
      for (const frame of frames) {
        history = withFrame(history, frame);
        const { state, news } = detect(bank, workload, history, defaultDetectorLimits);
        bank = state;
        const hang = news.find(({ detector, kind }) => detector === "hang" && kind === "raised");
        if (hang?.evidence.tid === hungTid) foundMs ??= frame.monotonicMs;
      }
      // A guest is only said to hang where its probes fail.
      if (frames[0]!.kind === "guest") expect(foundMs).toBeNull();
      else expect(foundMs! - frames[fromSecond]!.monotonicMs).toBeWithin(defaultDetectorLimits.hangMs, hangMsMax);
    }
  });
}
