// SPDX-License-Identifier: Apache-2.0
/**
 * A reader that has seen enough: `holdfast … | head` prints what was read, and nothing else.
 */
import { expect, test } from "bun:test";
import { join } from "node:path";

const main = join(import.meta.dir, "../../src/cli/main.ts");

test("help into a pipe that nobody reads to its end is no error", async () => {
  for (let round = 0; round < 5; round += 1) {
    const words = ["sh", "-c", '"$0" "$1" guard --help | head -n 1', process.execPath, main];
    const shell = Bun.spawn(words, { stdio: ["ignore", "pipe", "pipe"] });
    const [out, complaint] = await Promise.all([shell.stdout.text(), shell.stderr.text(), shell.exited]);
    expect([out, complaint]).toEqual(["Usage: holdfast guard [options] [command...]\n", ""]);
  }
});
