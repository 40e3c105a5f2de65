// SPDX-License-Identifier: Apache-2.0
/**
 * What differs between the lock of an image and the packages that were unpacked.
 */
import { expect, test } from "bun:test";
import { differences } from "#image/lock.ts";

const line = (name: string, version: string, sum = "aa"): string => `${name}\t${version}\tarm64\t${sum}\n`;

test("equal lists differ in nothing, in whatever order", () => {
  const [bash, dash] = [line("bash", "5"), line("dash", "1")];
  expect(differences(bash + dash, dash + bash)).toEqual([]);
});

test("another version, another file of the same version, a package more and one less are told", () => {
  const locked = line("bash", "5") + line("dash", "1") + line("gone", "2");
  const unpacked = line("bash", "6") + line("dash", "1", "bb") + line("new", "3");
  expect(differences(locked, unpacked)).toEqual(["bash 5 > 6", "dash 1 > 1", "gone 2 > -", "new - > 3"]);
});
