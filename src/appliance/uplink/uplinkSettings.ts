// SPDX-License-Identifier: Apache-2.0
/**
 * From the section of a configuration to the settings of telemetry: files are read, the box gets its name. Gets a section;
 * gives settings. @throws ConfigError config.value that names the file or the setting
 */
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { hostname, uptime } from "node:os";
import type { TelemetrySection } from "#config/telemetrySection.ts";
import { ConfigError, TelemetryError } from "#errors.ts";
import {
  type BrokerSettings,
  brokerAddress,
  brokerDefaults,
  reconnectDefaults,
  type TelemetrySettings,
} from "#telemetry/settings.ts";

const bootedSeconds = 300;
const calmSpreadMs = 2_000;

/** `herdDefault`: what the section leaves to the keys that this box believes. */
export function uplinkSettings(section: TelemetrySection, herdDefault: TelemetrySettings["herd"]): TelemetrySettings {
  const { broker: url, protocol, plaintext, keepAliveMs, user } = section;
  const certificate = section.certificate === undefined ? undefined : readFile("certificate", section.certificate);
  const broker: BrokerSettings = {
    ...brokerDefaults,
    ...{ url, protocol, plaintext, keepAliveMs },
    ...(section.authority === undefined ? {} : { authority: readFile("authority", section.authority) }),
    ...(certificate === undefined ? {} : { certificate }),
    ...(section.privateKey === undefined ? {} : { privateKey: readFile("privateKey", section.privateKey) }),
    ...(user === undefined ? {} : { username: user }),
    ...(section.passwordFile === undefined ? {} : { password: readFile("passwordFile", section.passwordFile).trim() }),
  };
  try {
    brokerAddress(broker);
  } catch (error) {
    if (!(error instanceof TelemetryError)) throw error;
    throw new ConfigError("config.value", `telemetry: ${error.message}`, {}, error);
  }
  return {
    root: section.root,
    device: section.device ?? deviceName(certificate),
    broker,
    reconnect: {
      ...reconnectDefaults,
      mostMs: section.reconnectMsMax,
      spreadMs: section.connectSpreadMs ?? usualSpreadMs(),
    },
    encoding: section.encoding,
    drainPerSecond: section.drainPerSecond,
    herd: section.herd ?? herdDefault,
    discovery: section.discovery,
  };
}

/** After a power cut a whole fleet boots at once. */
const usualSpreadMs = (): number => (uptime() < bootedSeconds ? reconnectDefaults.spreadMs : calmSpreadMs);

function deviceName(certificate: string | undefined): string {
  const named = certificate === undefined ? hostname() : subjectNameOf(certificate);
  const device = named
    .toLowerCase()
    .replace(/[^a-z0-9-]/g, "-")
    .replace(/^-+/, "")
    .slice(0, 63);
  if (device !== "") return device;
  throw new ConfigError(
    "config.value",
    "telemetry.device: say how this box is called: neither certificate nor host tells",
  );
}

function subjectNameOf(certificate: string): string {
  try {
    return /^CN=(.+)$/m.exec(new X509Certificate(certificate).subject)?.[1] ?? "";
  } catch (cause) {
    throw new ConfigError("config.value", "telemetry.certificate: this is no certificate in PEM form", {}, cause);
  }
}

export function readFile(setting: string, path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new ConfigError("config.value", `telemetry.${setting}: cannot read ${path}`, {}, cause);
  }
}
