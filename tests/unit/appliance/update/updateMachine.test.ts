// SPDX-License-Identifier: Apache-2.0
/**
 * Updates of a box on paper: boot loader, two slots, the book on its disk, and power that may be cut between any two writes.
 */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  activated,
  bootNext,
  givenUp,
  markedGood,
  otherSlot,
  readSlotBook,
  type Slot,
  type SlotBook,
} from "#appliance/update/slotEnvironment.ts";
import { emptyBook, lockOf, readBook, type UpdateBook } from "#appliance/update/updateBook.ts";
import { stepUpdate } from "#appliance/update/updateMachine.ts";
import type { UpdateEffect, UpdateInput } from "#appliance/update/updateStep.ts";
import { systemClock } from "#clock.ts";
import { TelemetryError } from "#errors.ts";

const seed = systemClock.wallMs() % 2 ** 31;
const before = { workloads: ["redis"], brokerSeen: true };

/** What is in a slot: whether it comes up at all, and whether it passes the gate. */
type Content = { readonly version: string; readonly starts: boolean; readonly passes: boolean };
type Build = "good" | "fails" | "dead";
const contentOf = (version: string, build: Build): Content => ({
  version,
  starts: build !== "dead",
  passes: build === "good",
});

class PowerCut extends TelemetryError {}

/** A box whose disk keeps what was written before the power went. */
class PaperBox {
  book = JSON.stringify(emptyBook);
  environment: SlotBook | null = readSlotBook(null);
  readonly content: Record<Slot, Content> = { A: contentOf("1", "good"), B: contentOf("1", "good") };
  slot: Slot = "A";
  boot = 0;
  readonly told: string[] = [];
  readonly settled: string[] = [];
  /** Writes until the power is cut; null: never. */
  writesLeft: number | null = null;

  read(): UpdateBook {
    const book = readBook(this.book);
    if (book === null) throw new TypeError(`not a book: ${this.book}`);
    return book;
  }

  #write(act: () => void): void {
    if (this.writesLeft === 0) {
      this.writesLeft = null;
      throw new PowerCut("telemetry.closed", "the power is cut");
    }
    if (this.writesLeft !== null) this.writesLeft -= 1;
    act();
  }

  /** One input, with all its effects; where the power is cut, the box starts again. */
  give(input: UpdateInput): boolean {
    try {
      return this.#step(input);
    } catch (error) {
      if (!(error instanceof PowerCut)) throw error;
      this.powerOn();
      return true;
    }
  }

  #step(input: UpdateInput): boolean {
    const environment = this.environment ?? readSlotBook(null);
    const step = stepUpdate(this.read(), input, { slot: this.slot, environment, nowMs: this.boot });
    if (step.kind === "refused") return false;
    this.#write(() => {
      this.book = JSON.stringify(step.book);
    });
    for (const effect of step.effects) this.#act(effect);
    return true;
  }

  #act(effect: UpdateEffect): void {
    const change = (to: (book: SlotBook) => SlotBook): void =>
      this.#write(() => {
        this.environment = to(this.environment ?? readSlotBook(null));
      });
    if (effect.kind === "activate") change((book) => activated(book, effect.slot));
    else if (effect.kind === "markGood") change((book) => markedGood(book, effect.slot));
    else if (effect.kind === "giveUp") change((book) => givenUp(book, effect.slot));
    else if (effect.kind === "reboot") this.powerOn();
    else if (effect.kind === "tell") this.told.push(effect.event);
    else if (effect.kind === "settle") this.settled.push(`${effect.job} ${effect.why ?? "succeeded"}`);
  }

  /** As RAUC does it: the target is bad, is written piece by piece, is first. */
  install(version: string, build: Build, job: string | null = null): boolean {
    try {
      if (!this.#step({ kind: "ask", version, before, job })) return false;
      const target = otherSlot(this.slot);
      this.#write(() => {
        const book = this.environment ?? readSlotBook(null);
        this.environment = { ...book, ok: { ...book.ok, [target]: false } };
      });
      this.#write(() => {
        this.content[target] = contentOf("half written", "dead");
      });
      this.#write(() => {
        this.content[target] = contentOf(version, build);
      });
      this.#write(() => {
        this.environment = activated(this.environment ?? readSlotBook(null), target);
      });
      return this.#step({ kind: "written" });
    } catch (error) {
      if (!(error instanceof PowerCut)) throw error;
      this.powerOn();
      return true;
    }
  }

  powerOn(): void {
    for (let start = 0; start < 40; start += 1) {
      const environmentLost = this.environment === null;
      const next = bootNext(this.environment ?? readSlotBook(null));
      this.environment = next.book;
      if (next.slot === null || !this.content[next.slot].starts) continue;
      this.slot = next.slot;
      this.boot += 1;
      if (environmentLost) {
        this.environment = {
          order: [this.slot, otherSlot(this.slot)],
          ok: { A: true, B: true },
          tries: { A: 0, B: 0 },
        };
      }
      this.#supervise(environmentLost);
      return;
    }
    throw new TypeError("the box never comes up");
  }

  #supervise(environmentLost: boolean): void {
    const { version, passes } = this.content[this.slot];
    const facts = { version, environmentLost, bootWhy: "power was lost", silence: null, boot: String(this.boot) };
    this.give({ kind: "started", ...facts });
    if (this.read().phase.kind !== "trial") return;
    this.give(passes ? { kind: "passed" } : { kind: "refused", check: "readyz", why: "not ready" });
  }

  restart(): void {
    const { phase } = this.read();
    if (phase.kind === "installed") this.give({ kind: "leaving", before });
    else this.powerOn();
  }
}

