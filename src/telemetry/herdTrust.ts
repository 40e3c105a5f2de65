// SPDX-License-Identifier: Apache-2.0
/**
 * Whether a rescue record is believed. Gets the bytes and the topic they came on; gives the record and its author, or why it
 * is ignored. Pure but for the look-ups it is handed. Nothing is decoded above the size limit.
 */
import { TelemetryError } from "#errors.ts";
import type { KeyId } from "./keys.ts";
import { grantSigner, openGrant, openRecord, peekGrant, type RescueRecord, recordBytesMax } from "./rescueRecord.ts";
import { inDate, type TrustedKey } from "./trust.ts";

/** A record may come from a clock that is ahead of ours by this much. */
const skewSeconds = 300;

export type HerdContext = {
  readonly nowSeconds: number;
  readonly clockKnown: boolean;
  /** The trusted key of this id, whatever it is for. */
  readonly fleetKey: (id: KeyId) => TrustedKey | null;
  readonly denied: (id: KeyId) => boolean;
  readonly blocked: (build: string, site: string) => boolean;
};

export type IgnoredWhy =
  | "size"
  | "form"
  | "grant"
  | "key"
  | "denied"
  | "signature"
  | "expired"
  | "blocked"
  | "stale"
  | "limit";

export type HerdRuling =
  | { readonly kind: "believed"; readonly record: RescueRecord; readonly author: KeyId }
  | { readonly kind: "ignored"; readonly why: IgnoredWhy };

export function judgeRecord(signed: Uint8Array, build: string, site: string, context: HerdContext): HerdRuling {
  if (signed.length > recordBytesMax) return ignored("size");
  if (context.blocked(build, site)) return ignored("blocked");
  const { nowSeconds, clockKnown } = context;
  try {
    const { device, grant: grantBytes, author } = peekGrant(signed);
    if (context.denied(author)) return ignored("denied");
    const signer = grantSigner(grantBytes);
    if (context.denied(signer)) return ignored("denied");
    const fleet = context.fleetKey(signer);
    if (fleet === null || fleet.use !== "fleet" || !inDate(fleet, nowSeconds, clockKnown)) return ignored("key");
    const grant = openGrant(grantBytes, fleet.key, device);
    if (grant.key.id !== author) return ignored("grant");
    if (clockKnown && (nowSeconds > grant.expiresAt || nowSeconds + skewSeconds < grant.notBefore))
      return ignored("grant");
    const record = openRecord(signed, grant.key, build, site);
    if (record.device !== grant.device) return ignored("grant");
    if (clockKnown && (nowSeconds > record.expiresAt || record.issuedAt > nowSeconds + skewSeconds))
      return ignored("expired");
    return { kind: "believed", record, author };
  } catch (error) {
    if (!(error instanceof TelemetryError)) throw error;
    return ignored(
      error.code === "telemetry.signature" ? "signature" : error.code === "telemetry.size" ? "size" : "form",
    );
  }
}

const ignored = (why: IgnoredWhy): HerdRuling => ({ kind: "ignored", why });
