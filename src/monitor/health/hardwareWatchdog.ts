// SPDX-License-Identifier: Apache-2.0
/**
 * The hardware watchdog, as sysfs shows it: who it is, and whether somebody feeds it. Gets a box; gives plain data, or why
 * there is none. Nothing is opened: opening the device would arm it. Source: Documentation/ABI/testing/sysfs-class-watchdog.
 */
import type { Box } from "#board/box.ts";
import { absent, type Seen, seen } from "#health.ts";

export type HardwareWatchdog = {
  readonly identity: string;
  /** Armed: init, or somebody else, feeds it. */
  readonly active: boolean;
  readonly timeoutSeconds: number | null;
};

const device = "/sys/class/watchdog/watchdog0";

export function readHardwareWatchdog(box: Box): Seen<HardwareWatchdog> {
  const identity = box.text(`${device}/identity`);
  if (identity === null) {
    return box.names("/sys/class/watchdog").length === 0
      ? absent(
          "there is no hardware watchdog, or its driver is not loaded",
          "load the board's driver; in QEMU: -device i6300esb",
        )
      : absent("the watchdog's state cannot be read", "a kernel with CONFIG_WATCHDOG_SYSFS");
  }
  const timeout = box.text(`${device}/timeout`);
  return seen({
    identity,
    active: box.text(`${device}/state`) === "active",
    timeoutSeconds: timeout === null || !/^\d+$/.test(timeout) ? null : Number(timeout),
  });
}
