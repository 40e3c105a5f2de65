// SPDX-License-Identifier: Apache-2.0
/**
 * What a restarted supervisor must know of a guest or program beyond what the running process shows: one JSON file beside it.
 *
 * Written through a rename, so it is there whole or not at all; an unreadable one counts as none. Lives in memory (tmpfs):
 * after a reboot of the box every workload starts afresh.
 */
import { readFileSync, renameSync, writeFileSync } from "node:fs";

export type WorkloadMemory = {
  /** False where somebody stopped it, or it ended by itself for good: a new supervisor leaves it down. */
  readonly wanted: boolean;
  /** True where it ran and had not been ended by us. */
  readonly ran: boolean;
  /** Why it stays down until a person starts it, or null. */
  readonly held: string | null;
  /** Automatic restarts, wall clock in ms. */
  readonly attempts: readonly number[];
  /** The checkpoint that its memory was still arriving from: without us it cannot go on. Guests only. */
  readonly arriving?: string | null;
};

export function readMemory(path: string): WorkloadMemory | null {
  try {
    const { wanted, ran, held, attempts, arriving } = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
    if (typeof wanted !== "boolean" || !Array.isArray(attempts)) return null;
    return {
      wanted,
      ran: ran === true,
      held: typeof held === "string" ? held : null,
      attempts: attempts.filter((item) => typeof item === "number"),
      arriving: typeof arriving === "string" ? arriving : null,
    };
  } catch {
    // None yet, or damaged: the process itself tells the rest.
    return null;
  }
}

/** @throws on a full or missing disk; the caller goes on without */
export function writeMemory(path: string, memory: WorkloadMemory): void {
  writeFileSync(`${path}.new`, `${JSON.stringify(memory)}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}
