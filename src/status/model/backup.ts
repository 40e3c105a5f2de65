// SPDX-License-Identifier: Apache-2.0
/**
 * A backup of the record as one file to take away: journal and outbox, copied while the supervisor writes, as
 * `holdfast storage restore` reads them. Gets a state directory; gives a `.tar.gz` in memory.
 *
 * Blocks this thread only. Limit: `bytesMax` of copies; a larger record is for `holdfast storage backup`.
 */
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { StatusError } from "#errors.ts";
import { backUp } from "#storage/backup.ts";
import { tar } from "./tar.ts";

const bytesMax = 128 << 20;

/** @throws StatusError status.refused where it is too large, StorageError */
export function makeBackup(directory: string, nowMs: number): { name: string; bytes: Uint8Array<ArrayBuffer> } {
  const scratch = mkdtempSync(join(directory, "page", "backup-"));
  try {
    const copies = backUp(directory, join(scratch, "copy")).map(({ path }) => path);
    const whole = copies.reduce((sum, path) => sum + statSync(path).size, 0);
    if (whole > bytesMax) {
      throw new StatusError("status.refused", `the record has ${whole} bytes: use holdfast storage backup on the box`);
    }
    const files = copies.map((path) => ({ name: basename(path), bytes: readFileSync(path) }));
    const stamp = new Date(nowMs).toISOString().slice(0, 19).replaceAll(":", "");
    return { name: `holdfast-backup-${stamp}.tar.gz`, bytes: Bun.gzipSync(tar(files, nowMs / 1_000), { level: 1 }) };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
