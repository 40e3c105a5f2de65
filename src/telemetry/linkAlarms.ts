// SPDX-License-Identifier: Apache-2.0
/**
 * Alarms about the way to the broker: unreachable, refusing, dropping, certificate near its end. Gets what happened; raises
 * and clears. Every alarm says its cause, its effect and what to do.
 */
import { X509Certificate } from "node:crypto";
import type { Clock } from "#clock.ts";
import { TelemetryError } from "#errors.ts";
import type { BoxWords } from "./box.ts";

const certificateWarnMs = 30 * 86_400_000;
/** A broker that refused nothing for so long has stopped refusing. */
const refusalMs = 120_000;

export class LinkAlarms {
  readonly #words: BoxWords;
  readonly #clock: Clock;
  /** When the client certificate ends, wall clock; null where there is none. */
  readonly certificateEndsMs: number | null;
  #refusedNs: number | null = null;

  /** @throws TelemetryError telemetry.settings where the certificate cannot be read */
  constructor(words: BoxWords, clock: Clock, certificate: string | undefined) {
    this.certificateEndsMs = certificate === undefined ? null : certificateEndMs(certificate);
    this.#words = words;
    this.#clock = clock;
  }

  refused(code: number, topic: string): void {
    this.#refusedNs = this.#clock.monotonicNs();
    this.#words.raise("broker.refuses", {
      sev: 3,
      cause: `the broker refuses ${topic.slice(0, 150)}: reason ${code}`,
      effect: "messages wait on this box",
      fix: "check the access rules and quotas of the broker for this box",
    });
  }

  acknowledged(): void {
    if (this.#refusedNs === null || this.#clock.monotonicNs() - this.#refusedNs < refusalMs * 1e6) return;
    this.#refusedNs = null;
    this.#words.clear("broker.refuses");
  }

  /** null: connected. */
  connection(trouble: { readonly code: number; readonly why: string } | null): void {
    if (trouble === null) {
      this.#words.clear("broker.unreachable");
      return;
    }
    this.#words.raise("broker.unreachable", {
      sev: 2,
      cause: `${trouble.why}${trouble.code === 0 ? "" : `, reason ${trouble.code}`}`.slice(0, 256),
      effect: "events and metrics wait on this box",
      fix: "check the broker, its address and the certificates",
    });
  }

  dropping(is: boolean): void {
    if (!is) {
      this.#words.clear("outbox.dropping");
      return;
    }
    this.#words.raise("outbox.dropping", {
      sev: 3,
      cause: "the outbox is full",
      effect: "the oldest metrics are thinned, then events are dropped by their weight",
      fix: "bring the broker back, or raise the limits of the outbox",
    });
  }

  certificate(): void {
    const endsMs = this.certificateEndsMs;
    if (endsMs === null) return;
    const leftMs = endsMs - this.#clock.wallMs();
    if (leftMs > certificateWarnMs) {
      this.#words.clear("certificate.ends");
      return;
    }
    const date = new Date(endsMs).toISOString().slice(0, 10);
    this.#words.raise("certificate.ends", {
      sev: 3,
      cause: `the client certificate ${leftMs < 0 ? "ended" : "ends"} on ${date}`,
      effect: "the broker refuses this box from then on",
      fix: "issue a new certificate",
    });
  }
}

function certificateEndMs(pem: string): number {
  try {
    return new X509Certificate(pem).validToDate.getTime();
  } catch (cause) {
    throw new TelemetryError("telemetry.settings", "the client certificate cannot be read", {}, cause);
  }
}
