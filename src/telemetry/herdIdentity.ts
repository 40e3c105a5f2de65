// SPDX-License-Identifier: Apache-2.0
/**
 * The key by which this box signs rescue records, and the grant of the fleet for it. Gets the notes; gives the pair, made at
 * the first start, and the grant if it fits. A box without a grant uses records and publishes none.
 */
import { TelemetryError } from "#errors.ts";
import { type KeyPair, newKeyPair, privatePem, readKeyPair } from "./keys.ts";
import type { Outbox } from "./outbox.ts";
import { grantSigner, openGrant } from "./rescueRecord.ts";
import type { TrustList } from "./trust.ts";

export class HerdIdentity {
  readonly pair: KeyPair;
  readonly #outbox: Outbox;
  readonly #device: string;

  constructor(outbox: Outbox, device: string) {
    this.#outbox = outbox;
    this.#device = device;
    const stored = outbox.note("herdKey", "own");
    this.pair = stored === null ? newKeyPair() : readKeyPair(stored);
    if (stored === null) outbox.putNote("herdKey", "own", privatePem(this.pair));
  }

  /** The grant, if one is there and names this box and key. Whoever reads our records judges its signer and dates again. */
  get grant(): Uint8Array | null {
    const stored = this.#outbox.note("herdKey", "grant");
    return stored === null ? null : Uint8Array.fromBase64(stored);
  }

  /** Keeps a grant. @throws TelemetryError where it is not from a fleet key that we hold, or not for us */
  install(grant: Uint8Array, trust: TrustList): void {
    const fleet = trust.find(grantSigner(grant));
    if (fleet === null || fleet.use !== "fleet") {
      throw new TelemetryError("telemetry.key", "the grant is not signed by a fleet key that this box holds");
    }
    const { key } = openGrant(grant, fleet.key, this.#device);
    if (key.id !== this.pair.public.id) {
      throw new TelemetryError("telemetry.key", "the grant is for another key", {
        kid: key.id,
        own: this.pair.public.id,
      });
    }
    this.#outbox.putNote("herdKey", "grant", new Uint8Array(grant).toBase64());
  }
}
