// SPDX-License-Identifier: Apache-2.0
/**
 * What can wait until nothing happens: WAL checkpoints, retention, folding, deferred checks, salvage, ballast. Gets one
 * open file at a time; does one slice on it and says whether there is more.
 *
 * Who calls decides when it is idle: no thread stopped, no restore window open, nothing committed for 200 ms. Blocks.
 */
import type { Clock } from "#clock.ts";
import { StorageError } from "#errors.ts";
import { asStorageError, fileSettings } from "./database.ts";
import { History } from "./history.ts";
import type { Journal } from "./journal.ts";
import type { StorageLimits } from "./limits.ts";
import type { Finding, LaneName } from "./messages.ts";
import type { Outbox } from "./outbox.ts";
import { pruneQuarantine } from "./quarantine.ts";
import { type Fullness, makeBallast } from "./space.ts";
import { checkContent, checkpointWal, growWal, walFrames } from "./storedFile.ts";

const salvageSliceMs = 50;
/** A WAL with less content than this is not worth its full size yet. */
const growFromFrames = 16;

export type OpenFile = Journal | Outbox | History;

export type UpkeepState = {
  readonly fullness: Fullness;
  readonly freeBytes: number;
  readonly overBudget: boolean;
  readonly tell: (finding: Finding) => void;
};

/** When each kind of work was last done on each file. */
export class Upkeep {
  readonly #last = new Map<string, number>();
  readonly #walBytes = new Map<LaneName, number>();

  constructor(
    readonly directory: string,
    readonly limits: StorageLimits,
    readonly clock: Clock,
  ) {}

  /** True where `work` on `file` was last due longer ago than `intervalMs`; the first time counts from now. */
  due(work: string, file: LaneName, intervalMs: number, atOnce = false): boolean {
    const key = `${work} ${file}`;
    const nowMs = this.clock.monotonicNs() / 1e6;
    const last = this.#last.get(key);
    if (last === undefined && !atOnce) this.#last.set(key, nowMs);
    if (last === undefined ? !atOnce : nowMs - last < intervalMs) return false;
    this.#last.set(key, nowMs);
    return true;
  }

  /** Notes how long a WAL was. */
  sawWal(file: LaneName, bytes: number): void {
    this.#walBytes.set(file, Math.max(bytes, this.#walBytes.get(file) ?? 0));
  }

  /** The size that a WAL should keep: a power of two above the longest since it was truncated, within bounds. */
  walBytesWanted(file: LaneName): number {
    const { walBytesKept } = fileSettings[file];
    const seen = this.#walBytes.get(file) ?? 0;
    return Math.max(walBytesKept, Math.min(this.limits.walBytesMax, 2 ** Math.ceil(Math.log2(Math.max(1, seen)))));
  }

  forgetWal(file: LaneName): void {
    this.#walBytes.delete(file);
  }

  makeBallast(): void {
    makeBallast(this.directory, this.limits);
  }
}

/** One slice on one file. @throws StorageError storage.corrupt where a deferred check finds damage */
export function keepUp(upkeep: Upkeep, name: LaneName, file: OpenFile, state: UpkeepState): boolean {
  try {
    checkpointIfDue(upkeep, name, file, state.freeBytes);
    checkIfDue(upkeep, name, file);
    const salvaging = file.salvage?.step(salvageSliceMs) ?? false;
    const atMs = upkeep.clock.wallMs();
    const retaining =
      file instanceof History
        ? file.retain(atMs, upkeep.limits, state.fullness, state.overBudget)
        : file.retain(atMs, upkeep.limits);
    if (upkeep.due("prune", name, upkeep.limits.truncateIntervalMs, true)) {
      for (const set of pruneQuarantine(upkeep.directory, upkeep.limits)) {
        state.tell({ event: "quarantineRemoved", facts: { path: set.directory, bytes: set.bytes } });
      }
    }
    return salvaging || retaining;
  } catch (cause) {
    throw asStorageError(cause, `keep ${name} in order`);
  }
}

function checkpointIfDue(upkeep: Upkeep, name: LaneName, file: OpenFile, freeBytes: number): void {
  const { database } = file.opened;
  const { written, checkpointed } = walFrames(database);
  const bytes = (written - checkpointed) * fileSettings[name].pageBytes;
  if (upkeep.due("truncate", name, upkeep.limits.truncateIntervalMs)) {
    checkpointWal(database, "TRUNCATE");
    upkeep.forgetWal(name);
    return;
  }
  // Looked at only while there is something, so that the age counts from the first row that waits.
  const old = bytes > 0 && upkeep.due("checkpoint", name, upkeep.limits.walAgeMs);
  if (bytes > upkeep.limits.walIdleBytes || old) checkpointWal(database, "PASSIVE");
  if (written < growFromFrames || fileSettings[name].synchronous !== 2) return;
  upkeep.sawWal(name, written * fileSettings[name].pageBytes);
  growWal(file.opened, upkeep.walBytesWanted(name), freeBytes);
}

function checkIfDue(upkeep: Upkeep, name: LaneName, file: OpenFile): void {
  const { database, path } = file.opened;
  const afterBoot = name === "history" && upkeep.due("quick", name, Number.POSITIVE_INFINITY, true);
  const weekly = upkeep.due("integrity", name, upkeep.limits.integrityIntervalMs);
  if (!afterBoot && !weekly) return;
  const lines = checkContent(database, weekly ? "integrity_check" : "quick_check");
  if (lines.length > 0) throw new StorageError("storage.corrupt", `${path} is damaged: ${lines[0]}`);
}
