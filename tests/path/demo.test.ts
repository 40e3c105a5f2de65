// SPDX-License-Identifier: Apache-2.0
/**
 * The demo against a stand-in guard: what it reports when all goes well, and that every kind of harm is noticed.
 */
import { afterAll, expect } from "bun:test";
import { readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { type DemoOptions, runDemo } from "#appliance/demo/demo.ts";
import { openDisplay } from "#appliance/demo/screen.ts";
import { type DemoReport, summaryLines } from "#appliance/demo/summary.ts";
import { systemClock } from "#clock.ts";
import { need } from "#tests/skip.ts";

const timeoutMs = 60_000;
const fakeGuard = `${import.meta.dir}/../peers/fakeGuard.ts`;
const ours = (): string[] => readdirSync(tmpdir()).filter((name) => name.startsWith("holdfast-demo-"));
const before = new Set(ours());

type Run = { readonly report: DemoReport; readonly lines: readonly Record<string, unknown>[] };

async function run(misbehaviour: string, changes: Partial<DemoOptions> = {}): Promise<Run> {
  let written = "";
  const write = (text: string): void => {
    written += text;
  };
  const size = () => ({ columns: 80, rows: 24 });
  const display = openDisplay(true, { write, environment: {}, isTerminal: false, size });
  const report = await runDemo({
    ...{ holdfast: ["env", `FAKE_GUARD=${misbehaviour}`, process.execPath, fakeGuard], seconds: 1.5, state: null },
    ...{ seed: 1, clock: systemClock, display, signal: new AbortController().signal },
    ...changes,
  });
  const lines = written.split("\n").filter((line) => line.startsWith("{"));
  return { report, lines: lines.map((line) => JSON.parse(line) as Record<string, unknown>) };
}

afterAll(() => expect(ours().filter((name) => !before.has(name))).toEqual([]));

need("redis-server", "prlimit")(
  "each crash once: survived, same process, nobody harmed, and the guard's lines are passed on unchanged",
  async () => {
    const { report, lines } = await run("", { seconds: null });
    expect(report).toMatchObject({ harmed: null, crashes: 6, survived: 6, lost: [], fixed: [], samePid: true });
    expect(report.bystanders).toMatchObject({ connections: 50, wrong: 0, missing: 0, lost: 0 });
    expect(report.bystanders.right).toBeGreaterThan(1_000);
    const kinds = lines.map((line) => line.event);
    expect(kinds[0]).toBe("demoPlan");
    for (const kind of ["guarding", "demoStart", "demoTrigger", "fault", "outcome", "demoShot", "exit"]) {
      expect(kinds).toContain(kind);
    }
    const outcome = lines.find((line) => line.event === "outcome");
    const passedOn = { event: "outcome", id: "F1", rung: "abandon", verdict: "clean", stopUs: 1_001, session: null };
    expect(outcome).toEqual(passedOn);
    expect(summaryLines(report, "holdfast").join("\n")).toContain("6 of 6 survived");
  },
  timeoutMs,
);

need("redis-server", "prlimit")(
  "faults that a newer package has fixed are named, and the rest is used",
  async () => {
    const { report, lines } = await run("newer", { seconds: null });
    expect(report).toMatchObject({ harmed: null, crashes: 4, fixed: ["acl-use-after-free", "getkeys-overflow"] });
    const states = lines.filter((line) => line.event === "demoShot").map((line) => line.state);
    expect(states).toEqual(["judged", "judged", "judged", "judged", "fixed", "fixed"]);
    expect(summaryLines(report, "holdfast").join("\n")).toContain("Fixed in this package");
  },
  timeoutMs,
);

const harms: readonly (readonly [string, RegExp])[] = [
  ["cut", /bystanders were harmed/],
  ["wrong", /bystanders were harmed/],
  ["failed", /not the process it was/],
  ["garbage", /contract/],
];
for (const [misbehaviour, words] of harms) {
  need("redis-server")(
    `a guard that does "${misbehaviour}" is noticed`,
    async () => {
      const { report } = await run(misbehaviour);
      expect(report.harmed).toMatch(words);
      expect(summaryLines(report, "holdfast").join("\n")).toContain("HARMED");
    },
    timeoutMs,
  );
}

need("redis-server")(
  "an interruption ends it, and its reason is passed on",
  async () => {
    const interrupted = new AbortController();
    const reason = new DOMException("interrupted", "AbortError");
    const clock = systemClock;
    const display = openDisplay(true, {
      ...{ write: () => {}, environment: {}, isTerminal: false, size: () => ({ columns: 80, rows: 24 }) },
    });
    const ended = run("", {
      seconds: null,
      signal: interrupted.signal,
      clock,
      display: {
        ...display,
        event: (name) => {
          if (name === "demoTrigger") interrupted.abort(reason);
        },
      },
    });
    expect(await ended.catch((error: unknown) => error)).toBe(reason);
  },
  timeoutMs,
);
