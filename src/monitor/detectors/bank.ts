// SPDX-License-Identifier: Apache-2.0
/**
 * All detectors of one workload. Gets its history after each frame; gives what was raised and what is over. A trouble is told
 * once when it is found, and once when it has not been seen for `clearMs`. Pure: the state goes in and comes out.
 */
import { type Detection, type DetectorName, detectorNames } from "#health.ts";
import type { History } from "./frame.ts";
import type { DetectorLimits } from "./limits.ts";
import { clockJump, leak, probeFailing } from "./slow.ts";
import { exitStorm, faultStorm, pressure, thrash } from "./storms.ts";
import { type Detector, hang, livelock } from "./work.ts";

const detectors: Readonly<Record<DetectorName, Detector>> = {
  ...{ hang, livelock, thrash, exitStorm, faultStorm, leak, pressure, probeFailing, clockJump },
};
/** What compares with minutes or hours is not asked every second; the others are. */
const everyFrames: Readonly<Partial<Record<DetectorName, number>>> = { leak: 60, thrash: 5, exitStorm: 5 };

export type BankState = {
  readonly frames: number;
  readonly raised: ReadonlyMap<DetectorName, { readonly detection: Detection; readonly seenMs: number }>;
};
export const newBank: BankState = { frames: 0, raised: new Map() };

export function detect(
  state: BankState,
  workload: string,
  history: History,
  limits: DetectorLimits,
): { readonly state: BankState; readonly news: readonly Detection[] } {
  const last = history.frames.at(-1);
  if (last === undefined) return { state, news: [] };
  const { atMs } = last;
  const raised = new Map(state.raised);
  const news: Detection[] = [];
  for (const detector of detectorNames) {
    if (limits.off.includes(detector)) continue;
    const known = raised.get(detector);
    const skipped = state.frames % (everyFrames[detector] ?? 1) !== 0;
    const finding = skipped ? null : detectors[detector](history, limits);
    if (finding !== null) {
      const detection: Detection = known?.detection ?? { detector, workload, kind: "raised", atMs, ...finding };
      if (known === undefined) news.push(detection);
      raised.set(detector, { detection, seenMs: atMs });
    } else if (known !== undefined && !skipped && atMs - known.seenMs >= limits.clearMs) {
      raised.delete(detector);
      const text = `over: ${known.detection.text}`;
      news.push({ ...known.detection, kind: "cleared", atMs, text });
    }
  }
  return { state: { frames: state.frames + 1, raised }, news };
}
