// SPDX-License-Identifier: Apache-2.0
/**
 * A guest's own disks across a restore: the clones of the checkpoint take their places, and the ones before come back where
 * the restore fails. Gets clones; renames files, so a disk is one or the other at any time. Blocks shortly.
 */
import { chownSync, existsSync, renameSync, rmSync, statSync } from "node:fs";
import { cloneFile, flushFile } from "#board/native/reflink.ts";
import type { DiskClone } from "#restoration/checkpointHead.ts";

const replaced = (path: string): string => `${path}.replaced`;

/** @throws NativeError */
export function placeDisks(clones: readonly DiskClone[]): void {
  for (const { path, clone } of clones) {
    const draft = `${path}.restoring`;
    rmSync(draft, { force: true });
    cloneFile(clone, draft);
    if (existsSync(path)) {
      const { uid, gid } = statSync(path);
      chownSync(draft, uid, gid);
      // One that waits from an earlier try is the older: it is the one to come back.
      if (!existsSync(replaced(path))) renameSync(path, replaced(path));
    }
    flushFile(draft);
    renameSync(draft, path);
  }
}

/** The restore has held: what was there before goes. */
export function keepDisks(paths: readonly string[]): void {
  for (const path of paths) rmSync(replaced(path), { force: true });
}

/** The restore has not held: what was there before comes back. No process may have them open. */
export function putDisksBack(paths: readonly string[]): void {
  for (const path of paths) if (existsSync(replaced(path))) renameSync(replaced(path), path);
}
