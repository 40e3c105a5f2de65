// SPDX-License-Identifier: Apache-2.0
/**
 * Spines noted for the next supervisor, and read back.
 */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { noteSpines, readSpines, removeSpines } from "#appliance/spineNotes.ts";
import { ManualClock } from "#clock.ts";
import { address } from "#fault.ts";
import type { BlockedThread } from "#monitor/processes.ts";
import { type SpineFrame, Spines } from "#monitor/spines.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "holdfast-spines-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const frame = (at: bigint, cfa: bigint | null): SpineFrame => ({
  cfa: cfa === null ? null : address(cfa),
  function: address(at & ~0xffn),
  pc: address(at),
  isPart: false,
});
const stack = [frame(0x104n, 0x7ffe_0000_1010n), frame(0x204n, 0x7ffe_0000_1100n), frame(0x304n, null)];
const epoll: BlockedThread = { syscall: 232, arguments: [], sp: address(0x7ffe_0000_1000n), pc: address(0x104n) };

test("what is noted is known again, of threads that still live", async () => {
  const spines = new Spines("x86_64", () => stack);
  for (const tid of [7, 8]) spines.observe(tid, epoll);
  const ended = new AbortController();
  const clock = new ManualClock();
  const noting = noteSpines(spines, folder, clock, ended.signal);
  ended.abort();
  await noting;
  const next = new Spines("x86_64", () => []);
  next.restore(readSpines(folder), [7, 9]);
  expect([7, 8, 9].map((tid) => next.knows(tid))).toEqual([true, false, false]);
  expect(next.isIdle(7, epoll)).toBe(true);
  expect(next.spineIn(7, [frame(0x904n, 0x7ffe_0000_0f00n), ...stack.slice(1)])).toBe(1);
});

test("nothing, and a file that is no such note, are none", async () => {
  expect(readSpines(folder)).toEqual([]);
  const spines = new Spines("x86_64", () => stack);
  spines.observe(7, epoll);
  const ended = new AbortController();
  ended.abort();
  await noteSpines(spines, folder, new ManualClock(), ended.signal);
  writeFileSync(join(folder, "spines.json"), "[");
  expect(readSpines(folder)).toEqual([]);
  for (const text of [
    "{}",
    "[1]",
    "[[7]]",
    '[[7,{"kind":2}]]',
    '[["7",null]]',
    '[[7,{"kind":1,"seen":1,"sp":"0x1n","pc":"0x1n","frames":[0]}]]',
  ]) {
    writeFileSync(join(folder, "spines.json"), text);
    expect(readSpines(folder)).toEqual([]);
  }
  removeSpines(folder);
  expect(() => readFileSync(join(folder, "spines.json"))).toThrow();
});
