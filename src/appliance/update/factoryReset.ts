// SPDX-License-Identifier: Apache-2.0
/**
 * Erases all data of a flashed box at its next start, and restarts it; its identity and its slots stay (image/system/setup).
 *
 * The mark is on the disk before anybody hears that it will be done. The restart comes `leaveMs` later, so that it can be
 * heard; one that is refused takes the mark back. Gets a box and its restart.
 */
import { closeSync, fsyncSync, openSync, rmSync } from "node:fs";
import type { Clock } from "#clock.ts";
import { UpdateError } from "#errors.ts";
import type { BoxRestart } from "../boxRestart.ts";
import type { SlottedBox } from "./slottedBox.ts";

const leaveMs = 3_000;

/** @throws UpdateError update.state where the mark cannot be kept */
export function markReset({ resetMarkPath }: SlottedBox): void {
  try {
    const file = openSync(resetMarkPath, "w", 0o600);
    fsyncSync(file);
    closeSync(file);
  } catch (error) {
    throw new UpdateError("update.state", "the reset cannot be noted for the next start", {}, error);
  }
}

/** @throws NativeError native.call where the restart is refused; nothing is erased then */
export async function leaveForReset(
  { resetMarkPath }: SlottedBox,
  restart: BoxRestart,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  await clock.sleep(leaveMs, signal);
  try {
    await restart("factoryReset");
  } catch (error) {
    rmSync(resetMarkPath, { force: true });
    throw error;
  }
}
