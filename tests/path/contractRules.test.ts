// SPDX-License-Identifier: Apache-2.0
/**
 * The CDDL of the contract and the golden vectors, held together by a validator of other people: it accepts every payload
 * that we send, and refuses one that lacks a key.
 */
import { afterAll, beforeAll, expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fromHex } from "#bytes.ts";
import { type Vector, vectorsPath } from "#scripts/fleet/vectors.ts";
import { type CborMap, decodeCbor, encodeCbor } from "#telemetry/cbor.ts";
import { need, programPath } from "#tests/skip.ts";

const payloadMax = 65_536;
const rules = join(import.meta.dir, "../../src/telemetry/contract.cddl");
const validator = Bun.env.HOLDFAST_CDDL ?? programPath("cddl-verify");
const withValidator = need(() =>
  validator === null ? "cddl-verify: pip install cddl-verifier (1.5.3 is known to work), or HOLDFAST_CDDL=PATH" : null,
);
const signedRules: readonly string[] = ["command", "grant", "rescue", "deny"];
/** One of each shape. */
const poorerRules: readonly string[] = ["birth", "event", "command"];

let directory = "";
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "holdfast-cddl-"));
});
afterAll(() => rmSync(directory, { recursive: true }));

async function follows(rule: string, payload: Uint8Array): Promise<boolean> {
  const file = join(directory, "payload.cbor");
  await Bun.write(file, payload);
  return Bun.spawnSync([validator!, "-t", rule, "-o", "/dev/null", rules, file]).success;
}

withValidator(
  "the CDDL accepts what we send and refuses what lacks a key",
  async () => {
    const stored: Vector[] = await Bun.file(vectorsPath).json();
    const wrong: string[] = [];
    let checked = 0;
    for (const { name, rule, hex, refused } of stored) {
      if (refused !== undefined) continue;
      const message = decodeCbor(fromHex(hex), payloadMax);
      const bytes = signedRules.includes(rule) ? (message as readonly Uint8Array[])[2]! : fromHex(hex);
      if (!(await follows(rule, bytes))) wrong.push(`${name} is refused`);
      checked += 1;
      if (!poorerRules.includes(rule)) continue;
      const { v: _, ...poorer } = decodeCbor(bytes, payloadMax) as CborMap;
      if (await follows(rule, encodeCbor(poorer))) wrong.push(`${name} is accepted without v`);
    }
    expect(wrong).toEqual([]);
    expect(checked).toBeGreaterThan(10);
  },
  120_000,
);
