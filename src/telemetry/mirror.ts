// SPDX-License-Identifier: Apache-2.0
/** The JSON mirror of a CBOR payload: same keys, byte strings as hex, integers beyond 2^53 as text. */
import { toHex } from "#bytes.ts";
import type { CborValue } from "./cbor.ts";

export const mirrorJson = (value: CborValue): string => JSON.stringify(mirrored(value));

function mirrored(value: CborValue): unknown {
  if (typeof value === "bigint") return value.toString();
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof Uint8Array) return toHex(value);
  if (Array.isArray(value)) return value.map(mirrored);
  const entries = value instanceof Map ? [...value] : Object.entries(value);
  return Object.fromEntries(
    entries.filter(([, item]) => item !== undefined).map(([key, item]) => [key, mirrored(item)]),
  );
}
