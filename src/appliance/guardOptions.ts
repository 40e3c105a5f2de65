// SPDX-License-Identifier: Apache-2.0
/**
 * The parts of a guard that come from the words of a command line: its probes, its policy and its wire trace.
 */
import { closeSync, openSync, writeSync } from "node:fs";
import type { Clock } from "#clock.ts";
import type { StatusSection } from "#config/schema.ts";
import { ConfigError } from "#errors.ts";
import { defaultHangLimits, type HangLimits } from "#monitor/busyStretches.ts";
import { WireTrace } from "#monitor/gdb/trace.ts";
import { type Probe, parseProbe } from "#monitor/probes.ts";
import { parseStatusAddress, type StatusSettings } from "#status/settings.ts";
import { defaultPolicy, type Policy } from "#suppression/plan.ts";

/** A request that takes so much processor time is nothing unusual. */
const hangSecondsMin = 0.5;

/** Where the status page is to be; null where there is to be none. @throws ConfigError "config.argument" */
export const openStatus = (text: string | undefined): StatusSettings | null =>
  text === undefined || text === "off" ? null : parseStatusAddress(text);

/** The same from a configuration. @throws ConfigError "config.argument" */
export function statusOf(section: StatusSection | null): StatusSettings | null {
  const address = openStatus(section?.listen);
  if (section === null || address === null) return null;
  const { certificate, key, tls, hosts, openHealth, idleMs } = section;
  const own = certificate === undefined || key === undefined ? {} : { certificate, key };
  return { ...address, ...own, tls, hosts, openHealth, idleMs };
}

/** @throws ConfigError "config.argument" for a probe of no known form */
export const openProbes = (texts: readonly string[]): Probe[] => texts.map((word) => parseProbe(word));

/** The usual policy with these rungs only, named with commas between. @throws ConfigError "config.argument" */
export function openPolicy(rungs: string | undefined): Policy {
  if (rungs === undefined) return defaultPolicy;
  const named = rungs.split(",");
  const known = [...defaultPolicy.rungs];
  const unknown = named.find((name) => !(known as string[]).includes(name));
  if (unknown === undefined) return { ...defaultPolicy, rungs: new Set(known.filter((rung) => named.includes(rung))) };
  throw new ConfigError(
    "config.argument",
    `no rung is called ${JSON.stringify(unknown)}; there are ${known.join(", ")}`,
  );
}

/**
 * Limits for hangs from `SECONDS`, `SECONDS,SECONDS` (while work waits, while none does) or `off`; null: none.
 * @throws ConfigError "config.argument"
 */
export function openHangLimits(text: string | undefined): HangLimits | null {
  if (text === undefined) return defaultHangLimits;
  if (text === "off") return null;
  const [waited = Number.NaN, unwaited] = text.split(",").map(Number);
  const both = [waited, unwaited ?? Math.max(waited, defaultHangLimits.unwaitedMs / 1000)];
  if (both.length === 2 && both.every((one) => one >= hangSecondsMin)) {
    return { waitedMs: both[0]! * 1000, unwaitedMs: both[1]! * 1000 };
  }
  throw new ConfigError("config.argument", `--hang wants seconds, such as 10 or 10,300, or off; not ${text}`);
}

/** A trace that is written line by line, so that it is whole up to our death. @throws ConfigError "config.argument" */
export function openTrace(path: string, clock: Clock): WireTrace {
  let file: number;
  try {
    file = openSync(path, "w", 0o600);
  } catch (error) {
    throw new ConfigError("config.argument", `cannot write the trace to ${path}`, {}, error);
  }
  let open = true;
  return new WireTrace("gdbserver", clock, (line) => {
    if (!open) return;
    try {
      writeSync(file, `${line}\n`);
    } catch {
      // The trace is for people; a full disk ends it and nothing else.
      open = false;
      closeSync(file);
    }
  });
}
