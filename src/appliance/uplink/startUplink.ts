// SPDX-License-Identifier: Apache-2.0
/**
 * The uplink beside the guarding, never before it: its packages are loaded and its files opened once programs are being
 * looked after. Gets a section or null; gives the uplink as soon as there is one. Trouble is told and guards go on.
 */
import type { TelemetrySection } from "#config/telemetrySection.ts";
import { explain, HoldfastError } from "#errors.ts";
import type { TaskGroup } from "#tasks.ts";
import type { Uplink, UplinkOptions } from "./uplink.ts";

export type UplinkSeat = {
  /** null: none is configured, or it is not open yet. */
  current: Uplink | null;
};

export type UplinkParts = Omit<UplinkOptions, "section" | "since"> & {
  /** Something is wrong with it that is no bug. */
  readonly tell: (text: string) => void;
};

export function startUplink(section: TelemetrySection | null, parts: UplinkParts, tasks: TaskGroup): UplinkSeat {
  const seat: UplinkSeat = { current: null };
  if (section === null) return seat;
  const since = parts.storage.durableCursor;
  tasks.start(async (signal) => {
    try {
      const { Uplink } = await import("./uplink.ts");
      await using uplink = await Uplink.open({ ...parts, section, since });
      seat.current = uplink;
      await Promise.race([uplink.failed, aborted(signal)]);
    } catch (error) {
      if (!(error instanceof HoldfastError) || error.code === "bug") throw error;
      parts.tell(`telemetry is off: ${explain(error)}`);
    } finally {
      seat.current = null;
    }
  });
  return seat;
}

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
