// SPDX-License-Identifier: Apache-2.0
/**
 * The `[telemetry]` section that holds for a command line: that of a file, its broker and device replaced by those of the
 * words. Gets flags; gives a section, or null where nobody asked for telemetry. @throws ConfigError
 */
import * as v from "valibot";
import { ConfigError } from "#errors.ts";
import { loadConfig } from "./load.ts";
import { type TelemetrySection, telemetrySection } from "./telemetrySection.ts";

export type TelemetryFlags = { readonly config?: string; readonly broker?: string; readonly device?: string };

export function telemetryOf({ config, broker, device }: TelemetryFlags): TelemetrySection | null {
  const section = config === undefined ? undefined : loadConfig(config).telemetry;
  if (section === undefined && broker === undefined) {
    if (device === undefined) return null;
    throw new ConfigError("config.argument", "--device needs --broker, or a --config with a [telemetry] section");
  }
  const words = { ...(broker === undefined ? {} : { broker }), ...(device === undefined ? {} : { device }) };
  const read = v.safeParse(telemetrySection, { ...section, ...words });
  if (read.success) return read.output;
  const { path, message } = read.issues[0];
  throw new ConfigError("config.argument", `--${String(path?.[0]?.key ?? "broker")} ${message}`);
}
