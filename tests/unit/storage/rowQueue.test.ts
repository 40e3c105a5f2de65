// SPDX-License-Identifier: Apache-2.0
/**
 * The queue stays within its bounds, loses the least valuable rows first, counts them, and never loses an intent.
 */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { RowQueue, rowPolicies } from "#storage/rowQueue.ts";
import type { JournalRow, RowKind } from "#storage/rows.ts";

const row = (kind: RowKind, bytes = 10): JournalRow => ({
  kind,
  id: "i",
  atMs: 0,
  open: kind === "intent",
  head: "{}",
  body: kind === "fault" ? "x".repeat(bytes) : null,
});

test("bounded, counted, and intents stay", () => {
  const kinds = fc.constantFrom<RowKind>("event", "fault", "outcome", "intent");
  fc.assert(
    fc.property(fc.array(kinds, { maxLength: 300 }), (pushed) => {
      const queue = new RowQueue(rowPolicies.journal, 32, 100_000);
      for (const kind of pushed) queue.push(row(kind), null);
      const left = queue.take(1000).map((queued) => queued.row.kind);
      const intents = pushed.filter((kind) => kind === "intent").length;
      expect(left.filter((kind) => kind === "intent")).toHaveLength(intents);
      expect(left.length).toBeLessThanOrEqual(Math.max(32, intents));
      const { event = 0, outcome = 0, fault = 0 } = queue.dropped;
      expect(left.length + event + outcome + fault).toBe(pushed.length);
      if (outcome > 0) expect(left).not.toContain("event");
    }),
  );
});

test("by bytes, whole reports go before the fault itself does", () => {
  const queue = new RowQueue(rowPolicies.journal, 1000, 10_000);
  for (let count = 0; count < 20; count += 1) queue.push(row("fault", 1000), null);
  expect(queue.bytes).toBeLessThanOrEqual(10_000);
  expect(queue.length).toBe(20);
  expect(queue.dropped.report).toBeGreaterThan(0);
  expect(queue.dropped.fault).toBeUndefined();
});

test("a batch put back comes first again", () => {
  const queue = new RowQueue(rowPolicies.journal);
  for (const kind of ["intent", "outcome", "event"] as const) queue.push(row(kind), null);
  const taken = queue.take(2);
  queue.putBack(taken);
  expect(queue.take().map((queued) => queued.order)).toEqual([1, 2, 3]);
  expect(queue.bytes).toBe(0);
});
