// SPDX-License-Identifier: Apache-2.0
/**
 * A rescue record: how a fault was survived elsewhere, as bytes and as value. It names a rescue point and nothing more: no
 * code, no bytes to write, no address to jump to. Pure.
 *
 * It is signed by the box that learned it and carries that box's grant, signed by a fleet key which the reader already
 * holds. The external data binds a record to one program build and one site. Source: the contract, section "herd immunity".
 */
import * as v from "valibot";
import { toHex } from "#bytes.ts";
import { TelemetryError } from "#errors.ts";
import { type CborMap, type CborValue, decodeCborMap, encodeCbor } from "./cbor.ts";
import { openSigned, readUntrusted, signBytes } from "./cose.ts";
import { type KeyId, type KeyPair, keyIdBytes, type PublicKey, publicKey, publicKeyBytes } from "./keys.ts";
import { check } from "./payloads.ts";

/** Refused before decoding beyond this. */
export const recordBytesMax = 1024;
export const grantBytesMax = 400;
const daySeconds = 86_400;
export const recordDaysMax = 180;

const bytes = (least: number, most: number) =>
  v.pipe(
    v.instance(Uint8Array),
    v.check((value) => value.length >= least && value.length <= most, `${least} to ${most} bytes`),
  );
const text = (most: number) => v.pipe(v.string(), v.minLength(1), v.maxLength(most));
const whole = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const wide = v.union([v.pipe(v.number(), v.safeInteger()), v.bigint()]);
const count = v.pipe(whole, v.maxValue(1000));
const place = v.strictTuple([bytes(8, 64), v.union([whole, v.pipe(v.bigint(), v.minValue(0n))])]);

const recordSchema = v.object({
  v: v.literal(1),
  build: bytes(8, 64),
  prog: text(64),
  isa: v.picklist(["a64", "x64"]),
  sig: v.picklist(["segv", "bus", "fpe", "ill", "abrt", "trap", "sys", "hang"]),
  fault: place,
  iface: v.optional(place),
  rung: v.pipe(whole, v.minValue(1), v.maxValue(5)),
  cand: v.optional(place),
  ret: v.optional(wide),
  clean: count,
  degraded: count,
  failed: count,
  block: v.optional(v.literal(true)),
  rev: whole,
  dev: text(64),
  sw: v.pipe(v.string(), v.minLength(1), v.maxLength(32)),
  iat: whole,
  exp: whole,
  grant: bytes(64, grantBytesMax),
});

const grantSchema = v.object({
  v: v.literal(1),
  kid: bytes(keyIdBytes, keyIdBytes),
  pub: bytes(publicKeyBytes, publicKeyBytes),
  dev: text(64),
  use: v.literal("rescue"),
  nbf: whole,
  exp: whole,
});

/** A module by build-id (hex), and an address in it. */
export type Place = { readonly module: string; readonly offset: bigint };
export type WireRung = 1 | 2 | 3 | 4 | 5;

export type RescueRecord = {
  readonly build: string;
  readonly program: string;
  readonly isa: "a64" | "x64";
  readonly signal: string;
  readonly fault: Place;
  readonly boundary: Place | null;
  readonly rung: WireRung;
  /** The frame returned from, and the value returned; null for rungs without. */
  readonly candidate: Place | null;
  readonly returnValue: bigint | null;
  readonly clean: number;
  readonly degraded: number;
  readonly failed: number;
  readonly block: boolean;
  readonly rev: number;
  readonly device: string;
  readonly version: string;
  /** Seconds since 1970. */
  readonly issuedAt: number;
  readonly expiresAt: number;
  /** The author's grant as it came, or made. */
  readonly grant: Uint8Array;
};

export type Grant = {
  readonly key: PublicKey;
  readonly device: string;
  readonly notBefore: number;
  readonly expiresAt: number;
};

/** `<module>.<offset>-<module>.<offset>`: the site as part of a topic. */
export const siteName = (fault: Place, boundary: Place | null): string =>
  `${placeName(fault)}-${boundary === null ? "none" : placeName(boundary)}`;

const placeName = ({ module, offset }: Place): string => `${module.slice(0, 8)}.${offset.toString(16)}`;

const recordExternal = (build: string, site: string): string => `holdfast/1/rescue/${build}/${site}`;
const grantExternal = (device: string): string => `holdfast/1/grant/${device}`;

/** Says that `key` of box `device` may publish rescue records. Signed by a fleet key. */
export function signGrant(fleet: KeyPair, grant: Grant): Uint8Array<ArrayBuffer> {
  const { key, device, notBefore, expiresAt } = grant;
  const kid = Uint8Array.fromHex(key.id);
  const payload = { v: 1, kid, pub: key.raw, dev: device, use: "rescue", nbf: notBefore, exp: expiresAt };
  return signBytes(fleet, encodeCbor(payload), grantExternal(device));
}