describe("one update", () => {
  const updated = (build: Build, job: string | null = null): PaperBox => {
    const box = new PaperBox();
    box.powerOn();
    box.install("2", build, job);
    box.restart();
    return box;
  };

  test("A to B to A", () => {
    const box = updated("good", "job-1");
    expect([box.slot, box.read().phase.kind, box.settled]).toEqual(["B", "good", ["job-1 succeeded"]]);
    box.install("3", "good");
    box.restart();
    expect(box.slot).toBe("A");
    expect(box.read().proven).toEqual({ A: "3", B: "2" });
    expect(box.told.filter((each) => each !== "update.trial")).toEqual([
      ...["update.installing", "update.installed", "update.good"],
      ...["update.installing", "update.installed", "update.good"],
    ]);
  });

  test("a version that fails the gate: back, with the reason, and refused until it is cleared", () => {
    const box = updated("fails", "job-2");
    const { phase, refused, lastRollback } = box.read();
    expect(box.slot).toBe("A");
    expect(phase).toMatchObject({ kind: "failed", version: "2", stage: "trial", reason: "readyz: not ready" });
    expect(refused).toMatchObject([{ version: "2", reason: "readyz: not ready" }]);
    expect(lastRollback).toMatchObject({ version: "2" });
    expect(box.told.slice(-2)).toEqual(["update.failed", "update.rolledBack"]);
    expect(box.settled).toEqual(["job-2 trial: readyz: not ready"]);
    expect(box.install("2", "good")).toBe(false);
    expect(box.give({ kind: "clear", version: "3" })).toBe(false);
    box.give({ kind: "clear", version: "2" });
    expect(box.install("2", "good")).toBe(true);
    box.restart();
    expect([box.slot, box.read().phase.kind]).toEqual(["B", "good"]);
  });

  test("a slot that never comes up: back after its tries", () => {
    const box = updated("dead");
    expect(box.slot).toBe("A");
    expect(box.read().phase).toMatchObject({ kind: "failed", stage: "start" });
    expect(box.read().refused[0]?.reason).toContain("started 3 times");
    expect(box.environment).toMatchObject({ ok: { A: true, B: false }, order: ["A", "B"] });
  });

  test("clean restarts during the trial are no tries; a supervisor that is started again neither", () => {
    const box = new PaperBox();
    box.powerOn();
    box.install("2", "good");
    const start = (boot: string): void => {
      box.slot = "B";
      const facts = { version: "2", environmentLost: false, bootWhy: "", silence: null, boot };
      box.give({ kind: "started", ...facts });
    };
    for (const boot of ["b1", "b2", "b3", "b4"]) {
      box.environment = bootNext(box.environment!).book;
      start(boot);
      start(boot);
      box.give({ kind: "ending" });
      expect(box.environment.tries.B).toBe(0);
    }
    expect(box.read().phase).toMatchObject({ kind: "trial", starts: 4 });
    for (let boot = 5; boot < 9; boot += 1) start(`b${boot}`);
    expect(box.read().phase).toMatchObject({ kind: "trial", starts: 8 });
    const environment = activated(readSlotBook(null), "B");
    const facts = { version: "2", environmentLost: false, bootWhy: "", silence: null, boot: "b9" };
    const step = stepUpdate(box.read(), { kind: "started", ...facts }, { slot: "B", environment, nowMs: 1 });
    expect(step).toMatchObject({ book: { phase: { kind: "failed", stage: "trial" } } });
  });

  test("an operator goes back, and may not go where nothing has proven itself", () => {
    const box = new PaperBox();
    box.powerOn();
    expect(box.give({ kind: "back", by: "ada" })).toBe(false);
    const after = updated("good");
    expect(after.give({ kind: "back", by: "ada" })).toBe(true);
    expect(after.slot).toBe("A");
    expect(after.read().lastRollback).toMatchObject({ version: "2", reason: "sent back by ada" });
    expect(after.give({ kind: "back", by: "ada" })).toBe(false);
  });

  test("an environment that is lost while an update waits is armed again once", () => {
    const box = new PaperBox();
    box.powerOn();
    box.install("2", "good");
    box.environment = null;
    box.powerOn();
    expect([box.slot, box.told.includes("update.rearmed")]).toEqual(["A", true]);
    box.powerOn();
    expect([box.slot, box.read().phase.kind]).toEqual(["B", "good"]);
    box.environment = null;
    box.powerOn();
    expect(box.slot).toBe("A");
    box.powerOn();
    expect(box.slot).toBe("B");
  });

  test("a lock counts until its time is over; what is not asked for is refused", () => {
    const box = new PaperBox();
    box.give({ kind: "lock", lock: { why: "audit", by: "ada", atMs: 1, untilMs: 10 } });
    expect(lockOf(box.read(), 9)?.why).toBe("audit");
    expect(lockOf(box.read(), 10)).toBeNull();
    for (const kind of ["written", "passed"] as const) expect(box.give({ kind })).toBe(false);
    expect(box.give({ kind: "refused", check: "x", why: "y" })).toBe(false);
    expect(box.give({ kind: "notWritten", why: "y" })).toBe(false);
    expect(box.give({ kind: "mark", good: false })).toBe(false);
    expect(readBook("{")).toBeNull();
    expect(readBook("null")).toBeNull();
    expect(readBook(`{"format":1,"phase":{"kind":"trial"}}`)).toBeNull();
  });
});

