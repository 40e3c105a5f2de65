// SPDX-License-Identifier: Apache-2.0
/**
 * Notes of acts with several steps: who finds what, after a supervisor that died between the steps.
 */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { UnfinishedActs } from "#appliance/unfinishedActs.ts";
import type { Decision, TrialId } from "#fault.ts";
import { registerChanges } from "#suppression/apply.ts";
import { report } from "../reports.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "holdfast-acts-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const fault = report([{ name: "deref" }, { name: "command", by: "pointer" }, { name: "loop" }, { name: "main" }]);
const abandon = { kind: "abandon", rung: "abandon", point: { frame: 1, returnValue: -1n } } as const;
const decisionOf = (changes: Partial<Decision>): Decision => ({
  trial: "fault-1.1" as TrialId,
  edit: abandon,
  key: "abandon somewhere=-1",
  session: null,
  cut: true,
  reason: "test",
  past: [],
  ...changes,
});

test("an act that was begun and not ended is found, once, in a thread that stands after a step", () => {
  new UnfinishedActs(folder).begin(fault, decisionOf({}));
  const next = new UnfinishedActs(folder);
  expect(next.take(fault.tid + 1, "SIGTRAP")).toBeNull();
  expect(next.take(fault.tid, "SIGTRAP")).toEqual({ fault: fault.id, registers: registerChanges(fault, abandon) });
  expect(next.take(fault.tid, "SIGTRAP")).toBeNull();
  expect(new UnfinishedActs(folder).take(fault.tid, "SIGTRAP")).toBeNull();
});

test("a thread whose step a signal came before stands within the act as well", () => {
  new UnfinishedActs(folder).begin(fault, decisionOf({}));
  expect(new UnfinishedActs(folder).take(fault.tid, "SIGALRM")).toEqual({
    fault: fault.id,
    registers: registerChanges(fault, abandon),
  });
});

test("before its first step the thread is in its own fault, which is worked on as such", () => {
  new UnfinishedActs(folder).begin(fault, decisionOf({}));
  expect(new UnfinishedActs(folder).take(fault.tid, "SIGSEGV")).toBeNull();
});

test("a thread that was to be parked gets the registers of its fault, and faults again", () => {
  new UnfinishedActs(folder).begin(fault, decisionOf({ edit: { kind: "park" }, cut: false }));
  const registers = new UnfinishedActs(folder).take(fault.tid, "SIGTRAP")!.registers;
  expect(registers.get(16)).toBe(fault.registers[16]!);
  expect(registers.size).toBe(17);
});

test("an act of one step leaves no note, and one that ended none either", () => {
  const acts = new UnfinishedActs(folder);
  acts.begin(fault, decisionOf({ cut: false }));
  expect(existsSync(join(folder, "acts"))).toBe(false);
  acts.begin(fault, decisionOf({}));
  acts.end(fault.tid);
  expect(new UnfinishedActs(folder).take(fault.tid, "SIGTRAP")).toBeNull();
});

test("a note that is not whole is none", () => {
  const path = join(folder, "acts", String(fault.tid));
  new UnfinishedActs(folder).begin(fault, decisionOf({}));
  for (const lengthBytes of [0, 1, 20]) {
    writeFileSync(path, "x", { flag: existsSync(join(folder, "acts")) ? "w" : "a" });
    new UnfinishedActs(folder).begin(fault, decisionOf({}));
    truncateSync(path, lengthBytes);
    expect(new UnfinishedActs(folder).take(fault.tid, "SIGTRAP")).toBeNull();
    new UnfinishedActs(folder).begin(fault, decisionOf({}));
  }
});
