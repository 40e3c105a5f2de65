// SPDX-License-Identifier: Apache-2.0
/**
 * What is learned of a site, kept and used: records count, fail, are forgotten, travel as text; and what a decision makes of
 * them and of what other boxes tell. Gets sketches of faults; needs no disk.
 */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { decide } from "#appliance/decide.ts";
import { RescueBook, readRecords } from "#appliance/rescue/rescueBook.ts";
import {
  asTrials,
  bestEdit,
  editsPerSiteMax,
  recordId,
  type SiteRecord,
  withTrial,
} from "#appliance/rescue/rescueRecord.ts";
import { exportRecords, importRecords, recordsMax } from "#appliance/rescue/rescueText.ts";
import { Trials } from "#appliance/trials.ts";
import { ManualClock, systemClock } from "#clock.ts";
import { HoldfastError } from "#errors.ts";
import type { Decision, FaultReport, Outcome, PastTrial, TrialId, Verdict } from "#fault.ts";
import { defaultPolicy, keyOf, plan } from "#suppression/plan.ts";
import { pastTrial, report } from "../reports.ts";

const seed = Math.floor(systemClock.wallMs() % 2 ** 31);
const fault = report([{ name: "deref" }, { name: "command", by: "pointer" }, { name: "loop" }, { name: "main" }], {
  spine: 2,
});
const keys = ((): string[] => {
  const proposal = plan(fault, [], defaultPolicy);
  return proposal.kind === "edits" ? proposal.edits.map((edit) => keyOf(fault, edit)) : [];
})();
const program = { program: "server", build: "abcd" };

/** A book over a map, as storage would keep it. */
function openBook(kept = new Map<string, unknown>()): { book: RescueBook; kept: Map<string, unknown> } {
  const learn = (name: string, record: unknown): void => {
    if (record === null) kept.delete(name);
    else kept.set(name, JSON.parse(JSON.stringify(record)));
  };
  return { book: new RescueBook({ learned: new Map(kept), learn }, new ManualClock()), kept };
}

function judge(book: RescueBook, key: string, verdict: Verdict, at: FaultReport = fault): void {
  const outcome = { verdict, rung: "abandon" } as Outcome;
  book.judged(outcome, at, { key } as Decision, program);
}

const choose = (trials: Trials, now: FaultReport = fault): Decision => {
  const past = trials.relevantTo(now);
  return decide(now, plan(now, past, defaultPolicy), past, defaultPolicy);
};
const told = (key: string, changes: Partial<PastTrial> = {}): PastTrial =>
  pastTrial({ site: fault.site, key, verdict: "clean", learnedBy: "box-2", atMs: 0, ...changes });
const withHints = (history: PastTrial[], hints: PastTrial[]): Trials =>
  new Trials(history, { at: () => ({ forgottenMs: 0, told: hints }) });

describe("a record", () => {
  test("counts what was tried, and by its last verdict says what goes first", () => {
    const trial = (verdict: Verdict, key: string, atMs: number) => ({ key, rung: "abandon", verdict, atMs }) as const;
    let record = withTrial(null, fault, program, trial("failed", "park", 1));
    record = withTrial(record, fault, program, trial("clean", keys[0]!, 2));
    record = withTrial(record, fault, program, trial("clean", keys[0]!, 3));
    expect(record.edits.map(({ key, clean, failed }) => `${key} ${clean} ${failed}`)).toEqual([
      `${keys[0]} 2 0`,
      "park 0 1",
    ]);
    expect(bestEdit(record)?.key).toBe(keys[0]!);
    record = withTrial(record, fault, program, trial("failed", keys[0]!, 4));
    expect(bestEdit(record)).toBeNull();
    expect(asTrials(record).map(({ verdict }) => verdict)).toEqual(["failed", "failed"]);
  });

  test("keeps the newest edits of a site", () => {
    let record: SiteRecord | null = null;
    for (let atMs = 0; atMs < 2 * editsPerSiteMax; atMs += 1) {
      record = withTrial(record, fault, program, {
        key: `abandon abc+0x${atMs}=0`,
        rung: "abandon",
        verdict: "clean",
        atMs,
      });
    }
    expect(record?.edits.length).toBe(editsPerSiteMax);
    expect(record?.edits[0]?.lastMs).toBe(2 * editsPerSiteMax - 1);
  });
});

