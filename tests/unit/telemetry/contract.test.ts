// SPDX-License-Identifier: Apache-2.0
/** The golden vectors: still made the same, read by us and by an independent decoder. */
import { expect, test } from "bun:test";
import { fromHex } from "#bytes.ts";
import { TelemetryError } from "#errors.ts";
import { type Vector, vectors, vectorsPath } from "#scripts/fleet/vectors.ts";
import { boxPair, buildId, device, fleetPair, operatorPair } from "#scripts/fleet/vectorValues.ts";
import { decodeCbor } from "#telemetry/cbor.ts";
import { openCommand } from "#telemetry/command.ts";
import { openDeny } from "#telemetry/deny.ts";
import { mirrorJson } from "#telemetry/mirror.ts";
import { alarmSchema, birthSchema, configSchema, eventSchema, jobSchema, readPayload } from "#telemetry/payloads.ts";
import { openGrant, openRecord, peekGrant } from "#telemetry/rescueRecord.ts";
import { decodePack } from "#telemetry/senml.ts";

const stored: Vector[] = await Bun.file(vectorsPath).json();
const accepted = stored.filter((vector) => vector.refused === undefined);
const refused = stored.filter((vector) => vector.refused !== undefined);
const site = "c0ffee00.4f2a0-deadbeef.31c44";

const readers: Record<string, (bytes: Uint8Array) => unknown> = {
  birth: (bytes) => readPayload(birthSchema, bytes),
  config: (bytes) => readPayload(configSchema, bytes),
  event: (bytes) => readPayload(eventSchema, bytes),
  alarm: (bytes) => readPayload(alarmSchema, bytes),
  job: (bytes) => readPayload(jobSchema, bytes),
  senml: decodePack,
  command: (bytes) => openCommand(bytes, operatorPair.public, device, "workload.restart"),
  grant: (bytes) => openGrant(bytes, fleetPair.public, device),
  deny: (bytes) => openDeny(bytes, operatorPair.public),
  rescue: (bytes) => {
    peekGrant(bytes);
    return openRecord(bytes, boxPair.public, buildId, site);
  },
  payload: (bytes) => decodeCbor(bytes, 65_536),
};

/** A typed error, or a value: nothing else may come of any bytes. */
function readHostile(rule: string, bytes: Uint8Array): "value" | "error" {
  try {
    readers[rule]!(bytes);
    return "value";
  } catch (error) {
    if (error instanceof TelemetryError) return "error";
    throw error;
  }
}

test("the vectors are what the code makes", () => {
  expect(JSON.parse(JSON.stringify(vectors()))).toEqual(stored);
});

test("every payload is read back to its value", () => {
  for (const vector of accepted) {
    const bytes = fromHex(vector.hex);
    expect(() => readers[vector.rule]!(bytes)).not.toThrow();
    const value = decodeCbor(bytes, 65_536);
    expect(JSON.parse(mirrorJson(value)), vector.name).toEqual(vector.value);
  }
});

test("every refusal is a typed error", () => {
  for (const { name, rule, hex } of refused)
    expect(`${name}: ${readHostile(rule, fromHex(hex))}`).toBe(`${name}: error`);
});

test("every truncation and every flipped bit is a typed error or a value", () => {
  for (const { rule, hex } of accepted) {
    const bytes = fromHex(hex);
    // Every bit of a short payload; of a long one (the birth) a part, which a prime step spreads over all bits of a byte.
    const step = bytes.length > 700 ? 61 : 1;
    for (let length = 0; length < bytes.length; length += step) {
      expect(readHostile(rule, bytes.subarray(0, length))).toBe("error");
    }
    const flips = { value: 0, error: 0 };
    for (let bit = 0; bit < bytes.length * 8; bit += step) {
      const flipped = new Uint8Array(bytes);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      flips[readHostile(rule, flipped)] += 1;
    }
    // A signed message has no bit that may change.
    if (["command", "grant", "rescue", "deny"].includes(rule)) expect(flips.value).toBe(0);
  }
}, 20_000);

test("the Python example reads the vectors alike", async () => {
  const script = Bun.fileURLToPath(new URL("../../../scripts/fleet/decode.py", import.meta.url));
  const child = Bun.spawn(["python3", script], { stdin: "pipe", stdout: "pipe", stderr: "inherit" });
  child.stdin.write(stored.map(({ hex }) => `${hex}\n`).join(""));
  await child.stdin.end();
  const lines = (await new Response(child.stdout).text()).trim().split("\n");
  expect(lines.length).toBe(stored.length);
  for (const [index, line] of lines.entries()) {
    const { name, refused: why, value, signed } = stored[index]!;
    const answer = JSON.parse(line);
    if (why === "profile") expect(answer, name).toHaveProperty("refused");
    if (why === undefined) expect(answer, name).toEqual(signed === undefined ? { value } : { value, signed });
  }
}, 20_000);
