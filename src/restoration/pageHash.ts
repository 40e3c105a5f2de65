// SPDX-License-Identifier: Apache-2.0
/**
 * The two names of a page: a fast hash that tells whether it changed, and an identity that finds it again anywhere.
 *
 * The hash (xxHash3, 64 bits) is seeded with a secret of the store, so that a guest cannot prepare two pages that look the
 * same. The identity is SHA-256. Source: measured 2026-11 at about 10 GB/s over memory, and 1 GB/s.
 */
import { pageBytes } from "#vm/offload/guestRam.ts";

export const identityBytes = 32;
export const hashBytes = 8;

export class PageHash {
  /** Of a page of zeros. */
  readonly zero: bigint;

  constructor(readonly seed: bigint) {
    this.zero = this.of(new Uint8Array(pageBytes));
  }

  of(bytes: Uint8Array): bigint {
    return Bun.hash.xxHash3(bytes, this.seed);
  }
}

/** Fills `into` (32 bytes). */
export function identify(bytes: Uint8Array, into: Uint8Array): void {
  Bun.SHA256.hash(bytes, into);
}

export const sha256Hex = (bytes: Uint8Array | string): string => Bun.SHA256.hash(bytes, "hex");
