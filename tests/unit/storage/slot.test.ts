// SPDX-License-Identifier: Apache-2.0
/**
 * A slot gives back what was put in, and any change of its bytes gives null or the equal record.
 */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { address, type Edit, rungs, type TrialId } from "#fault.ts";
import { decodeSlot, encodeIntent, encodeOutcome, type Slot, SlotDraft, slotBytes } from "#storage/slot.ts";

const latin = (maxLength: number) =>
  fc.string({ maxLength, unit: fc.integer({ min: 32, max: 126 }).map((code) => String.fromCharCode(code)) });
const edits: fc.Arbitrary<Edit> = fc.oneof(
  fc.record({
    kind: fc.constant("abandon" as const),
    rung: fc.constantFrom("abandon" as const, "inward" as const),
    point: fc.record({
      frame: fc.integer({ min: 0, max: 0xffff }),
      returnValue: fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }),
    }),
  }),
  fc.record({
    kind: fc.constant("neutralise" as const),
    skip: fc.oneof(
      fc.record({
        kind: fc.constant("zero" as const),
        registers: fc
          .uniqueArray(fc.integer({ min: 0, max: 63 }), { maxLength: 4 })
          .map((registers) => registers.sort((a, b) => a - b)),
      }),
      fc.record({ kind: fc.constant("drop" as const) }),
    ),
    lengthBytes: fc.integer({ min: 1, max: 15 }),
  }),
  fc.record({
    kind: fc.constantFrom("mend" as const, "leave" as const),
    at: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }).map(address),
  }),
  fc.record({
    kind: fc.constant("deliver" as const),
    reason: fc.constantFrom("sentByProcess" as const, "exhausted" as const, "notServing" as const),
  }),
);
const word = fc.integer({ min: 0, max: 0xffffffff });
const slots: fc.Arbitrary<Slot> = fc.oneof(
  fc.record({
    kind: fc.constant("intent" as const),
    trial: fc.constant("250131-142233-k3f9a.12" as TrialId),
    atMs: fc.integer({ min: 0, max: 2 ** 45 }),
    pid: word,
    tid: word,
    signal: fc.constantFrom("SIGSEGV" as const, "SIGABRT" as const, "SIGSTOP" as const),
    edit: edits,
    key: latin(40),
    site: fc.record({ fault: latin(50), boundary: latin(50) }),
    workload: latin(20),
  }),
  fc.record({
    kind: fc.constant("outcome" as const),
    trial: fc.constant("250131-142233-k3f9a.12" as TrialId),
    atMs: fc.integer({ min: 0, max: 2 ** 45 }),
    rung: fc.constantFrom(...rungs),
    verdict: fc.constantFrom("clean" as const, "degraded" as const, "failed" as const),
    stopUs: word,
    probationMs: word,
    evidence: latin(150),
  }),
);

const encode = (slot: Slot, sequence: number): Buffer => {
  const draft = new SlotDraft();
  draft.bytes.fill(0xaa);
  if (slot.kind === "intent") encodeIntent(draft, sequence, slot, slot, slot.atMs);
  else encodeOutcome(draft, sequence, { ...slot, evidence: [slot.evidence] }, slot.atMs);
  return Buffer.from(draft.bytes);
};

test("round trip", () => {
  fc.assert(
    fc.property(slots, fc.integer({ min: 1 }), (slot, sequence) => {
      expect(decodeSlot(encode(slot, sequence))).toEqual({ sequence, slot });
    }),
  );
});

test("one flipped bit anywhere gives null", () => {
  fc.assert(
    fc.property(slots, fc.nat(slotBytes * 8 - 1), (slot, bit) => {
      const bytes = encode(slot, 7);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      expect(decodeSlot(bytes)).toBeNull();
    }),
  );
});

test("any bytes are read without a throw, and blank ones are no record", () => {
  expect(decodeSlot(Buffer.alloc(slotBytes))).toBeNull();
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => decodeSlot(Buffer.from(bytes)) === null));
});

test("texts that are too long are cut, and the record stays readable", () => {
  const long = "x".repeat(400);
  const [sample] = fc.sample(
    slots.filter((slot) => slot.kind === "intent"),
    1,
  );
  const decoded = decodeSlot(encode({ ...sample!, site: { fault: long, boundary: long }, workload: long } as Slot, 1));
  expect(decoded?.slot.kind).toBe("intent");
});
