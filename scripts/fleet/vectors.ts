// SPDX-License-Identifier: Apache-2.0
/**
 * Golden vectors of the contract: one for every payload and every kind of refusal. Gives the list; run as a program it
 * writes `tests/vectors/telemetry.json`. Ed25519 and our CBOR are deterministic, so the file only changes with the contract.
 */
import { fileURLToPath } from "node:url";
import { toHex } from "#bytes.ts";
import { type CborMap, type CborValue, decodeCbor, encodeCbor } from "#telemetry/cbor.ts";
import { commandExternal, signCommand } from "#telemetry/command.ts";
import { signBytes } from "#telemetry/cose.ts";
import { signDeny } from "#telemetry/deny.ts";
import { mirrorJson } from "#telemetry/mirror.ts";
import { signGrant, signRecord } from "#telemetry/rescueRecord.ts";
import { encodePacks } from "#telemetry/senml.ts";
import * as example from "./vectorValues.ts";

export type Vector = {
  readonly name: string;
  /** CDDL rule of the payload, or of what it pretends to be. */
  readonly rule: string;
  readonly hex: string;
  /** The value in the form of the JSON mirror; absent in a refusal. */
  readonly value?: unknown;
  /** Where a signed payload carries it: the value of its payload. */
  readonly signed?: unknown;
  /** Why it must be refused. */
  readonly refused?: string;
};

export const vectorsPath = fileURLToPath(new URL("../../tests/vectors/telemetry.json", import.meta.url));

export function vectors(): Vector[] {
  return [...payloadVectors(), ...signedVectors(), ...profileRefusals(), ...signedRefusals()];
}

function payloadVectors(): Vector[] {
  const plain = (name: string, rule: string, value: CborMap): Vector => ({
    name,
    rule,
    hex: toHex(encodeCbor(value)),
    value: JSON.parse(mirrorJson(value)),
  });
  const [pack] = encodePacks(example.device, example.atMs, example.samples);
  return [
    plain("birth", "birth", example.birth),
    plain("config", "config", example.config),
    plain("event, fault", "event", example.faultEvent),
    plain("event, outcome", "event", example.outcomeEvent),
    plain("event, audit", "event", example.auditEvent),
    plain("alarm", "alarm", example.alarm),
    plain("job", "job", example.job),
    { name: "metrics", rule: "senml", hex: toHex(pack!), value: JSON.parse(mirrorJson(decodeCbor(pack!, 65_536))) },
  ];
}

function signedVectors(): Vector[] {
  const grant = exampleGrant();
  const deny = {
    number: 4,
    issuedAt: example.atSeconds,
    keys: [example.operatorPair.public.id],
    records: [{ build: example.buildId, site: "c0ffee00.4f2a0-none" }],
  };
  return [
    signedVector("command", "command", signCommand(example.operatorPair, example.command)),
    signedVector("grant", "grant", grant),
    signedVector("rescue record", "rescue", signRecord(example.boxPair, example.record(grant))),
    signedVector("deny list", "deny", signDeny(example.operatorPair, deny)),
  ];
}

const exampleGrant = (): Uint8Array =>
  signGrant(example.fleetPair, {
    key: example.boxPair.public,
    device: example.device,
    notBefore: example.atSeconds,
    expiresAt: example.atSeconds + 365 * 86_400,
  });

function signedVector(name: string, rule: string, bytes: Uint8Array): Vector {
  const message = decodeCbor(bytes, 65_536) as readonly CborValue[];
  const payload = decodeCbor(message[2] as Uint8Array, 65_536);
  return {
    name,
    rule,
    hex: toHex(bytes),
    value: JSON.parse(mirrorJson(message)),
    signed: JSON.parse(mirrorJson(payload)),
  };
}

