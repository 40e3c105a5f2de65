// SPDX-License-Identifier: Apache-2.0
/**
 * What telemetry can be told: the broker, the name of this box, and every limit with its default. Plain data; `config`
 * composes it. Without settings nothing here runs and nothing is sent anywhere.
 */
import { TelemetryError } from "#errors.ts";

export type BrokerSettings = {
  /** `mqtt://`, `mqtts://`, `ws://` or `wss://`, host and port. */
  readonly url: string;
  /** 5, and 3.1.1 where the broker refuses 5; or one of them for good. */
  readonly protocol: "auto" | "5" | "3.1.1";
  /** PEM texts. A client certificate is how a fleet is meant to be run; its common name is the box's name. */
  readonly authority?: string;
  readonly certificate?: string;
  readonly privateKey?: string;
  readonly username?: string;
  readonly password?: string;
  /** Unencrypted beyond loopback, which somebody has to want. */
  readonly plaintext: boolean;
  readonly keepAliveMs: number;
  /** From dialling to CONNACK. */
  readonly connectMs: number;
  /** From a publish to its PUBACK, before the connection counts as dead. */
  readonly ackMs: number;
  readonly sessionExpirySeconds: number;
  readonly willDelaySeconds: number;
};

export type ReconnectSettings = {
  readonly leastMs: number;
  readonly mostMs: number;
  /** Spread of the first connect after a boot. */
  readonly spreadMs: number;
  /** At least this long after "server busy" or "quota exceeded". */
  readonly busyMs: number;
  /** So long connected, and the wait begins at its least again. */
  readonly healthyMs: number;
};

export type TelemetrySettings = {
  readonly root: string;
  readonly device: string;
  readonly broker: BrokerSettings;
  readonly reconnect: ReconnectSettings;
  readonly encoding: "cbor" | "json" | "both";
  /** Messages a second of what waited in the outbox; 0 lifts the limit. */
  readonly drainPerSecond: number;
  readonly herd: "off" | "watch" | "use";
  readonly discovery: boolean;
};

export const brokerDefaults = {
  protocol: "auto",
  plaintext: false,
  keepAliveMs: 30_000,
  connectMs: 20_000,
  ackMs: 60_000,
  sessionExpirySeconds: 3600,
  willDelaySeconds: 30,
} as const satisfies Partial<BrokerSettings>;

export const reconnectDefaults: ReconnectSettings = {
  leastMs: 1000,
  mostMs: 300_000,
  spreadMs: 30_000,
  busyMs: 60_000,
  healthyMs: 60_000,
};

export const telemetryDefaults = {
  root: "holdfast",
  reconnect: reconnectDefaults,
  encoding: "cbor",
  drainPerSecond: 20,
  herd: "off",
  discovery: false,
} as const satisfies Partial<TelemetrySettings>;

/** Messages in flight, whatever the broker would take. */
export const inFlightMax = 8;
export const receiveMaximum = 16;
export const packetBytesMax = 128 * 1024;

const schemes: Readonly<Record<string, { readonly encrypted: boolean; readonly port: number }>> = {
  "mqtt:": { encrypted: false, port: 1883 },
  "mqtts:": { encrypted: true, port: 8883 },
  "ws:": { encrypted: false, port: 80 },
  "wss:": { encrypted: true, port: 443 },
};

/** The address, checked: known scheme, and encrypted unless it is loopback or wanted. @throws TelemetryError telemetry.settings */
export function brokerAddress(broker: BrokerSettings): URL {
  const url = URL.canParse(broker.url) ? new URL(broker.url) : null;
  const scheme = url === null ? undefined : schemes[url.protocol];
  if (url === null || scheme === undefined || url.hostname === "") {
    throw new TelemetryError(
      "telemetry.settings",
      "the broker's address must be mqtt://, mqtts://, ws:// or wss:// and a host",
    );
  }
  if (url.username !== "" || url.password !== "") {
    throw new TelemetryError(
      "telemetry.settings",
      "put the broker's user and password into their own settings, not into the address",
    );
  }
  if (!scheme.encrypted && !broker.plaintext && !isLoopback(url.hostname)) {
    throw new TelemetryError("telemetry.settings", "an unencrypted broker beyond loopback needs plaintext = true", {
      host: url.hostname,
    });
  }
  if ((broker.certificate === undefined) !== (broker.privateKey === undefined)) {
    throw new TelemetryError(
      "telemetry.settings",
      "a client certificate needs its private key, and the key its certificate",
    );
  }
  return url;
}

const isLoopback = (host: string): boolean =>
  host === "localhost" || host === "[::1]" || /^127(\.\d{1,3}){3}$/.test(host);
