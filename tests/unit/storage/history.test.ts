// SPDX-License-Identifier: Apache-2.0
/**
 * How far back the history reaches: every 10 s for 24 h, every minute for 7 days, under a clock that is moved by hand.
 */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ManualClock } from "#clock.ts";
import { readCurve } from "#storage/cursorReader.ts";
import { History } from "#storage/history.ts";
import { defaultLimits } from "#storage/limits.ts";

const [hourMs, dayMs] = [3_600_000, 86_400_000];
const everyMs = 10_000;
const days = 8;
const series = { name: "workload_threads", workload: "redis" };

test("24 h at 10 s, 7 days at 1 min, hours before that; what is older is gone", async () => {
  const directory = mkdtempSync(join(tmpdir(), "holdfast-history-"));
  try {
    const clock = new ManualClock(Math.ceil(1_790_000_000_000 / dayMs) * dayMs);
    const startMs = clock.wallMs();
    using history = History.open(directory, {
      ...{ atMs: startMs, freeBytes: 2 ** 34, afterError: false, damage: null },
    });
    for (let hour = 0; hour < days * 24; hour += 1) {
      const rows = Array.from({ length: hourMs / everyMs }, (_, index) => ({
        ...{ ...series, kind: "sample" as const, unit: "", atMs: clock.wallMs() + index * everyMs, value: index },
      }));
      history.write(rows);
      await clock.advance(hourMs);
      while (history.retain(clock.wallMs(), defaultLimits, "normal", false));
    }
    const nowMs = clock.wallMs();
    const counted = (fromMs: number, toMs: number) => {
      const { resolution, points } = readCurve(directory, series, { fromMs, toMs, limit: 10_000 });
      return { resolution, points: points.length, samples: points.reduce((sum, { count }) => sum + count, 0) };
    };
    const perHour = hourMs / everyMs;
    expect(counted(nowMs - hourMs, nowMs)).toEqual({ resolution: "raw", points: perHour, samples: perHour });
    expect(counted(nowMs - dayMs, nowMs)).toMatchObject({ resolution: "raw", points: 24 * perHour });
    // An hour that was seen every 10 s is still known by the minute six days later, and by the hour after eight.
    const sixDaysAgo = counted(nowMs - 6 * dayMs, nowMs - 6 * dayMs + hourMs);
    expect(sixDaysAgo).toEqual({ resolution: "minute", points: 60, samples: perHour });
    const eightDaysAgo = counted(nowMs - 7.5 * dayMs, nowMs - 7.5 * dayMs + hourMs);
    expect(eightDaysAgo).toMatchObject({ resolution: "hour", samples: perHour });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}, 60_000);
