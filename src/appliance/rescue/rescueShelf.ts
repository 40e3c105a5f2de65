// SPDX-License-Identifier: Apache-2.0
/**
 * The rescue records of one state directory as a command line sees them. Gets a directory; gives its records, and changes
 * them: through the supervisor where one runs, else in the file itself. Blocks for the disk.
 */
import type { Clock } from "#clock.ts";
import { StorageError } from "#errors.ts";
import { readLearned, writeLearned } from "#storage/learnedFile.ts";
import { RescueBook, readRecords, shown } from "./rescueBook.ts";
import { leaveOrder, obey, type RescueOrder } from "./rescueOrders.ts";
import type { SiteRecord } from "./rescueRecord.ts";

export const recordsIn = (directory: string): SiteRecord[] => shown(readRecords(readLearned(directory)));

/** @throws StorageError */
export async function orderIn(directory: string, order: RescueOrder, clock: Clock): Promise<void> {
  const changed = new Map<string, unknown>();
  try {
    const learn = (name: string, record: unknown): void => void changed.set(name, record);
    obey(new RescueBook({ learned: readLearned(directory), learn }, clock), order);
    writeLearned(directory, changed, clock);
  } catch (error) {
    if (!(error instanceof StorageError) || error.code !== "storage.locked") throw error;
    await leaveOrder(directory, order, clock);
  }
}
