// SPDX-License-Identifier: Apache-2.0
/** Messages come in order, and what was announced before a sleep ends it at once. */
import { expect, test } from "bun:test";
import { announce, callsOf, openMailbox, post, take, waitForCall } from "#mailbox.ts";

test("messages in order, then none; nothing is lost between the look and the sleep", () => {
  const [ours, theirs] = openMailbox();
  const before = callsOf(theirs);
  expect(take(theirs)).toBeNull();
  post(ours, { kind: "first" });
  post(ours, "second");
  expect(waitForCall(theirs, before, 60_000)).toBe(true);
  expect(take(theirs)).toEqual({ message: { kind: "first" } });
  expect(take(theirs)).toEqual({ message: "second" });
  expect(take(theirs)).toBeNull();
  expect(waitForCall(theirs, callsOf(theirs), 0)).toBe(false);
  const seen = callsOf(theirs);
  announce(ours);
  expect(waitForCall(theirs, seen, 60_000)).toBe(true);
  for (const { port } of [ours, theirs]) port.close();
});
