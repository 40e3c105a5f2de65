// SPDX-License-Identifier: Apache-2.0
/**
 * How many acts of late: at a site and in all, within a window that goes on.
 */
import { expect, test } from "bun:test";
import { ActBudget } from "#appliance/actBudget.ts";

const windowMs = 1_000;

test("acts are counted at their site and in all, and forgotten after the window", () => {
  const budget = new ActBudget(windowMs);
  for (const atMs of [0, 10, 500]) budget.note("a", atMs);
  budget.note("b", 510);
  expect(budget.spent("a", 900)).toEqual({ site: 3, program: 4 });
  expect(budget.spent("b", 900)).toEqual({ site: 1, program: 4 });
  expect(budget.spent("a", 1_200)).toEqual({ site: 1, program: 2 });
  expect(budget.spent("a", 5_000)).toEqual({ site: 0, program: 0 });
});

test("sites without number are counted in all", () => {
  const budget = new ActBudget(windowMs);
  for (let site = 0; site < 5_000; site += 1) budget.note(`site ${site}`, 1);
  expect(budget.spent("site 4999", 2)).toEqual({ site: 0, program: 5_000 });
  expect(budget.spent("site 1", 2).site).toBe(1);
});
