// SPDX-License-Identifier: Apache-2.0
/** The fleet simulator on a small scale, and at length on its own: nothing lost, nothing forged obeyed, one record wins. */
import { expect } from "bun:test";
import { simulate } from "#scripts/fleet/simulate.ts";
import { long, need } from "#tests/skip.ts";

const size = long("path") ? { boxes: 1000, seconds: 90 } : { boxes: 15, seconds: 9 };

need("mosquitto")(
  `${size.boxes} boxes`,
  async () => {
    const result = await simulate({ ...size, seed: 1 }, () => {});
    expect(result).toMatchObject({ births: size.boxes, staleStates: 0, forgedObeyed: 0, herdDiffer: 0 });
    expect(result.forgedSent).toBe(size.boxes * 3);
    const lost = Object.entries(result.after).filter(([name, { lost: count }]) => name !== "points" && count !== 0);
    expect(lost).toEqual([]);
    // What a broker that was killed had acknowledged of the metrics nobody sends again.
    expect(result.after.points!.lost / result.after.points!.sent).toBeLessThan(0.05);
  },
  600_000,
);
