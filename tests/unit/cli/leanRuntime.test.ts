// SPDX-License-Identifier: Apache-2.0
/** A supervisor starts anew with a smaller runtime once, and tells nobody it starts. Gets scripts; checks what they print. */
import { expect, test } from "bun:test";
import { leanEnvironment } from "#cli/leanRuntime.ts";

const script = `
import { becomeLean } from ${JSON.stringify(new URL("../../../src/cli/leanRuntime.ts", import.meta.url).href)};
const told = () => Object.keys(process.env).filter((name) => /^BUN_JSC_|^MIMALLOC_|^HOLDFAST_LEAN/.test(name));
process.stdout.write(JSON.stringify({ pid: process.pid, told: told(), words: process.argv.slice(-1) }) + "\\n");
becomeLean();
const child = Bun.spawnSync(["env"], { env: { ...process.env } }).stdout.toString();
process.stdout.write(JSON.stringify({ told: told(), child: /BUN_JSC_|MIMALLOC_|HOLDFAST_LEAN/.test(child) }) + "\\n");
`;

type Start = { readonly pid: number; readonly words: readonly string[]; readonly told: readonly string[] };

const outputOf = (environment: Record<string, string>): unknown[] => {
  const rest = Object.entries(process.env).filter(([name]) => !/^BUN_JSC_|^MIMALLOC_|^HOLDFAST_LEAN/.test(name));
  const command = [process.execPath, "-e", script, "a word"];
  const ran = Bun.spawnSync(command, { env: { ...Object.fromEntries(rest), ...environment } });
  return ran.stdout
    .toString()
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
};

test("it starts anew once, in the same process and with the same words, and children are not told", () => {
  const [first, second, last] = outputOf({}) as [Start, Start, object];
  expect(second.pid).toBe(first.pid);
  expect(second.told).toContain("BUN_JSC_useFTLJIT");
  expect([first.words, second.words]).toEqual([["a word"], ["a word"]]);
  expect(last).toEqual({ told: [], child: false });
});

test("what somebody has set himself is left to him", () => {
  expect(leanEnvironment({ BUN_JSC_useFTLJIT: "1" })).toBeNull();
  expect(outputOf({ BUN_JSC_useFTLJIT: "1" })).toHaveLength(2);
});

test("all else of the environment is kept", () => {
  expect(leanEnvironment({ PATH: "/bin", NONE: undefined })).toMatchObject({ PATH: "/bin", HOLDFAST_LEAN: "1" });
});
