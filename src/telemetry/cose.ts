// SPDX-License-Identifier: Apache-2.0
/**
 * COSE_Sign1 with Ed25519 (RFC 9052, section 4.2), in one narrow form: untagged; protected header exactly `alg` = EdDSA and
 * `kid`; payload inside; external data always given. Gets payload bytes and a key pair; gives signed bytes, and back.
 *
 * Nothing is trusted from the unprotected header. The caller pins the keys: the message's `kid` only picks one of them.
 * @ldclabs/cose-ts 1.5.0 accepts a message without `alg`, ignores `crit` and throws plain errors on hostile bytes; so the
 * form is checked here first, and every failure is one TelemetryError.
 */
import { sign, verify } from "node:crypto";
import { Header } from "@ldclabs/cose-ts/header";
import { Key } from "@ldclabs/cose-ts/key";
import { Sign1Message } from "@ldclabs/cose-ts/sign1";
import { TelemetryError } from "#errors.ts";
import { type CborValue, decodeCbor, isMap } from "./cbor.ts";
import { asKeyId, type KeyId, type KeyPair, keyIdBytes, type PublicKey, signatureBytes } from "./keys.ts";

/** Labels of RFC 9052, table 3, and EdDSA of RFC 9053, table 5. */
const algorithmLabel = 1;
const keyIdLabel = 4;
const eddsa = -8;
const octetKeyPair = 1;

export type Opened = { readonly keyId: KeyId; readonly payload: Uint8Array };

/** Signs `payload` for the one place named by `external`. */
export function signBytes(pair: KeyPair, payload: Uint8Array, external: string): Uint8Array<ArrayBuffer> {
  const kid = Uint8Array.fromHex(pair.public.id);
  const header = new Header(
    new Map<number, number | Uint8Array>([
      [algorithmLabel, eddsa],
      [keyIdLabel, kid],
    ]),
  );
  const message = new Sign1Message(payload, header, new Header());
  return new Uint8Array(message.toBytes(new NodeKey(pair.public, pair), externalBytes(external)));
}

/** Checks the form and verifies nothing: only to learn which key is claimed, and where its grant is. @throws TelemetryError */
export const readUntrusted = (signed: Uint8Array, bytesMax: number): Opened => readForm(signed, bytesMax);

/** Verifies against this one key. @throws TelemetryError telemetry.size, telemetry.payload, telemetry.signature */
export function openSigned(signed: Uint8Array, key: PublicKey, external: string, bytesMax: number): Opened {
  const form = readForm(signed, bytesMax);
  if (form.keyId !== key.id) {
    throw new TelemetryError("telemetry.signature", "signed by another key", { kid: form.keyId, wanted: key.id });
  }
  try {
    Sign1Message.fromBytes(new NodeKey(key), signed, externalBytes(external));
  } catch (cause) {
    throw new TelemetryError("telemetry.signature", "the signature does not fit", { kid: key.id, external }, cause);
  }
  return form;
}

function readForm(signed: Uint8Array, bytesMax: number): Opened {
  const message = decodeCbor(signed, bytesMax);
  const [header, unprotected, payload, signature] = Array.isArray(message) ? (message as CborValue[]) : [];
  const fits =
    Array.isArray(message) &&
    message.length === 4 &&
    header instanceof Uint8Array &&
    payload instanceof Uint8Array &&
    (isMap(unprotected) || unprotected instanceof Map) &&
    signature instanceof Uint8Array &&
    signature.length === signatureBytes;
  if (!fits) throw new TelemetryError("telemetry.payload", "this is no COSE_Sign1 message in our form");
  return { keyId: protectedKey(header), payload };
}

/** The key id of a protected header that holds `alg` EdDSA and `kid`, and nothing else: so no `crit` either. */
function protectedKey(header: Uint8Array): KeyId {
  const fields = decodeCbor(header, 64);
  const kid = fields instanceof Map ? fields.get(keyIdLabel) : undefined;
  const algorithm = fields instanceof Map ? fields.get(algorithmLabel) : undefined;
  const exact = fields instanceof Map && fields.size === 2 && algorithm === eddsa;
  if (exact && kid instanceof Uint8Array && kid.length === keyIdBytes) return asKeyId(kid);
  throw new TelemetryError("telemetry.payload", "the protected header must hold alg = EdDSA and kid, and nothing else");
}

const externalBytes = (external: string): Uint8Array => new TextEncoder().encode(external);

/** The library's own curve is JavaScript and twenty times slower than the runtime's. */
class NodeKey extends Key {
  constructor(
    private readonly publicKey: PublicKey,
    private readonly pair: KeyPair | null = null,
  ) {
    super();
    this.kty = octetKeyPair;
    this.alg = eddsa;
  }

  sign(message: Uint8Array): Uint8Array {
    if (this.pair === null) throw new TelemetryError("telemetry.key", "a public key cannot sign");
    return new Uint8Array(sign(null, message, this.pair.object));
  }

  verify(message: Uint8Array, signature: Uint8Array): boolean {
    return verify(null, message, this.publicKey.object, signature);
  }
}
