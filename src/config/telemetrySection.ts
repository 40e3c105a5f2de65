// SPDX-License-Identifier: Apache-2.0
/**
 * `[telemetry]` of `holdfast.toml`: the broker, the name of this box in its fleet, and what is sent. Without the section
 * nothing is sent anywhere. Secrets are named by file, never written into the configuration.
 */
import * as v from "valibot";
import type { TelemetrySettings } from "#telemetry/settings.ts";
import { count, file, flag } from "./values.ts";

const encodings = ["cbor", "json", "both"] as const satisfies readonly TelemetrySettings["encoding"][];
const herds = ["off", "watch", "use"] as const satisfies readonly TelemetrySettings["herd"][];
const minuteMs = 60_000;

const matching = (pattern: RegExp, wanted: string) =>
  v.pipe(v.string(`wants ${wanted}`), v.regex(pattern, `wants ${wanted}`));

export const telemetrySection = v.strictObject({
  broker: matching(/^(mqtts?|wss?):\/\/[^\s@]+$/, "mqtts://HOST:PORT, or mqtt://, ws://, wss://, without a password"),
  /** Left out: the common name of the certificate, else the name of the host. */
  device: v.optional(matching(/^[a-z0-9][a-z0-9-]{0,62}$/, "lower case letters, digits and dashes, at most 63")),
  root: v.optional(matching(/^[A-Za-z0-9._-]+(\/[A-Za-z0-9._-]+)*$/, "a topic without + and #"), "holdfast"),
  protocol: v.optional(v.picklist(["auto", "5", "3.1.1"], 'wants "auto", "5" or "3.1.1"'), "auto"),
  /** PEM files. */
  authority: v.optional(file),
  certificate: v.optional(file),
  privateKey: v.optional(file),
  user: v.optional(v.pipe(v.string(), v.minLength(1), v.maxLength(256))),
  passwordFile: v.optional(file),
  /** Unencrypted beyond loopback. */
  plaintext: v.optional(flag, false),
  encoding: v.optional(v.picklist(encodings, `wants ${encodings.join(", ")}`), "cbor"),
  metricsEveryMs: v.optional(count(1_000, 60 * minuteMs), 30_000),
  /** Messages a second of what waited while the broker was away; 0 lifts the limit. */
  drainPerSecond: v.optional(count(0, 10_000), 20),
  keepAliveMs: v.optional(count(1_000, 60 * minuteMs), 30_000),
  /** Left out: `use` once this box believes a fleet key, else `off`. */
  herd: v.optional(v.picklist(herds, `wants ${herds.join(", ")}`)),
  /** So long without a fault at a place before what was learned there is published. */
  herdQuietMs: v.optional(count(0, 24 * 60 * minuteMs), 5 * minuteMs),
  /** The first connect is spread over this. Left out: half a minute after a boot, else two seconds. */
  connectSpreadMs: v.optional(count(0, 60 * minuteMs)),
  /** Longest wait between two tries to reach the broker. */
  reconnectMsMax: v.optional(count(1_000, 60 * minuteMs), 5 * minuteMs),
  /** Home Assistant finds this box. */
  discovery: v.optional(flag, false),
});
export type TelemetrySection = v.InferOutput<typeof telemetrySection>;
