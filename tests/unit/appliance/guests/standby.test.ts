// SPDX-License-Identifier: Apache-2.0
/** When a process is raised to stand by for a guest, kept, replaced and ended; and when the box has no room for one. */
import { describe, expect, test } from "bun:test";
import {
  noStandby,
  restMs,
  type StandbyEffect,
  type StandbyInput,
  type StandbyState,
  stepStandby,
  type Wish,
} from "#appliance/guests/standby.ts";
import { whyNoRoom } from "#appliance/guests/standbyRoom.ts";
import { seededRandom } from "#clock.ts";

const want = (checkpoint: string): Wish => ({ kind: "want", checkpoint });
const wish = (wished: Wish, atMs = 0): StandbyInput => ({ kind: "wish", wish: wished, atMs });
const none: Wish = { kind: "none", why: "no" };
const keep: Wish = { kind: "keep" };

/** What happens at each input, by the names of the effects. */
function run(...inputs: readonly StandbyInput[]): { state: StandbyState; effects: string[] } {
  let state = noStandby;
  const effects = inputs.map((input) => {
    const step = stepStandby(state, input);
    if (step.kind === "violation") return step.reason;
    state = step.state;
    return step.effects.map(({ kind }) => kind).join(" ");
  });
  return { state, effects };
}

describe("a process that stands by", () => {
  test("is raised once, kept while the guest is on its way, and given to its restore", () => {
    const { state, effects } = run(
      wish(keep),
      wish(want("a")),
      wish(want("a")),
      { kind: "raised" },
      wish(keep),
      { kind: "take", checkpoint: "a" },
      { kind: "died", atMs: 0 },
      wish(keep),
      wish(want("a")),
    );
    expect(effects).toEqual(["", "raise", "", "", "", "give", "", "", "raise"]);
    expect(state.kind).toBe("raising");
  });

  test("is replaced by one for a newer checkpoint, and ended where none is wanted", () => {
    const inputs = [wish(want("a")), { kind: "raised" }, wish(want("b")), { kind: "raised" }, wish(none), wish(none)];
    expect(run(...(inputs as StandbyInput[])).effects).toEqual(["raise", "", "end raise", "", "end", ""]);
  });

  test("that failed rests for its checkpoint, not for another", () => {
    for (const kind of ["failed", "died"] as const) {
      const failed: StandbyInput[] = [wish(want("a")), { kind, atMs: 1_000 }];
      expect(run(...failed, wish(want("a"), restMs)).effects.at(-1)).toBe("");
      expect(run(...failed, wish(want("a"), restMs + 1_000)).effects.at(-1)).toBe("raise");
      expect(run(...failed, wish(want("b"), restMs)).effects.at(-1)).toBe("raise");
      expect(run(...failed, { kind: "take", checkpoint: "a" }).effects.at(-1)).toBe("");
    }
  });

  test("is ended where the restore cannot use it", () => {
    expect(run(wish(want("a")), { kind: "take", checkpoint: "a" }).effects.at(-1)).toBe("end");
    expect(run(wish(want("a")), { kind: "raised" }, { kind: "take", checkpoint: "b" }).effects.at(-1)).toBe("end");
  });

  test("never are there two, whatever happens, and none is forgotten", () => {
    const seed = 7;
    const random = seededRandom(seed);
    const pick = <Value>(values: readonly Value[]): Value => values[Math.floor(random() * values.length)]!;
    let state: StandbyState = noStandby;
    let there = 0;
    for (let round = 0; round < 20_000; round += 1) {
      const input = pick<StandbyInput>([
        wish(pick([want("a"), want("b"), keep, none]), round * 5_000),
        { kind: "raised" },
        { kind: pick(["failed", "died"]), atMs: round * 5_000 },
        { kind: "take", checkpoint: pick(["a", "b"]) },
      ]);
      const step = stepStandby(state, input);
      if (step.kind === "violation") throw new RangeError(`${step.reason} in round ${round} of seed ${seed}`);
      there = step.effects.reduce(
        (count: number, { kind }: StandbyEffect) => count + (kind === "raise" ? 1 : -1),
        there,
      );
      expect(there).toBe(step.state.kind === "raising" || step.state.kind === "ready" ? 1 : 0);
      state = step.state;
    }
  });
});

describe("room for it", () => {
  const stalled = (percent: string): string =>
    `some avg10=${percent} avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n`;

  test("by what is available and by who waits", () => {
    expect(whyNoRoom("MemAvailable:  500000 kB\n", stalled("0.00"))).toBeNull();
    expect(whyNoRoom("MemAvailable:  100000 kB\n", stalled("0.00"))).toBe("only 97 MiB of memory are available");
    expect(whyNoRoom("MemAvailable:  500000 kB\n", stalled("12.50"))).toContain("13 % of the time");
    expect(whyNoRoom("", "")).toBeNull();
  });
});
