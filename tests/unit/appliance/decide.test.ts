// SPDX-License-Identifier: Apache-2.0
/**
 * The choice among proposed edits. Gets sketches of faults and remembered trials; gives the key of the edit that is done.
 */
import { expect, test } from "bun:test";
import { decide, refuted } from "#appliance/decide.ts";
import type { FaultReport, PastTrial, SessionEvidence, TrialId } from "#fault.ts";
import { defaultPolicy, keyOf, plan } from "#suppression/plan.ts";
import { siteOf, workOf } from "#suppression/site.ts";
import { type FrameSketch, pastTrial, report } from "../reports.ts";

const fault = report([{ name: "deref" }, { name: "command", by: "pointer" }, { name: "loop" }, { name: "main" }], {
  spine: 2,
});
const first = keyOf(fault, { kind: "abandon", rung: "abandon", point: { frame: 1, returnValue: -1n } });
const second = keyOf(fault, { kind: "abandon", rung: "abandon", point: { frame: 1, returnValue: 0n } });

/** A connection that the request reaches; unless it was answered, it is the one that waits. */
const session = ({
  fd,
  peer,
  answered = false,
}: {
  fd: number;
  peer: string;
  answered?: boolean;
}): SessionEvidence => ({
  ...{ fd, peer, unreadBytes: 0, lastReceivedMs: 4, lastSentMs: answered ? 0 : 40, neverAnswered: false },
  ...{ reach: { direct: answered ? 0 : 4, near: 0, far: 0 }, commonness: { direct: 0, near: 0 } },
});

const choose = (now: FaultReport, trials: PastTrial[]): string =>
  decide(now, plan(now, trials, defaultPolicy), trials, defaultPolicy).key;

test("a new site gets the first edit", () => {
  expect(choose(fault, [])).toBe(first);
});

test("the same work at the same site twice, the thread never idle, means that the open trials failed", () => {
  const again = { ...fault, blockedSince: 0 };
  const open = [pastTrial({ site: fault.site, key: first, work: workOf(fault) })];
  expect(choose(again, open)).toBe(first);
  expect(refuted(again, open)).toEqual([]);
  open.push({ ...open[0]!, trial: "fault-0.2" as TrialId });
  expect(choose(again, open)).toBe(second);
  expect(refuted(again, open)).toEqual(open);
});

test("other work at the same site says nothing against the act, until it is a loop of whatever kind", () => {
  const again = { ...fault, blockedSince: 0 };
  const others = Array.from({ length: 64 }, (_, index) =>
    pastTrial({ site: fault.site, key: first, work: `other ${index}` }),
  );
  expect(choose(again, others.slice(1))).toBe(first);
  expect(refuted(again, others.slice(1))).toEqual([]);
  expect(choose(again, others)).toBe(second);
});

test("the same session at the same site again means that the open trial failed", () => {
  const peer = "127.0.0.1:5000";
  const sure = session({ fd: 9, peer });
  const again = {
    ...fault,
    blockedSince: 0,
    sessions: [sure, session({ fd: 10, peer: "127.0.0.1:5001", answered: true })],
  };
  const open = pastTrial({ site: fault.site, key: first, session: { fd: 9, peer, confidence: 0.9 } });
  expect(refuted(again, [open])).toEqual([open]);
  expect(refuted(again, [{ ...open, session: { fd: 9, peer, confidence: 0.2 } }])).toEqual([]);
  expect(refuted(again, [{ ...open, session: { fd: 9, peer: "127.0.0.1:7", confidence: 0.9 } }])).toEqual([]);
});

test("two calls of null from two places are two sites", () => {
  const nowhere = { name: "null", module: null };
  const from = (caller: string): string => {
    const { frames, modules } = report([nowhere, { name: caller }, { name: "main" }]);
    return siteOf(frames, modules, null, "SIGSEGV").fault;
  };
  expect(from("one")).not.toBe(from("two"));
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

test("when every edit has failed the signal is delivered, but not while the thread comes back alive after each", () => {
  const proposal = plan(fault, [], defaultPolicy);
  if (proposal.kind !== "edits") throw new TypeError("expected edits");
  const failed = (changes: Partial<PastTrial>): PastTrial[] =>
    proposal.edits.map((edit) =>
      pastTrial({ site: fault.site, key: keyOf(fault, edit), verdict: "failed", ...changes }),
    );
  expect(choose(fault, failed({ atMs: fault.atMs - 60_000 }))).toBe("deliver exhausted");
  expect(choose(fault, failed({ tid: 101 }))).toBe("deliver exhausted");
  expect(choose(fault, failed({}))).toBe(first);
  expect(choose(fault, [...failed({}), ...failed({}), ...failed({})])).toBe("deliver exhausted");
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

test("bad state: a function goes first whose caller takes its value for a failure and nothing else; else what has held", () => {
  const frame = { name: "fill", after: "tested", failure: -1n } as const;
  const stack = (innermost: FrameSketch): FaultReport => ({
    ...report([innermost, { name: "command", by: "pointer", after: "ignored" }, { name: "loop" }, { name: "main" }]),
    ...{
      spine: 2,
      sessions: [session({ fd: 9, peer: "127.0.0.1:5000" }), session({ fd: 10, peer: "x", answered: true })],
    },
  });
  const decideOn = (fault: FaultReport, verdict: "clean" | "failed") => {
    const victims = ["a", "b"].map((peer) =>
      pastTrial({
        ...{ site: fault.site, veteran: true, verdict, session: { fd: 5, peer, confidence: 1 } },
        key: keyOf(fault, { kind: "abandon", rung: "abandon", point: { frame: 1, returnValue: -1n } }),
      }),
    );
    const trials = victims.map((past) => ({ ...past, atMs: fault.atMs - 100 }));
    return decide(fault, plan(fault, trials, defaultPolicy), trials, defaultPolicy);
  };
  const inward = { rung: "inward", point: { frame: 0 } };
  const whole = { rung: "abandon", point: { frame: 1 } };
  expect(decideOn(stack({ ...frame, plainly: true }), "clean")).toMatchObject({ edit: inward, cut: false });
  expect(decideOn(stack(frame), "clean")).toMatchObject({ edit: whole, cut: true });
  expect(decideOn(stack(frame), "failed")).toMatchObject({ edit: inward, cut: true });
  expect(decideOn(stack({ name: "fill", after: "ignored" }), "clean")).toMatchObject({ edit: whole, cut: true });
});

test("a budget that is spent ends the trying, at the site or in the whole program, and the decision says so", () => {
  const budget = { siteActsMax: 5, programActsMax: 9, windowMs: 1000 };
  const policy = { ...defaultPolicy, budget };
  const decideAt = (site: number, program: number) =>
    decide(fault, plan(fault, [], policy), [], policy, { site, program });
  expect(decideAt(4, 8).key).toBe(first);
  expect(decideAt(5, 5)).toMatchObject({ key: "deliver exhausted", spent: { site: 5, program: 5 } });
  expect(decideAt(5, 5).reason).toContain("its budget is spent");
  expect(decideAt(1, 9).reason).toContain("the program's budget is spent");
});
