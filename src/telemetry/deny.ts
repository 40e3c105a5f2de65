// SPDX-License-Identifier: Apache-2.0
/**
 * The fleet's deny list: revoked keys and blocked rescue records, signed by an admin. Gets signed bytes; gives the list.
 * Its number rises, so an old list cannot be played back. Pure.
 */
import * as v from "valibot";
import { toHex } from "#bytes.ts";
import { decodeCborMap, encodeCbor } from "./cbor.ts";
import { openSigned, signBytes } from "./cose.ts";
import { asKeyId, type KeyId, type KeyPair, keyIdBytes, type PublicKey } from "./keys.ts";
import { check } from "./payloads.ts";

export const denyBytesMax = 32 * 1024;
const entriesMax = 512;
const external = "holdfast/1/deny";

const denySchema = v.object({
  v: v.literal(1),
  n: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
  iat: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  keys: v.pipe(
    v.array(
      v.pipe(
        v.instance(Uint8Array),
        v.check((bytes) => bytes.length === keyIdBytes),
      ),
    ),
    v.maxLength(entriesMax),
  ),
  records: v.pipe(
    v.array(v.strictTuple([v.instance(Uint8Array), v.pipe(v.string(), v.maxLength(80))])),
    v.maxLength(entriesMax),
  ),
});

export type DenyList = {
  readonly number: number;
  readonly issuedAt: number;
  readonly keys: readonly KeyId[];
  readonly records: readonly { readonly build: string; readonly site: string }[];
};

export function signDeny(admin: KeyPair, list: DenyList): Uint8Array<ArrayBuffer> {
  const keys = list.keys.map((id) => Uint8Array.fromHex(id));
  const records = list.records.map(({ build, site }) => [Uint8Array.fromHex(build), site]);
  return signBytes(admin, encodeCbor({ v: 1, n: list.number, iat: list.issuedAt, keys, records }), external);
}

/** @throws TelemetryError */
export function openDeny(signed: Uint8Array, admin: PublicKey): DenyList {
  const { payload } = openSigned(signed, admin, external, denyBytesMax);
  const wire = check(denySchema, decodeCborMap(payload, denyBytesMax));
  return {
    number: wire.n,
    issuedAt: wire.iat,
    keys: wire.keys.map(asKeyId),
    records: wire.records.map(([build, site]) => ({ build: toHex(build), site })),
  };
}
