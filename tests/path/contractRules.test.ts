// SPDX-License-Identifier: Apache-2.0
/**
 * The CDDL of the contract and the golden vectors, held together by a validator of other people: it accepts every payload
 * that we send, and refuses one that lacks a key.
 */
import { expect } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fromHex } from "#bytes.ts";
import { type Vector, vectorsPath } from "#scripts/fleet/vectors.ts";
import { type CborMap, decodeCbor, encodeCbor } from "#telemetry/cbor.ts";
import { need, programPath } from "#tests/skip.ts";

const payloadMax = 65_536;
const rules = join(import.meta.dir, "../../src/telemetry/contract.cddl");
/** As scripts/test gets it: a Python package that runs from its own file. */
const validator = join(import.meta.dir, "../../.cache/cddl_verifier-1.5.3-py3-none-any.whl");
/** Gets the rules and pairs of a rule's name and a payload in hex on its standard input; gives whether each follows. */
const script = `
import json, sys
from cddl_verifier import Validator
rules, payloads = json.load(sys.stdin)
checks = Validator(rules)
print(json.dumps([checks.validate(bytes.fromhex(payload), rule).valid for rule, payload in payloads]))
`;
const withValidator = need("python3", () =>
  existsSync(validator) ? null : "cddl-verifier 1.5.3 in .cache: run ./scripts/test, which gets it through pip3",
);
const signedRules: readonly string[] = ["command", "grant", "rescue", "deny"];
/** One of each shape. */
const poorerRules: readonly string[] = ["birth", "event", "command"];

async function follow(payloads: readonly (readonly [rule: string, payload: Uint8Array])[]): Promise<boolean[]> {
  const text = await Bun.file(rules).text();
  const asked = JSON.stringify([text, payloads.map(([rule, payload]) => [rule, payload.toHex()])]);
  const child = Bun.spawn([programPath("python3")!, "-c", script], {
    env: { PYTHONPATH: validator },
    stdio: [new Blob([asked]), "pipe", "inherit"],
  });
  return JSON.parse(await child.stdout.text()) as boolean[];
}

withValidator(
  "the CDDL accepts what we send and refuses what lacks a key",
  async () => {
    const stored: Vector[] = await Bun.file(vectorsPath).json();
    const cases: { what: string; rule: string; payload: Uint8Array; follows: boolean }[] = [];
    for (const { name, rule, hex, refused } of stored) {
      if (refused !== undefined) continue;
      const message = decodeCbor(fromHex(hex), payloadMax);
      const payload = signedRules.includes(rule) ? (message as readonly Uint8Array[])[2]! : fromHex(hex);
      cases.push({ what: name, rule, payload, follows: true });
      if (!poorerRules.includes(rule)) continue;
      const { v: _, ...poorer } = decodeCbor(payload, payloadMax) as CborMap;
      cases.push({ what: `${name} without v`, rule, payload: encodeCbor(poorer), follows: false });
    }
    const found = await follow(cases.map(({ rule, payload }) => [rule, payload]));
    const wrong = cases.filter(({ follows }, index) => found[index] !== follows);
    expect(wrong.map(({ what, follows }) => `${what} is ${follows ? "refused" : "accepted"}`)).toEqual([]);
    expect([found.length > 10, found.length]).toEqual([true, cases.length]);
  },
  120_000,
);
