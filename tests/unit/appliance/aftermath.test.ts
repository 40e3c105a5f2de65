// SPDX-License-Identifier: Apache-2.0
/**
 * What an act left behind. Gets trials of made-up sites; gives which count as consequences, and who has paid for them.
 */
import { expect, test } from "bun:test";
import { isConsequence, payers } from "#appliance/aftermath.ts";
import type { FaultReport, PastTrial, TrialId } from "#fault.ts";

const nowMs = 1_000_000;
const report = { site: { fault: "x+2", boundary: "" }, atMs: nowMs } as FaultReport;

const trial = (changes: Partial<PastTrial>): PastTrial => ({
  ...{ trial: "f.1" as TrialId, site: { fault: "x+1", boundary: "" }, tid: 1, key: "park", rung: "abandon" },
  ...{ atMs: nowMs - 100, verdict: "failed", session: null, veteran: false },
  ...changes,
});

test("a new site soon after an act that was not clean, on any thread, is a consequence", () => {
  expect(isConsequence(report, [trial({})])).toBe(true);
  expect(isConsequence(report, [trial({ verdict: "degraded", tid: 2 })])).toBe(true);
  expect(isConsequence(report, [trial({ verdict: null, tid: 2 })])).toBe(true);
});

test("a new site after clean acts, acts long ago, or acts that only our own end made failures is none", () => {
  expect(isConsequence(report, [])).toBe(false);
  expect(isConsequence(report, [trial({ verdict: "clean" })])).toBe(false);
  expect(isConsequence(report, [trial({ atMs: nowMs - 5_001 })])).toBe(false);
  expect(isConsequence(report, [trial({ interrupted: true })])).toBe(false);
});

test("a site stays what it was when it faulted first", () => {
  const here = { fault: "x+2", boundary: "" };
  const own = trial({ site: here, atMs: nowMs - 50_000, verdict: "clean" });
  expect(isConsequence(report, [own, trial({})])).toBe(false);
  expect(isConsequence(report, [{ ...own, consequence: true }])).toBe(true);
  expect(isConsequence(report, [{ ...own, consequence: true, atMs: nowMs - 60_001 }])).toBe(false);
});

test("clients that were there before pay, each once; those that come to kill do not", () => {
  const paying = (peer: string, veteran: boolean): PastTrial =>
    trial({ session: { fd: 5, peer, confidence: 0.5 }, veteran, consequence: true });
  const last = paying("d", true);
  expect(payers(last, [paying("a", true), paying("a", true), paying("b", false), last])).toBe(2);
  expect(payers(last, [trial({ site: { fault: "y", boundary: "" }, veteran: true })])).toBe(1);
  const unknown = (work: string): PastTrial => trial({ work, consequence: true });
  expect(payers(unknown("a"), [..."abcd"].map(unknown))).toBe(0);
  expect(payers(unknown("a"), [..."bcde"].map(unknown))).toBe(5);
  const earlier = (words: string): PastTrial[] => [...words].map((work) => ({ ...unknown(work), atMs: nowMs - 1_101 }));
  expect(payers(unknown("a"), earlier("bcde"))).toBe(0);
  expect(payers(unknown("a"), earlier("bcdef"))).toBe(5);
  expect(payers({ ...last, consequence: false }, [paying("a", true)])).toBe(0);
});
