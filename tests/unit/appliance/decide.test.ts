// SPDX-License-Identifier: Apache-2.0
/**
 * The choice among proposed edits. Gets sketches of faults and remembered trials; gives the key of the edit that is done.
 */
import { expect, test } from "bun:test";
import { decide, refuted } from "#appliance/decide.ts";
import type { FaultReport, PastTrial, TrialId } from "#fault.ts";
import { defaultPolicy, keyOf, plan } from "#suppression/plan.ts";
import { pastTrial, report } from "../reports.ts";

const fault = report([{ name: "deref" }, { name: "command", by: "pointer" }, { name: "loop" }, { name: "main" }], {
  spine: 2,
});
const first = keyOf(fault, { kind: "abandon", rung: "abandon", point: { frame: 1, returnValue: -1n } });
const second = keyOf(fault, { kind: "abandon", rung: "abandon", point: { frame: 1, returnValue: 0n } });

const choose = (now: FaultReport, trials: PastTrial[]): string =>
  decide(now, plan(now, trials, defaultPolicy), trials, defaultPolicy).key;

test("a new site gets the first edit", () => {
  expect(choose(fault, [])).toBe(first);
});

test("the same site before the thread went idle means that the open trial failed", () => {
  const open = pastTrial({ site: fault.site, key: first });
  expect(choose({ ...fault, blockedSince: 0 }, [open])).toBe(second);
  expect(refuted({ ...fault, blockedSince: 0 }, [open])).toEqual([open]);
});

test("the same site after the thread went idle is a new request: the same edit again", () => {
  const open = pastTrial({ site: fault.site, key: first });
  expect(choose({ ...fault, blockedSince: 3 }, [open])).toBe(first);
  expect(refuted({ ...fault, blockedSince: 3 }, [open])).toEqual([]);
});

test("a thread that has not been idle for a second, and faults all the time, is in a loop whatever it waits for", () => {
  const open = (agoMs: number): PastTrial =>
    pastTrial({ site: fault.site, key: first, atMs: fault.atMs - agoMs, trial: `fault-${agoMs}.1` as TrialId });
  expect(choose({ ...fault, blockedSince: 1 }, [open(900), open(3)])).toBe(first);
  expect(choose({ ...fault, blockedSince: 1 }, [open(1100), open(3)])).toBe(second);
});

test("an open trial of another thread is not refuted", () => {
  const open = pastTrial({ site: fault.site, key: first, tid: 101 });
  expect(choose({ ...fault, blockedSince: 0 }, [open])).toBe(first);
});

test("an edit that failed is not tried again unless it was proven since", () => {
  const failed = pastTrial({ site: fault.site, key: first, verdict: "failed", atMs: 10 });
  expect(choose(fault, [failed])).toBe(second);
  const proven = pastTrial({ site: fault.site, key: first, verdict: "clean", atMs: 20 });
  expect(choose(fault, [failed, proven])).toBe(first);
});

test("when every edit has failed the signal is delivered", () => {
  const proposal = plan(fault, [], defaultPolicy);
  if (proposal.kind !== "edits") throw new TypeError("expected edits");
  const trials = proposal.edits.map((edit) =>
    pastTrial({ site: fault.site, key: keyOf(fault, edit), verdict: "failed" }),
  );
  expect(choose(fault, trials)).toBe("deliver exhausted");
});

test("more consequences than allowed end the trying", () => {
  const chain = ["a", "b", "c", "d"].map((site) => pastTrial({ site: { fault: site, boundary: "" }, key: site }));
  expect(choose({ ...fault, blockedSince: 0 }, chain.slice(0, 3))).toBe(first);
  expect(choose({ ...fault, blockedSince: 0 }, chain)).toBe("deliver exhausted");
});

test("neutralising has a budget", () => {
  const bare = report([{ name: "deref" }, { name: "main" }], { spine: 0 });
  const used = Array.from({ length: defaultPolicy.neutralisedMax }, (_, index) =>
    pastTrial({ site: { fault: `s${index}`, boundary: "" }, rung: "neutralise", verdict: "degraded" }),
  );
  expect(choose(bare, used.slice(1))).toStartWith("neutralise");
  expect(choose(bare, used)).toBe("deliver exhausted");
});

test("trials of one fault are numbered", () => {
  const earlier = pastTrial({ site: fault.site, trial: "fault-1.1" as TrialId, verdict: "failed", key: first });
  expect(decide(fault, plan(fault, [], defaultPolicy), [earlier], defaultPolicy).trial).toBe("fault-1.2" as TrialId);
});
