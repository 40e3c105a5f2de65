// SPDX-License-Identifier: Apache-2.0
/**
 * The ring keeps what was put until it is freed, the same whether it is mapped (in memory) or written (on a disk), and a
 * ring file that is short, foreign or full of holes is made whole.
 */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { FaultId, TrialId } from "#fault.ts";
import { IntentRing, ringOwner, slotCount } from "#storage/intentRing.ts";
import { isMemory } from "#storage/ownership.ts";
import { memoryScratch } from "#tests/memoryScratch.ts";
import { sampleDecision, sampleOutcome, sampleReport } from "./sampleFault.ts";

const places = { memory: memoryScratch("ring"), disk: mkdtempSync(join("/var/tmp", "holdfast-ring-")) };
afterAll(() => {
  for (const place of Object.values(places)) rmSync(place, { recursive: true, force: true });
});

const id = (number: number): FaultId => `250131-142233-${String(number).padStart(5, "0")}` as FaultId;
const put = (ring: IntentRing, number: number) =>
  ring.putIntent(sampleReport(id(number)), sampleDecision(id(number)), 1);
const trials = (ring: IntentRing): TrialId[] => ring.found.map(({ slot }) => slot.trial);
const trial = (number: number): TrialId => sampleDecision(id(number)).trial;

for (const [name, place] of Object.entries(places)) {
  describe(`in ${name}`, () => {
    const path = join(place, "test.ring");

    test("what was put is found in its order, what was freed is not", () => {
      {
        using ring = IntentRing.open(path, "/owner");
        const first = put(ring, 1)!;
        put(ring, 2);
        ring.putOutcome(sampleOutcome(id(2)), 2);
        ring.free(first);
        put(ring, 3);
        expect(ring.usedCount).toBe(3);
      }
      using ring = IntentRing.open(path, "/owner");
      expect(trials(ring)).toEqual([trial(2), trial(2), trial(3)]);
      expect(ring.found.map(({ slot }) => slot.kind)).toEqual(["intent", "outcome", "intent"]);
      for (const { index } of ring.found) ring.free(index);
      expect(ringOwner(path)).toBe("/owner");
    });

    test("an intent takes the slot of an outcome, and is refused where all are intents", () => {
      using ring = IntentRing.open(path, "/owner");
      ring.putOutcome(sampleOutcome(id(0)), 1);
      for (let number = 1; number <= slotCount; number += 1) expect(put(ring, number)).not.toBeNull();
      expect(put(ring, slotCount + 1)).toBeNull();
      expect(ring.putOutcome(sampleOutcome(id(1)), 1)).toBeNull();
      using again = IntentRing.open(path, "/owner");
      expect(trials(again)).toEqual(Array.from({ length: slotCount }, (_, index) => trial(index + 1)));
      for (const { index } of again.found) again.free(index);
    });

    test("what is only practised is in no slot, and a full ring is left as it is", () => {
      using ring = IntentRing.open(path, "/owner");
      const practise = (): void =>
        ring.practise(() => {
          for (let round = 0; round < 3; round += 1) ring.free(put(ring, 9)!);
        });
      put(ring, 1);
      practise();
      const second = put(ring, 2)!;
      expect(ring.usedCount).toBe(2);
      for (let number = 3; number <= slotCount; number += 1) ring.putOutcome(sampleOutcome(id(number)), 1);
      practise();
      expect(ring.usedCount).toBe(slotCount);
      using again = IntentRing.open(path, "/owner");
      expect(again.found.map(({ index }) => index)[1]).toBe(second);
      expect(trials(again)).toEqual(Array.from({ length: slotCount }, (_, index) => trial(index + 1)));
      for (const { index } of again.found) again.free(index);
    });

    test("a file with holes takes real room before a slot is put; a short and a foreign one are begun anew", () => {
      const { size } = statSync(path);
      for (const damage of [() => truncateSync(path), () => writeFileSync(path, "x".repeat(size))]) {
        damage();
        truncateSync(path, size);
        using ring = IntentRing.open(path, "/owner");
        expect(ring.found).toEqual([]);
        expect(statSync(path).blocks * 512).toBeGreaterThanOrEqual(size);
        put(ring, 7);
        using again = IntentRing.open(path, "/owner");
        expect(trials(again)).toEqual([trial(7)]);
        again.free(again.found[0]!.index);
      }
    });
  });
}

test("the two places are of the two kinds", () => {
  expect([isMemory(places.memory), isMemory(places.disk)]).toEqual([true, false]);
});
