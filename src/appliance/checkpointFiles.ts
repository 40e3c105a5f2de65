// SPDX-License-Identifier: Apache-2.0
/**
 * Stored checkpoints without a supervisor: listed, read through and exported, and nothing changed.
 */
import { StorageError } from "#errors.ts";
import type { CheckpointFacts } from "#restoration/checkpointFacts.ts";
import { pageFilePath, readCheckpoints } from "#restoration/checkpoints.ts";
import { type Damage, verifyCheckpoint } from "#restoration/verifyCheckpoint.ts";
import { exportCheckpoint } from "#storage/pageExport.ts";
import { PageReader } from "#storage/pageReader.ts";

/** Newest first. @throws StorageError */
export const storedCheckpoints = (stateDirectory: string): CheckpointFacts[] => readCheckpoints(stateDirectory);

/** @throws StorageError storage.notFound */
export function storedCheckpoint(stateDirectory: string, id: string): CheckpointFacts {
  const found = readCheckpoints(stateDirectory).find((each) => each.id === id);
  if (found !== undefined) return found;
  throw new StorageError("storage.notFound", `there is no checkpoint ${JSON.stringify(id)} in ${stateDirectory}`);
}

/** Reads every page of it. @throws StorageError storage.notFound */
export function verifyStored(stateDirectory: string, id: string): Damage {
  using reader = PageReader.open(pageFilePath(stateDirectory));
  return verifyCheckpoint(reader, id);
}

/** One checkpoint as a file of its own; disks do not travel. Gives the number of extents. @throws StorageError */
export function exportStored(stateDirectory: string, id: string, target: string): number {
  const { disks } = storedCheckpoint(stateDirectory, id);
  if (disks === 0) return exportCheckpoint(stateDirectory, id, target);
  const message = `${id} belongs to ${disks} disks, which a file cannot bring along: it could be restored nowhere`;
  throw new StorageError("storage.owner", message);
}
