// SPDX-License-Identifier: Apache-2.0
/**
 * The uplink beside the guarding, never before it: its packages are loaded and its files opened once programs are being
 * looked after. Gets a section or null; gives the uplink as soon as there is one. Trouble is told and guards go on.
 */
import type { TelemetrySection } from "#config/telemetrySection.ts";
import { explain, HoldfastError } from "#errors.ts";
import type { MetricSample } from "#metrics.ts";
import { type Told, unknown } from "#status/told.ts";
import { aborted, type TaskGroup } from "#tasks.ts";
import type { Notices } from "../notices.ts";
import type { Uplink, UplinkOptions } from "./uplink.ts";

export type UplinkSeat = {
  /** null: none is configured, or it is not open yet. */
  current: Uplink | null;
};

/** What the page shows of the uplink, and the metrics of telemetry itself. */
export function pageOf(
  section: TelemetrySection | null,
  seat: UplinkSeat,
): { readonly uplink: () => Told["uplink"]; readonly metrics: () => readonly MetricSample[] } {
  return {
    uplink: () => {
      if (section === null) return unknown("no uplink is configured for this supervisor");
      if (seat.current === null) return unknown("the uplink is not open yet, or a warning says why it is not");
      return { known: true, value: { broker: section.broker, ...seat.current.telemetry.linkState } };
    },
    metrics: () => seat.current?.telemetry.samples() ?? [],
  };
}

export type UplinkParts = Omit<UplinkOptions, "section" | "since"> & {
  /** Told where something is wrong with it that is no bug. */
  readonly notices: Notices;
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
      const { notices } = parts;
      notices.tell({ event: "warning", workload: notices.workload, text: `telemetry is off: ${explain(error)}` });
    } finally {
      seat.current = null;
    }
  });
  return seat;
}
