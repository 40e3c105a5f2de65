// SPDX-License-Identifier: Apache-2.0
/**
 * What the status page can be told, and every limit with its default. Plain data; `config` composes it.
 *
 * Without settings there is no page. The default address is loopback; any other is served by TLS only.
 */
import { ConfigError } from "#errors.ts";

export type StatusSettings = {
  /** An address of this machine. */
  readonly address: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** PEM files of the operator; without them a certificate of the box's own is made. */
  readonly certificate?: string;
  readonly key?: string;
  /** TLS on loopback too. Elsewhere it is always on. */
  readonly tls: boolean;
  /** Names by which browsers may ask, beside the box's own names and addresses. */
  readonly hosts: readonly string[];
  /** Answers `/livez`, `/readyz` and `/metrics` to others than loopback too. */
  readonly openHealth: boolean;
  /** A login ends after so long without a request. */
  readonly idleMs: number;
};

export const statusDefaults: StatusSettings = {
  address: "127.0.0.1",
  port: 8443,
  tls: false,
  hosts: [],
  openHealth: false,
  idleMs: 30 * 60_000,
};

export const isLoopback = (address: string): boolean =>
  /^127(\.\d{1,3}){3}$/.test(address) || address === "::1" || address === "localhost" || address === "::ffff:127.0.0.1";

/** `ADDRESS:PORT`, `[ADDRESS]:PORT` or `PORT`. @throws ConfigError config.argument */
export function parseStatusAddress(text: string): StatusSettings {
  const match = /^(?:(?:\[([0-9a-f:]+)\]|([\w.-]+)):)?(\d{1,5})$/i.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    throw new ConfigError(
      "config.argument",
      `${JSON.stringify(text)}: say PORT or ADDRESS:PORT, such as 127.0.0.1:8443`,
    );
  }
  return { ...statusDefaults, address: match[1] ?? match[2] ?? statusDefaults.address, port };
}

/** Limits of the page. Memory and time of a request are bounded by these. */
export const limits = {
  streamsMax: 16,
  streamsPerLoginMax: 4,
  heartbeatMs: 15_000,
  /** A reader that has not taken what was sent for so long is let go. */
  slowReaderMs: 30_000,
  requestIdleSeconds: 30,
  bodyBytesMax: 1 << 20,
  requestsPerSecond: 20,
  requestsBurst: 60,
  metricsPerSecond: 1,
  metricsBurst: 10,
  loginTriesPerAddress: 5,
  loginTriesInAll: 30,
  loginWindowMs: 15 * 60_000,
  loginMsMax: 12 * 3_600_000,
  loginsMax: 64,
  accountsMax: 32,
  tokensMax: 32,
  freshMs: 5 * 60_000,
  claimMs: 24 * 3_600_000,
  passwordLeast: 10,
  passwordMost: 256,
  faultsKept: 2_000,
  eventsKept: 2_000,
  logLinesMax: 500,
  logBytesMax: 1 << 20,
  logMs: 5_000,
  bundleBytesMax: 20 << 20,
  pageRowsMax: 50,
  /** On one page, so that it stays light. */
  workloadRowsMax: 50,
  workloadsToAskMax: 20,
  addressesMax: 1_024,
} as const;