describe("the book", () => {
  test("what worked goes first on another day, without a row in the journal", () => {
    const { book, kept } = openBook();
    judge(book, keys[0]!, "failed");
    judge(book, keys[2]!, "clean");
    const nextDay = openBook(kept).book;
    const decision = choose(new Trials([], nextDay), { ...fault, atMs: fault.atMs + 86_400_000 });
    expect(decision.key).toBe(keys[2]!);
    expect(decision.reason).toContain(recordId(fault));
  });

  test("what failed there afterwards is demoted, and the ladder goes on", () => {
    const { book } = openBook();
    judge(book, keys[2]!, "clean");
    judge(book, keys[2]!, "failed", { ...fault, atMs: fault.atMs + 1 });
    expect(choose(new Trials([], book)).key).toBe(keys[0]!);
  });

  test("a trial that the journal tells of counts once, and as it is told there", () => {
    const { book } = openBook();
    judge(book, keys[2]!, "clean");
    const failed = pastTrial({ site: fault.site, key: keys[2]!, verdict: "failed", atMs: fault.atMs + 1 });
    const trials = new Trials([failed], book);
    expect(trials.relevantTo(fault)).toEqual([failed]);
  });

  test("what is forgotten is forgotten in the journal's history too, open trials excepted", () => {
    const { book, kept } = openBook();
    judge(book, keys[2]!, "clean");
    const worked = pastTrial({ site: fault.site, key: keys[2]!, verdict: "clean" });
    const open = pastTrial({ site: fault.site, key: keys[0]!, tid: 7 });
    const trials = new Trials([worked, open], book);
    expect(choose(trials).key).toBe(keys[2]!);
    book.forget([recordId(fault)]);
    expect(trials.relevantTo(fault)).toEqual([open]);
    expect(book.records).toEqual([]);
    expect(choose(new Trials([worked], openBook(kept).book)).key).toBe(keys[0]!);
    // What is learned from then on counts again.
    const later = { ...fault, atMs: fault.atMs + 86_400_000 * 365 };
    judge(book, keys[1]!, "clean", later);
    expect(choose(trials, later).key).toBe(keys[1]!);
  });

  test(`is bounded, and the sites that faulted last stay`, () => {
    const { book, kept } = openBook();
    for (let index = 0; index <= recordsMax; index += 1) {
      const site = { fault: `abc+0x${index.toString(16)}`, boundary: "" };
      judge(book, keys[0]!, "clean", { ...fault, site, atMs: fault.atMs + index });
    }
    expect(book.records.length).toBe(recordsMax);
    expect(kept.size).toBe(recordsMax);
    expect(book.records.some(({ site }) => site.fault === "abc+0x0")).toBe(false);
  });

  test("damaged rows of storage are left out", () => {
    const { book, kept } = openBook();
    judge(book, keys[0]!, "clean");
    const [[name, record]] = [...kept] as [[string, SiteRecord]];
    for (const bad of [null, 7, {}, { ...record, edits: "none" }, { ...record, signal: "SIGKILL" }]) {
      expect(readRecords(new Map([[name, bad]]))).toEqual([]);
    }
    // A record under the name of another site.
    expect(readRecords(new Map([["rescue/000000000000", record]]))).toEqual([]);
    expect(readRecords(new Map([[name, record]]))).toHaveLength(1);
  });
});

