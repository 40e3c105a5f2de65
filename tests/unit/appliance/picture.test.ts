// SPDX-License-Identifier: Apache-2.0
/**
 * The demo's picture fits every terminal, honours colour and character set, and says what happened.
 */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { drawScene } from "#appliance/demo/picture.ts";
import { addSample, type Scene, type Shot } from "#appliance/demo/scene.ts";
import { openDisplay } from "#appliance/demo/screen.ts";
import { triggers } from "#appliance/demo/triggers.ts";

const latency = { count: 0, p50Us: 0, p99Us: 0, p999Us: 0, maxUs: 0 };
const counts = (right: number) => ({
  ...{ connections: 50, right, wrong: 0, missing: 0, lost: 0, underWay: 0 },
  ...{ latency, evidence: [] },
});

const shot = (index: number, atSample: number): Shot => ({
  ...{
    trigger: triggers[index % triggers.length]!,
    atSample,
    state: "judged",
    fate: "silent",
    peer: null,
    newcomerServed: true,
  },
  faults: [{ event: "fault", id: `${index}`, signal: "SIGSEGV", thread: 1, site: "a+0x1", frames: [] }],
  outcomes: [{ event: "outcome", id: `${index}`, rung: "abandon", verdict: "clean", stopUs: 1_234, session: null }],
});

function sceneOf(samples: number, shotCount: number): Scene {
  const scene: Scene = {
    ...{ title: "holdfast demo: redis-server, PID 1234567, port 65535", startedNs: 0, nowNs: 0 },
    ...{ rates: [], samples: 0, bystanders: counts(0), shots: [] },
  };
  for (let index = 0; index < samples; index += 1) addSample(scene, (index + 1) * 1e8, counts((index + 1) * 400));
  for (let index = 0; index < shotCount; index += 1) scene.shots.push(shot(index, index));
  return scene;
}

const escapes = new RegExp(`${String.fromCharCode(27)}\\[[0-9;?]*[A-Za-z]`, "g");

test("no line is wider and no picture higher than the terminal", () => {
  const sizes = fc.record({
    columns: fc.integer({ min: 21, max: 250 }),
    rows: fc.integer({ min: 3, max: 60 }),
    colour: fc.boolean(),
    unicode: fc.boolean(),
  });
  fc.assert(
    fc.property(sizes, fc.nat(700), fc.nat(40), (canvas, samples, shotCount) => {
      const lines = drawScene(sceneOf(samples, shotCount), canvas);
      expect(lines.length).toBeLessThan(canvas.rows);
      for (const line of lines) expect(Bun.stringWidth(line.replace(escapes, ""))).toBeLessThan(canvas.columns);
      if (!canvas.colour) expect(lines.join("")).not.toContain("\x1b");
      if (!canvas.unicode) expect(lines.join("")).not.toMatch(/[▁-█▲]/u);
    }),
  );
});

test("a wide picture", () => {
  const lines = drawScene(sceneOf(12, 1), { columns: 100, rows: 30, colour: false, unicode: true });
  expect(lines.map((line) => line.trimEnd())).toEqual([
    "holdfast demo: redis-server, PID 1234567, port 65535",
    "   4,000 ████████████",
    "         ████████████",
    "         ████████████",
    "       0 ████████████",
    " crashes ▲",
    "50 bystanders: 4,000 requests/s, 4,800 right, 0 wrong, 0 missing, 0 cut",
    "",
    "segfault             SIGSEGV  abandon    clean     stopped 1.2 ms",
  ]);
});

test("NO_COLOR, a dumb terminal and no terminal", () => {
  const written = (environment: Record<string, string>, isTerminal: boolean): string => {
    let text = "";
    const write = (piece: string): void => {
      text += piece;
    };
    const display = openDisplay(false, { write, environment, isTerminal, size: () => ({ columns: 80, rows: 24 }) });
    for (let times = 0; times < 20; times += 1) display.draw(sceneOf(20, 1));
    display.shotJudged(shot(0, 0));
    display.finish();
    return text;
  };
  expect(written({ LANG: "C.UTF-8" }, true)).toContain("\x1b[36m");
  expect(written({ LANG: "C.UTF-8", NO_COLOR: "1" }, true).match(escapes)).not.toContain("\x1b[36m");
  expect(written({ TERM: "dumb" }, true)).not.toContain("\x1b");
  expect(written({}, false)).not.toContain("\x1b");
  expect(written({}, false)).toContain("4,000 requests/s");
  expect(written({}, false)).toContain("stopped 1.2 ms");
});