/** Bytes outside the CBOR profile. */
function profileRefusals(): Vector[] {
  const refused = (name: string, hex: string): Vector => ({ name, rule: "payload", hex, refused: "profile" });
  return [
    refused("nothing", ""),
    refused("ends too early", "a16176"),
    refused("bytes after the end", "a161760100"),
    refused("a tag", "c11a68000000"),
    refused("indefinite array", "9f01ff"),
    refused("indefinite text", "7f6161ff"),
    refused("number not in its shortest form", "a161761801"),
    refused("length not in its shortest form", "7800"),
    refused("half float", "f93c00"),
    refused("single float", "fa3f800000"),
    refused("undefined", "f7"),
    refused("reserved head", "1c"),
    refused("keys out of order", "a2616201616101"),
    refused("doubled key", "a2616101616102"),
    refused("keys of two kinds", "a20001616101"),
    refused("a key that is an array", "a18001"),
    refused("text that is not UTF-8", "62c328"),
    refused("a giant array", "9b00ffffffffffffff"),
    refused("a giant text", "7bffffffffffffffff"),
    refused("a giant map", "bb7fffffffffffffff"),
    refused("nested too deep", `${"81".repeat(40)}00`),
  ];
}

const refusedCommand = (name: string, why: string, bytes: Uint8Array): Vector => ({
  name,
  rule: "command",
  hex: toHex(bytes),
  refused: why,
});

/** Signed messages that must not be believed as the command of the vector `command`. */
function signedRefusals(): Vector[] {
  const { operatorPair, command, device, boxPair } = example;
  const good = signCommand(operatorPair, command);
  const flipped = new Uint8Array(good);
  flipped[flipped.length - 1]! ^= 1;
  const elsewhere = signCommand(operatorPair, { ...command, dev: "box-18" });
  const otherwise = signCommand(operatorPair, { ...command, verb: "workload.release" });
  const words = decodeCbor(signedPart(good)[2], 8192) as CborMap;
  const external = commandExternal(device, command.verb);
  const resigned = (value: CborMap): Uint8Array => signBytes(operatorPair, encodeCbor(value), external);
  return [
    refusedCommand("signature changed", "signature", flipped),
    refusedCommand("signed by another key", "key", signCommand(boxPair, command)),
    refusedCommand("signed for another box", "signature", elsewhere),
    refusedCommand("signed for another verb", "signature", otherwise),
    ...formRefusals(good),
    refusedCommand("no counter", "payload", resigned({ ...words, ctr: undefined })),
    refusedCommand("other words than the topic", "payload", resigned({ ...words, dev: "box-18" })),
    refusedCommand("an id with a slash", "payload", resigned({ ...words, id: "../../../etc" })),
    refusedCommand("an unknown role", "payload", resigned({ ...words, role: "root" })),
  ];
}

/** Messages in another form of COSE than ours. */
function formRefusals(good: Uint8Array): Vector[] {
  const [header, unprotected, payload, signature] = signedPart(good);
  const kid = Uint8Array.fromHex(example.operatorPair.public.id);
  const fields = (...entries: [number, CborValue][]): Uint8Array => encodeCbor(new Map(entries));
  const withHeader = (bytes: Uint8Array, open: CborValue = unprotected): Uint8Array =>
    encodeCbor([bytes, open, payload, signature]);
  const unprotectedKid = new Map<number, CborValue>([[4, kid]]);
  return [
    refusedCommand("no algorithm", "form", withHeader(fields([4, kid]))),
    refusedCommand("another algorithm", "form", withHeader(fields([1, -7], [4, kid]))),
    refusedCommand("critical header", "form", withHeader(fields([1, -8], [2, [4]], [4, kid]))),
    refusedCommand("key id only unprotected", "form", withHeader(fields([1, -8]), unprotectedKid)),
    refusedCommand("detached payload", "form", encodeCbor([header, unprotected, null, signature])),
    refusedCommand("tagged", "profile", new Uint8Array([0xd2, ...good])),
  ];
}

const signedPart = (message: Uint8Array): readonly [Uint8Array, CborMap, Uint8Array, Uint8Array] =>
  decodeCbor(message, 8192) as unknown as readonly [Uint8Array, CborMap, Uint8Array, Uint8Array];

if (import.meta.main) {
  await Bun.write(vectorsPath, `${JSON.stringify(vectors(), null, 2)}\n`);
}
