// SPDX-License-Identifier: Apache-2.0
/**
 * Why the box has booted. Gets what firmware, kernel and our own notes say; gives the first reason that applies. Pure but for
 * the box in `readBootFacts`.
 *
 *     our own note ▸ watchdog ▸ kernel panic ▸ the board's reset cause ▸ power lost (no orderly end) ▸ orderly
 *
 * Source: watchdog-api (WDIOF_CARDRESET 0x20 in bootstatus, read before init arms the timer or as the driver keeps it);
 * Documentation/ABI/testing/pstore; sysfs `reset_reason` of boards that have one.
 */
import type { Box } from "#board/box.ts";

export const bootReasons = [
  "update",
  "operator",
  "factoryReset",
  "watchdog",
  "panic",
  "board",
  "powerLost",
  "orderly",
  "first",
] as const;
export type BootReason = (typeof bootReasons)[number];

export type BootFacts = {
  /** Why we asked for the restart ourselves. */
  readonly note: Extract<BootReason, "update" | "operator" | "factoryReset"> | null;
  /** Bits of the watchdog's boot status; null where there is none. */
  readonly watchdogStatus: number | null;
  /** Names of records that a dying kernel left. */
  readonly panics: readonly string[];
  readonly boardCause: string | null;
  /** Whether the supervisor of the boot before ended in order; null where there was none. */
  readonly endedInOrder: boolean | null;
};
export type BootJudgement = { readonly reason: BootReason; readonly why: string };

const cardReset = 0x20;
/** Causes that a board gives for an ordinary start. */
const ordinaryCause = /^(por|power[ _-]?on|software|sys_reset|reboot|unknown)?$/i;

export function judgeBoot(facts: BootFacts): BootJudgement {
  const { note, watchdogStatus, panics, boardCause, endedInOrder } = facts;
  if (note !== null) return { reason: note, why: "asked for by Holdfast" };
  if (watchdogStatus !== null && (watchdogStatus & cardReset) !== 0) {
    return { reason: "watchdog", why: `the hardware watchdog reset the box (boot status ${watchdogStatus})` };
  }
  if (panics.length > 0) return { reason: "panic", why: `the kernel left ${panics.slice(0, 4).join(", ")} in pstore` };
  if (boardCause !== null && !ordinaryCause.test(boardCause))
    return { reason: "board", why: `the board says ${boardCause}` };
  if (endedInOrder === null) return { reason: "first", why: "no earlier boot is on record" };
  return endedInOrder
    ? { reason: "orderly", why: "the boot before ended in order" }
    : { reason: "powerLost", why: "the boot before did not end in order: power was lost, or it hung" };
}

/** What this machine shows. */
export function readBootFacts(box: Box, note: BootFacts["note"], endedInOrder: boolean | null): BootFacts {
  const status = box.text("/sys/class/watchdog/watchdog0/bootstatus");
  const platform = "/sys/devices/platform";
  const causes = box.names(platform).flatMap((name) => box.text(`${platform}/${name}/reset_reason`) ?? []);
  return {
    note,
    watchdogStatus: status === null || !/^\d+$/.test(status) ? null : Number(status),
    panics: box.names("/sys/fs/pstore").filter((name) => name.startsWith("dmesg-")),
    boardCause: causes[0] ?? null,
    endedInOrder,
  };
}
