// SPDX-License-Identifier: Apache-2.0
/**
 * Ed25519 keys. Gets PEM (PKCS#8, SPKI) or 32 raw bytes; gives key pairs and public keys with their ids. An id is the first
 * 8 bytes of SHA-256 of the 32 public bytes. Private bytes never leave `KeyPair`, and nothing here prints one.
 */
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { toHex } from "#bytes.ts";
import { TelemetryError } from "#errors.ts";

export const publicKeyBytes = 32;
export const keyIdBytes = 8;
export const signatureBytes = 64;

/** Eight bytes, as hex where it is a key of a map or shown. */
export type KeyId = string & { readonly __brand: "KeyId" };

export type PublicKey = { readonly id: KeyId; readonly raw: Uint8Array<ArrayBuffer>; readonly object: KeyObject };
export type KeyPair = { readonly public: PublicKey; readonly object: KeyObject };

/** DER in front of the 32 bytes of an Ed25519 public key (RFC 8410, section 4). */
const spkiHead = Uint8Array.fromHex("302a300506032b6570032100");

export const keyIdOf = (raw: Uint8Array): KeyId =>
  toHex(createHash("sha256").update(raw).digest().subarray(0, keyIdBytes)) as KeyId;

export const asKeyId = (bytes: Uint8Array): KeyId => toHex(bytes) as KeyId;

/** @throws TelemetryError telemetry.key */
export function publicKey(raw: Uint8Array): PublicKey {
  if (raw.length !== publicKeyBytes) {
    throw new TelemetryError("telemetry.key", "an Ed25519 public key has 32 bytes", { bytes: raw.length });
  }
  const kept = new Uint8Array(raw);
  const object = createPublicKey({ key: Buffer.concat([spkiHead, kept]), format: "der", type: "spki" });
  return { id: keyIdOf(kept), raw: kept, object };
}

/** Reads 64 hex digits or a PEM public key. @throws TelemetryError telemetry.key */
export function readPublicKey(text: string): PublicKey {
  const trimmed = text.trim();
  if (/^[0-9a-fA-F]{64}$/.test(trimmed)) return publicKey(Uint8Array.fromHex(trimmed));
  try {
    return publicKey(rawPublic(createPublicKey(trimmed)));
  } catch (cause) {
    if (cause instanceof TelemetryError) throw cause;
    throw new TelemetryError(
      "telemetry.key",
      "this is neither 64 hex digits nor an Ed25519 public key in PEM",
      {},
      cause,
    );
  }
}

/** Reads a PEM private key. @throws TelemetryError telemetry.key */
export function readKeyPair(pem: string): KeyPair {
  try {
    return keyPair(createPrivateKey(pem));
  } catch (cause) {
    if (cause instanceof TelemetryError) throw cause;
    throw new TelemetryError("telemetry.key", "this is not an Ed25519 private key in PEM", {}, cause);
  }
}

export const newKeyPair = (): KeyPair => keyPair(generateKeyPairSync("ed25519").privateKey);

export const privatePem = (pair: KeyPair): string => pair.object.export({ type: "pkcs8", format: "pem" }).toString();
export const publicPem = (key: PublicKey): string => key.object.export({ type: "spki", format: "pem" }).toString();

function keyPair(object: KeyObject): KeyPair {
  return { public: publicKey(rawPublic(createPublicKey(object))), object };
}

function rawPublic(object: KeyObject): Uint8Array {
  if (object.asymmetricKeyType !== "ed25519") {
    throw new TelemetryError("telemetry.key", "only Ed25519 keys are used", { type: object.asymmetricKeyType ?? "" });
  }
  return object.export({ type: "spki", format: "der" }).subarray(-publicKeyBytes);
}
