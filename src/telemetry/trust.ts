// SPDX-License-Identifier: Apache-2.0
/**
 * The keys that this box believes, and for what. Gets grants and revocations; gives the key for an id, if it is in date and
 * not denied. Kept as notes, so `holdfast keys` and a running supervisor see the same list.
 */
import * as v from "valibot";
import type { Role } from "#verbs.ts";
import { type KeyId, type PublicKey, publicKey } from "./keys.ts";
import type { Outbox } from "./outbox.ts";

/** `fleet`: signs the grants of boxes that may publish rescue records, and no command. */
export type KeyUse = Role | "fleet";
export const keyUses: readonly KeyUse[] = ["view", "operate", "admin", "fleet"];
export const trustedKeysMax = 64;

export type TrustedKey = {
  readonly key: PublicKey;
  readonly use: KeyUse;
  readonly name: string;
  /** Seconds since 1970. */
  readonly notBefore: number;
  readonly expiresAt: number;
};

const stored = v.object({
  pub: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
  use: v.picklist(["view", "operate", "admin", "fleet"]),
  name: v.string(),
  nbf: v.number(),
  exp: v.number(),
});

type Notes = Pick<Outbox, "notes" | "note" | "putNote">;

export class TrustList {
  readonly #notes: Notes;
  readonly #denied: (key: KeyId) => boolean;

  constructor(notes: Notes, denied: (key: KeyId) => boolean = () => false) {
    this.#notes = notes;
    this.#denied = denied;
  }

  all(): TrustedKey[] {
    return this.#notes.notes("key").flatMap(({ value }) => readKey(value) ?? []);
  }

  /** The key, whatever its dates; null where it is unknown or denied. */
  find(id: KeyId): TrustedKey | null {
    const value = this.#denied(id) ? null : this.#notes.note("key", id);
    return value === null ? null : readKey(value);
  }

  /** False where the list is full. */
  add(trusted: TrustedKey): boolean {
    const { key, use, name, notBefore, expiresAt } = trusted;
    if (this.#notes.note("key", key.id) === null && this.all().length >= trustedKeysMax) return false;
    const value = { pub: key.raw.toHex(), use, name, nbf: notBefore, exp: expiresAt };
    this.#notes.putNote("key", key.id, JSON.stringify(value));
    return true;
  }

  /** False where it was not there. */
  remove(id: KeyId): boolean {
    if (this.#notes.note("key", id) === null) return false;
    this.#notes.putNote("key", id, null);
    return true;
  }
}

/** True where `nowSeconds` lies in the key's dates. A box that does not know the time cannot judge them. */
export const inDate = (key: TrustedKey, nowSeconds: number, clockKnown: boolean): boolean =>
  !clockKnown || (key.notBefore <= nowSeconds && nowSeconds <= key.expiresAt);

function readKey(value: string): TrustedKey | null {
  let parsed: unknown;
  try {
    parsed = JSON.parse(value);
  } catch {
    // A damaged row is no key: nobody is believed because of it.
    return null;
  }
  const result = v.safeParse(stored, parsed);
  if (!result.success) return null;
  const { pub, use, name, nbf, exp } = result.output;
  return { key: publicKey(Uint8Array.fromHex(pub)), use, name, notBefore: nbf, expiresAt: exp };
}
