// SPDX-License-Identifier: Apache-2.0
/**
 * The example configurations hold what they promise: they are good, and all they leave out is at the default they name.
 */
import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describeProblem, readConfig } from "#config/load.ts";

const folder = join(import.meta.dir, "../../../vm/examples");

test("every example can be run", () => {
  const files = readdirSync(folder).filter((name) => name.endsWith(".toml"));
  expect(files.length).toBeGreaterThan(1);
  for (const file of files) {
    const reading = readConfig(readFileSync(join(folder, file), "utf8"));
    const problems = reading.kind === "problems" ? reading.problems.map(describeProblem) : [];
    expect({ file, problems }).toEqual({ file, problems: [] });
  }
});

test("the defaults that the Debian example names are the defaults", () => {
  const text = readFileSync(join(folder, "debian.toml"), "utf8");
  const named = text.replace(/^# (vsock = true, serial.*)$/m, (_, list: string) => list.split(", ").join("\n"));
  const [left, said] = [readConfig(text), readConfig(named)];
  expect(said).toEqual(left);
});
