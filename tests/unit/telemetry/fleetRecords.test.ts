// SPDX-License-Identifier: Apache-2.0
/** Limits of the records that a box holds, and what survives a restart of it. */
import { expect, test } from "bun:test";
import { buildId, fleetPair, record, seededPair } from "#scripts/fleet/vectorValues.ts";
import { FleetRecords, recordsPerAuthor, recordsPerBuild } from "#telemetry/fleetRecords.ts";
import type { KeyPair } from "#telemetry/keys.ts";
import { type RescueRecord, signGrant, signRecord, siteName } from "#telemetry/rescueRecord.ts";
import type { TrustedKey } from "#telemetry/trust.ts";
import { MemoryOutbox } from "#tests/peers/memoryOutbox.ts";

const nowSeconds = 1_795_366_900;
const fleet: TrustedKey = { key: fleetPair.public, use: "fleet", name: "", notBefore: 0, expiresAt: 2 ** 33 };
const open = (outbox: MemoryOutbox, clockKnown = true): FleetRecords =>
  new FleetRecords(outbox, () => ({ nowSeconds, clockKnown, fleetKey: (id) => (id === fleet.key.id ? fleet : null) }));

function put(records: FleetRecords, author: KeyPair, change: Partial<RescueRecord>): string {
  const device = `box-${author.public.id}`;
  const grant = signGrant(fleetPair, { key: author.public, device, notBefore: 0, expiresAt: 2 ** 33 });
  const whole = { ...record(grant), device, ...change };
  const site = siteName(whole.fault, whole.boundary);
  const result = records.receive(buildId, site, signRecord(author, whole));
  return result.kind === "ignored" ? result.why : result.kind;
}
const at = (offset: number): Partial<RescueRecord> => ({
  fault: { module: buildId, offset: BigInt(offset) },
  boundary: null,
});

test("16 of one author and 64 of a build: a better one takes the place of the worst, a worse one is ignored", () => {
  const records = open(new MemoryOutbox());
  const one = seededPair(60);
  for (let index = 0; index < recordsPerAuthor; index += 1) {
    expect(put(records, one, { ...at(index), clean: 5 + index, degraded: 0 })).toBe("held");
  }
  expect(put(records, one, { ...at(100), clean: 1, degraded: 0 })).toBe("limit");
  expect(put(records, one, { ...at(101), clean: 90, degraded: 0 })).toBe("held");
  expect(records.get(buildId, "c0ffee00.0-none")).toBeNull();
  for (let author = 61; records.count < recordsPerBuild; author += 1) {
    for (let index = 0; index < recordsPerAuthor; index += 1)
      put(records, seededPair(author), { ...at(author * 100 + index), clean: 50 });
  }
  expect(records.count).toBe(recordsPerBuild);
  expect(put(records, seededPair(90), { ...at(9000), clean: 99, degraded: 0 })).toBe("held");
  expect(records.count).toBe(recordsPerBuild);
});

test("records, failures, floors and blocks survive; what expired or lost its key does not", () => {
  const outbox = new MemoryOutbox();
  const author = seededPair(60);
  const first = open(outbox);
  put(first, author, { ...at(1), rev: 5 });
  put(first, author, { ...at(2), expiresAt: nowSeconds + 10 });
  first.noteOutcome(buildId, "c0ffee00.1-none", "failed");
  first.block(buildId, "c0ffee00.2-none", nowSeconds + 100);
  const again = open(outbox);
  expect(again.hints(buildId)).toMatchObject([{ site: "c0ffee00.1-none", standing: "afterLadder" }]);
  expect(put(again, author, { ...at(1), rev: 4 })).toBe("stale");
  expect(put(again, author, { ...at(2), rev: 9 })).toBe("blocked");
  // The same candidate keeps its failures, another one begins anew.
  expect(put(again, author, { ...at(1), rev: 6 })).toBe("held");
  expect(again.hints(buildId)).toMatchObject([{ standing: "afterLadder" }]);
  expect(put(again, author, { ...at(1), rev: 7, returnValue: 0n })).toBe("held");
  expect(again.hints(buildId)).toMatchObject([{ standing: "first" }]);
  expect(again.forget(buildId, null)).toBe(1);
  const nobody = new FleetRecords(outbox, () => ({ nowSeconds, clockKnown: true, fleetKey: () => null }));
  expect(nobody.count).toBe(0);
});

test("an author's withdrawal is no hint, and an expired record is none once the time is known", () => {
  const author = seededPair(60);
  const records = open(new MemoryOutbox());
  put(records, author, { ...at(1), block: true });
  expect(records.hints(buildId)).toEqual([]);
  expect(put(records, author, { ...at(3), issuedAt: nowSeconds - 100, expiresAt: nowSeconds - 1 })).toBe("expired");
  expect(put(open(new MemoryOutbox(), false), author, { ...at(3), issuedAt: 5, expiresAt: 6 })).toBe("held");
});
