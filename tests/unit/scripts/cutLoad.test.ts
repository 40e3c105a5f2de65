// SPDX-License-Identifier: Apache-2.0
/**
 * The load of the power cuts: what it acknowledged is there after it was killed, and its check can fail.
 */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const disk = mkdtempSync(join(tmpdir(), "holdfast-load-"));
afterAll(() => rmSync(disk, { recursive: true, force: true }));
const program = join(import.meta.dir, "../../../scripts/lab/cutLoad.ts");
const start = (mode: string, ...numbers: readonly number[]) =>
  Bun.spawn([process.execPath, program, mode, disk, disk, ...numbers.map(String)], {
    stdio: ["ignore", "pipe", "inherit"],
  });

/** Runs until each of these has been acknowledged, then kills it; gives the highest numbers. */
async function until(child: ReturnType<typeof start>, kinds: readonly string[]): Promise<Record<string, number>> {
  const numbers: Record<string, number> = {};
  const decoder = new TextDecoder();
  let text = "";
  for await (const bytes of child.stdout) {
    text += decoder.decode(bytes, { stream: true });
    for (const [, kind, number] of text.matchAll(/^LOAD (\w+) (\d+)$/gm)) numbers[kind!] = Number(number);
    if (kinds.every((kind) => kind in numbers)) child.kill("SIGKILL");
  }
  await child.exited;
  return numbers;
}

async function check(...numbers: readonly number[]): Promise<Record<string, unknown>> {
  const text = await start("check", ...numbers).stdout.text();
  return JSON.parse(/^FOUND (.*)$/m.exec(text)![1]!) as Record<string, unknown>;
}

test("what was acknowledged is found, and what is missing is told", async () => {
  const { journal, outbox } = await until(start("load", 1, 1, 5), ["journal", "outbox"]);
  const { checkpoint } = await until(start("checkpoints", 5), ["checkpoint"]);
  expect(await check(journal!, outbox!, checkpoint!)).toMatchObject({ broken: [] });
  const { broken } = await check(journal! + 1_000, outbox! + 1_000, checkpoint! + 5);
  expect(broken).toEqual(
    expect.arrayContaining([
      expect.stringContaining("acknowledged events are missing"),
      expect.stringContaining("acknowledged messages are there"),
      expect.stringContaining("was acknowledged and is not there"),
    ]),
  );
}, 60_000);
