// SPDX-License-Identifier: Apache-2.0
/**
 * The options by which a verb reaches a broker, and the connection made from them. Gets flags; gives a `Link` that keeps
 * nothing at the broker. Passwords and keys come from files, never from the command line, which everybody can read.
 */
import { readFileSync } from "node:fs";
import type { Command } from "commander";
import { systemClock } from "#clock.ts";
import { ConfigError, TelemetryError } from "#errors.ts";
import { Link, type Receiver } from "#telemetry/link.ts";
import { type BrokerSettings, brokerDefaults } from "#telemetry/settings.ts";

export type BrokerFlags = {
  readonly broker: string;
  readonly root: string;
  readonly ca?: string;
  readonly cert?: string;
  readonly certKey?: string;
  readonly user?: string;
  readonly passwordFile?: string;
  readonly plaintext?: true;
  readonly mqtt3?: true;
};

export const withBrokerOptions = (command: Command): Command =>
  command
    .requiredOption("--broker <url>", "mqtts://HOST:PORT, or mqtt://, ws://, wss://")
    .option("--root <topic>", "root of the fleet's topics", "holdfast")
    .option("--ca <file>", "authority that signed the broker's certificate (PEM)")
    .option("--cert <file>", "our client certificate (PEM)")
    .option("--cert-key <file>", "its private key (PEM)")
    .option("--user <name>", "user name at the broker")
    .option("--password-file <file>", "file that holds the password")
    .option("--plaintext", "allow an unencrypted broker beyond loopback")
    .option("--mqtt3", "speak MQTT 3.1.1");

/** @throws TelemetryError, ConfigError */
export function openBroker(flags: BrokerFlags, receive: Receiver, signal: AbortSignal): Promise<Link> {
  const broker: BrokerSettings = {
    ...brokerDefaults,
    url: flags.broker,
    plaintext: flags.plaintext === true,
    ...(flags.ca === undefined ? {} : { authority: readText(flags.ca) }),
    ...(flags.cert === undefined ? {} : { certificate: readText(flags.cert) }),
    ...(flags.certKey === undefined ? {} : { privateKey: readText(flags.certKey) }),
    ...(flags.user === undefined ? {} : { username: flags.user }),
    ...(flags.passwordFile === undefined ? {} : { password: readText(flags.passwordFile).trim() }),
  };
  const clientId = `holdfast-${Bun.randomUUIDv7().slice(-12)}`;
  const protocol = flags.mqtt3 ? 4 : 5;
  return Link.open({ broker, protocol, clientId, will: null, session: false, receive, clock: systemClock, signal });
}

/** @throws ConfigError that names the file */
export function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new ConfigError("config.argument", `cannot read ${path}`, {}, cause);
  }
}

/** Runs until the signal, Ctrl-C or `act` ends; an interrupted verb is no error. */
export async function untilInterrupted(act: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const controller = new AbortController();
  const stop = (): void => controller.abort(new TelemetryError("telemetry.closed", "interrupted"));
  for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, stop);
  try {
    await act(controller.signal);
  } catch (error) {
    if (!controller.signal.aborted) throw error;
  } finally {
    for (const name of ["SIGINT", "SIGTERM"] as const) process.removeListener(name, stop);
  }
}