type Act = {
  readonly kind: "install" | "restart" | "back" | "loseEnvironment" | "clear";
  readonly build: Build;
  readonly cut: number;
};
const acts: fc.Arbitrary<Act[]> = fc.array(
  fc.record({
    kind: fc.constantFrom("install", "install", "restart", "restart", "back", "loseEnvironment", "clear"),
    build: fc.constantFrom("good", "fails", "dead"),
    cut: fc.nat(12),
  }) as fc.Arbitrary<Act>,
  { maxLength: 14 },
);

test(`cut at any write, the box comes up with a version that passes (seed ${seed})`, () => {
  fc.assert(
    fc.property(acts, (list) => {
      const box = new PaperBox();
      box.powerOn();
      let number = 1;
      for (const { kind, build, cut } of list) {
        // The higher numbers cut nothing, so that long stretches are seen too.
        box.writesLeft = cut > 8 ? null : cut;
        number += 1;
        if (kind === "install") box.install(String(number), build);
        else if (kind === "restart") box.restart();
        else if (kind === "back") box.give({ kind: "back", by: "ada" });
        else if (kind === "clear") box.give({ kind: "clear", version: null });
        else {
          box.environment = null;
          box.powerOn();
        }
        const { phase, proven } = box.read();
        if (phase.kind === "good")
          expect(box.content[phase.slot]).toMatchObject({ version: phase.version, passes: true });
        for (const slot of ["A", "B"] as const) {
          if (proven[slot] !== null) expect(box.content[slot]).toMatchObject({ version: proven[slot], passes: true });
        }
      }
      box.writesLeft = null;
      for (let start = 0; start < 4; start += 1) box.restart();
      expect(box.content[box.slot].passes).toBe(true);
      expect(["idle", "good", "failed"]).toContain(box.read().phase.kind);
      const [slot, kind] = [box.slot, box.read().phase.kind];
      box.powerOn();
      expect([box.slot, box.read().phase.kind]).toEqual([slot, kind]);
    }),
    { seed, numRuns: 1_000 },
  );
});
