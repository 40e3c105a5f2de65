// SPDX-License-Identifier: Apache-2.0
/**
 * Which trials of earlier runs count, where some were interrupted by the end of their supervisor.
 */
import { expect, test } from "bun:test";
import { withoutInterruptions } from "#appliance/interruptions.ts";
import type { PastTrial, TrialId } from "#fault.ts";
import { pastTrial } from "../reports.ts";

/** `x` interrupted, `f` failed, `c` clean; upper case is another edit at the same site. */
function history(letters: string): PastTrial[] {
  return [...letters].map((letter, index) => {
    const kind = letter.toLowerCase();
    return pastTrial({
      site: { fault: "abc+0x1", boundary: "" },
      trial: `fault-${index}.1` as TrialId,
      key: letter === kind ? "abandon here=-1" : "abandon there=-1",
      verdict: kind === "c" ? "clean" : "failed",
      ...(kind === "x" ? { interrupted: true } : {}),
    });
  });
}

const kept = (letters: string): string => {
  const all = history(letters);
  const left = new Set(withoutInterruptions(all));
  return [...letters].filter((_, index) => left.has(all[index]!)).join("");
};

test("one interruption says nothing, two in a row of the same edit count", () => {
  expect(kept("x")).toBe("");
  expect(kept("cx")).toBe("c");
  expect(kept("fxc")).toBe("fc");
  expect(kept("xx")).toBe("xx");
  expect(kept("xX")).toBe("");
  expect(kept("xXxc")).toBe("c");
  expect(kept("xcx")).toBe("c");
});

test("interruptions are forgotten once the edit has proven itself after them", () => {
  expect(kept("xxc")).toBe("c");
  expect(kept("xxcx")).toBe("c");
  expect(kept("fcfc")).toBe("fcfc");
});