describe("as text", () => {
  const { book } = openBook();
  judge(book, keys[0]!, "failed");
  judge(book, keys[2]!, "clean", { ...fault, atMs: fault.atMs + 1 });
  const text = exportRecords(book.records);
  const bytes = (value: string): Uint8Array => new TextEncoder().encode(value);

  test("what is exported is imported; own outcomes go before it and replace it", () => {
    const other = openBook();
    other.book.import(importRecords(bytes(text)));
    expect(other.book.records[0]!.edits.map(({ key, imported }) => [key, imported])).toEqual([
      [keys[2]!, true],
      [keys[0]!, true],
    ]);
    expect(choose(new Trials([], openBook(other.kept).book)).key).toBe(keys[2]!);
    judge(other.book, keys[2]!, "failed", { ...fault, atMs: fault.atMs + 5 });
    const own = other.book.records[0]!.edits.find(({ key }) => key === keys[2])!;
    expect(own).toMatchObject({ clean: 0, failed: 1, imported: false });
    other.book.import(importRecords(bytes(text)));
    expect(other.book.records[0]!.edits.find(({ key }) => key === keys[2])).toEqual(own);
  });

  test(`any damage is refused with a reason, or read as a record (seed ${seed})`, () => {
    const whole = bytes(text);
    fc.assert(
      fc.property(
        fc.nat(whole.length - 1),
        fc.integer({ min: 0, max: 255 }),
        fc.nat(whole.length),
        (at, byte, length) => {
          const damaged = whole.slice(0, length);
          if (at < damaged.length) damaged[at] = byte;
          try {
            for (const record of importRecords(damaged)) expect(recordId(record)).toMatch(/^[0-9a-f]{12}$/);
          } catch (error) {
            if (!(error instanceof HoldfastError)) throw error;
            expect(error.code).toBe("config.argument");
          }
        },
      ),
      { seed, numRuns: 500 },
    );
  });

  test("says what is wrong with a file", () => {
    const wrong = (text: string): string => {
      try {
        importRecords(bytes(text));
        return "nothing";
      } catch (error) {
        return (error as Error).message;
      }
    };
    expect(wrong("{")).toContain("not JSON");
    expect(wrong("[]")).toContain("make one with holdfast rescue export");
    expect(wrong(text.replace('"version": 1', '"version": 2'))).toContain("version 2");
    expect(wrong(text.replace(keys[2]!, "run /bin/sh"))).toContain("record 1: edits.0.key");
    expect(wrong(text.replace('"clean": 1', '"clean": -1'))).toContain("record 1: edits.0.clean");
    expect(wrong(" ".repeat(5 << 20))).toContain("more than");
  });
});

describe("what other boxes tell", () => {
  test("goes before the ladder's first choice and after what was clean here", () => {
    const hint = told(keys[2]!);
    const decision = choose(withHints([], [hint]));
    expect(decision.key).toBe(keys[2]!);
    expect(decision.reason).toBe("worked on box-2, as the fleet tells");
    const clean = pastTrial({ site: fault.site, key: keys[1]!, verdict: "clean" });
    expect(choose(withHints([clean], [hint])).key).toBe(keys[1]!);
    expect(choose(withHints([{ ...clean, verdict: "degraded" }], [hint])).key).toBe(keys[2]!);
  });

  test("never counts against what failed here, whatever its time", () => {
    const failed = pastTrial({ site: fault.site, key: keys[2]!, verdict: "failed", atMs: 5 });
    expect(choose(withHints([failed], [told(keys[2]!, { atMs: 2 ** 50 })])).key).toBe(keys[0]!);
  });

  test("adds no edit that the planner has not made itself", () => {
    const foreign = told("abandon abc+0xdead=7");
    const decision = choose(withHints([], [foreign]));
    expect(decision.key).toBe(keys[0]!);
    const proposal = plan(fault, [foreign], defaultPolicy);
    expect(proposal).toEqual(plan(fault, [], defaultPolicy));
  });

  test(`whatever is told, the edits are the same ones in another order (seed ${seed})`, () => {
    const anyKey = fc.oneof(fc.constantFrom(...(keys as [string, ...string[]])), fc.string());
    const verdict = fc.constantFrom<Verdict>("clean", "degraded", "failed");
    fc.assert(
      fc.property(fc.array(fc.tuple(anyKey, verdict, fc.nat()), { maxLength: 30 }), (words) => {
        const hints = words.map(([key, verdict, atMs], index) =>
          told(key, { verdict, atMs, trial: `fleet-${index}` as TrialId }),
        );
        const proposal = plan(fault, hints, defaultPolicy);
        if (proposal.kind !== "edits") throw new TypeError("expected edits");
        expect(proposal.edits.map((edit) => keyOf(fault, edit)).sort()).toEqual([...keys].sort());
        const decision = decide(fault, proposal, hints, defaultPolicy);
        expect(keys).toContain(decision.key);
      }),
      { seed },
    );
  });
});
