// SPDX-License-Identifier: Apache-2.0
/**
 * Takes deny lists: verifies them with the admin keys of this box, keeps the newest, tells the records. Gets bytes; a list
 * that no admin of ours signed, or that is older than the one we have, does nothing.
 */
import type { Clock } from "#clock.ts";
import { TelemetryError } from "#errors.ts";
import { type DenyList, openDeny } from "./deny.ts";
import type { JournalFeed } from "./feed.ts";
import type { FleetRecords } from "./fleetRecords.ts";
import type { Outbox } from "./outbox.ts";
import { inDate, type TrustedKey, type TrustList } from "./trust.ts";

export type DenyDeskOptions = {
  readonly outbox: Outbox;
  readonly feed: JournalFeed;
  readonly trust: TrustList;
  readonly records: FleetRecords;
  readonly clock: Clock;
  readonly clockKnown: () => boolean;
};

export class DenyDesk {
  readonly #options: DenyDeskOptions;

  /** Begins with the list kept from the last run. */
  constructor(options: DenyDeskOptions) {
    this.#options = options;
    const stored = options.outbox.note("deny", "list");
    if (stored !== null) this.#verified(Uint8Array.fromBase64(stored), (list) => options.records.deny(list));
  }

  receive(payload: Uint8Array): void {
    const { records, outbox, feed } = this.#options;
    this.#verified(payload, (list, { key }) => {
      if (list.number <= records.denyNumber) return;
      records.deny(list);
      outbox.putNote("deny", "list", new Uint8Array(payload).toBase64());
      const { number, keys } = list;
      feed.record("audit.deny", "", { key: key.id, number, keys: keys.length, records: list.records.length });
    });
  }

  #verified(payload: Uint8Array, act: (list: DenyList, admin: TrustedKey) => void): void {
    const { trust, clock, clockKnown } = this.#options;
    const nowSeconds = Math.floor(clock.wallMs() / 1000);
    for (const admin of trust.all()) {
      if (admin.use !== "admin" || !inDate(admin, nowSeconds, clockKnown())) continue;
      try {
        act(openDeny(payload, admin.key), admin);
        return;
      } catch (error) {
        // Signed by another of our admins, or by nobody: then nothing happens.
        if (!(error instanceof TelemetryError)) throw error;
      }
    }
  }
}
