// SPDX-License-Identifier: Apache-2.0
/**
 * A restore on its way, and after: which checkpoint is tried, and the time in which the guest's memory still arrives.
 *
 * Gets a guest and a checkpoint; where that one is damaged it is marked, and the next older good one is tried once. Gives
 * the restored process, and an Arrival that is over once the guest needs us no longer.
 */
import { explain } from "#errors.ts";
import type { Restore } from "#restoration/restore.ts";
import { killLeftover } from "#vm/foundProcess.ts";
import { keepDisks, putDisksBack } from "./guestDisks.ts";
import type { GuestNotices } from "./guestNotices.ts";
import { isDamage, type Restored, restoreGuest } from "./guestRestore.ts";
import type { GuestParts } from "./incarnation.ts";
import type { StandbyKeeper } from "./standbyKeeper.ts";

export type Arrival = {
  readonly restore: Restore;
  /** Resolves once it is over, well or not. Never rejects. */
  readonly over: Promise<void>;
};

/** @throws what the last try met */
export async function restoreBest(
  parts: GuestParts,
  wanted: string,
  standbys: StandbyKeeper,
  notices: GuestNotices,
  signal: AbortSignal,
): Promise<{ readonly restored: Restored; readonly checkpoint: string }> {
  const { checkpoints, section } = parts;
  try {
    return { restored: await restoreGuest(parts, wanted, standbys.take(wanted), signal), checkpoint: wanted };
  } catch (error) {
    if (signal.aborted || !isDamage(error)) throw error;
    notices.badCheckpoint(wanted, explain(error));
    await checkpoints.mark(wanted, "bad");
    const older = checkpoints.lastGood(section.name, null);
    if (older === null) throw error;
    return { restored: await restoreGuest(parts, older.id, null, signal), checkpoint: older.id };
  }
}

/** Watches what arrives until the guest stands alone. */
export function follow(
  { hypervisor, restore, served }: Restored,
  parts: GuestParts,
  checkpoint: string,
  notices: GuestNotices,
  ended: () => void,
): Arrival {
  const { checkpoints, section } = parts;
  const paths = section.machine.disks.map(({ path }) => path);
  notices.restoring(checkpoint, restore.prepared);
  const over = served
    .then(
      async (touched) => {
        keepDisks(paths);
        notices.restored(restore.progress, restore.waits);
        if (touched.length > 0) await checkpoints.touched(section.name, touched);
      },
      async (error) => {
        // Its process has been killed already, or has ended: the guest's own faults say what comes next.
        await hypervisor.kill();
        putDisksBack(paths);
        notices.lostPages(checkpoint, explain(error));
        if (isDamage(error)) await checkpoints.mark(checkpoint, "bad");
      },
    )
    .catch((error) => parts.log("warn", "guest.restoreNotes", { why: explain(error) }))
    .finally(() => {
      restore[Symbol.dispose]();
      ended();
    });
  return { restore, over };
}

/** Our last life ended while memory was arriving: what is left of the guest computes on nothing. */
export async function endOrphan({ directory, clock, section }: GuestParts): Promise<void> {
  await killLeftover(directory, clock);
  putDisksBack(section.machine.disks.map(({ path }) => path));
}