/** Which fleet key a grant claims. @throws TelemetryError */
export const grantSigner = (grant: Uint8Array): KeyId => readUntrusted(grant, grantBytesMax).keyId;

/** For which box a grant says it is; nothing is verified yet. @throws TelemetryError */
export function grantDevice(grant: Uint8Array): string {
  const { payload } = readUntrusted(grant, grantBytesMax);
  return check(v.object({ dev: text(64) }), decodeCborMap(payload, grantBytesMax)).dev;
}

/** Verifies a grant against the fleet key that it claims. @throws TelemetryError */
export function openGrant(signed: Uint8Array, fleetKey: PublicKey, device: string): Grant {
  const { payload } = openSigned(signed, fleetKey, grantExternal(device), grantBytesMax);
  const grant = check(grantSchema, decodeCborMap(payload, grantBytesMax));
  const key = publicKey(grant.pub);
  if (key.id !== toHex(grant.kid) || grant.dev !== device) {
    throw new TelemetryError("telemetry.payload", "the grant contradicts itself", { device });
  }
  return { key, device, notBefore: grant.nbf, expiresAt: grant.exp };
}

export function signRecord(author: KeyPair, record: RescueRecord): Uint8Array<ArrayBuffer> {
  const payload: CborMap = {
    v: 1,
    build: Uint8Array.fromHex(record.build),
    prog: record.program,
    isa: record.isa,
    sig: record.signal,
    fault: wirePlace(record.fault),
    iface: record.boundary === null ? undefined : wirePlace(record.boundary),
    rung: record.rung,
    cand: record.candidate === null ? undefined : wirePlace(record.candidate),
    ret: record.returnValue ?? undefined,
    clean: record.clean,
    degraded: record.degraded,
    failed: record.failed,
    block: record.block ? true : undefined,
    rev: record.rev,
    dev: record.device,
    sw: record.version,
    iat: record.issuedAt,
    exp: record.expiresAt,
    grant: record.grant,
  };
  const site = siteName(record.fault, record.boundary);
  const signed = signBytes(author, encodeCbor(payload), recordExternal(record.build, site));
  if (signed.length <= recordBytesMax) return signed;
  throw new TelemetryError("telemetry.size", "the record is too large", {
    bytes: signed.length,
    bytesMax: recordBytesMax,
  });
}

/**
 * Reads the record without trust, to learn whose it is and which grant it carries. Its words count only after
 * `openRecord` with the key of a grant that holds. @throws TelemetryError
 */
export function peekGrant(signed: Uint8Array): {
  readonly device: string;
  readonly grant: Uint8Array;
  readonly author: KeyId;
} {
  const { keyId, payload } = readUntrusted(signed, recordBytesMax);
  const wire = decodeCborMap(payload, recordBytesMax);
  const { dev, grant } = check(v.object({ dev: text(64), grant: bytes(64, grantBytesMax) }), wire);
  return { device: dev, grant, author: keyId };
}

/** Verifies a record that came on the topic of `build` and `site`. @throws TelemetryError */
export function openRecord(signed: Uint8Array, author: PublicKey, build: string, site: string): RescueRecord {
  const { payload } = openSigned(signed, author, recordExternal(build, site), recordBytesMax);
  const wire = check(recordSchema, decodeCborMap(payload, recordBytesMax));
  const record: RescueRecord = {
    build: toHex(wire.build),
    program: wire.prog,
    isa: wire.isa,
    signal: wire.sig,
    fault: readPlace(wire.fault),
    boundary: wire.iface === undefined ? null : readPlace(wire.iface),
    rung: wire.rung as WireRung,
    candidate: wire.cand === undefined ? null : readPlace(wire.cand),
    returnValue: wire.ret === undefined ? null : BigInt(wire.ret),
    clean: wire.clean,
    degraded: wire.degraded,
    failed: wire.failed,
    block: wire.block === true,
    rev: wire.rev,
    device: wire.dev,
    version: wire.sw,
    issuedAt: wire.iat,
    expiresAt: wire.exp,
    grant: wire.grant,
  };
  const validSeconds = record.expiresAt - record.issuedAt;
  if (record.build !== build || siteName(record.fault, record.boundary) !== site) {
    throw new TelemetryError("telemetry.payload", "the record names another build or site than its topic", { site });
  }
  if (validSeconds <= 0 || validSeconds > recordDaysMax * daySeconds) {
    throw new TelemetryError("telemetry.payload", "the record is valid for too long", { validSeconds });
  }
  return record;
}

const wirePlace = ({ module, offset }: Place): CborValue => [Uint8Array.fromHex(module), offset];
const readPlace = ([module, offset]: readonly [Uint8Array, number | bigint]): Place => ({
  module: toHex(module),
  offset: BigInt(offset),
});
