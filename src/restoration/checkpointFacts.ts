// SPDX-License-Identifier: Apache-2.0
/**
 * A checkpoint as others see it: plain data out of a row of the page file. Times are wall clock, ms; sizes bytes.
 */
import type { CheckpointRow } from "#storage/pageReader.ts";
import { pageBytes } from "#vm/offload/guestRam.ts";
import { type CheckpointHead, decodeHead } from "./checkpointHead.ts";

export type CheckpointFacts = {
  readonly id: string;
  readonly guest: string;
  readonly atMs: number;
  readonly state: "good" | "unproven" | "bad";
  readonly pinned: boolean;
  readonly build: string;
  readonly architecture: string;
  readonly ramBytes: number;
  /** Of the guest's memory, what has content; and what this checkpoint added to the store. */
  readonly contentBytes: number;
  readonly addedBytes: number;
  readonly disks: number;
  /** How long the guest stood still, as we know it. */
  readonly heldMs: number;
};

/** Null where its head is damaged. */
export function factsOf(row: CheckpointRow): CheckpointFacts | null {
  let head: CheckpointHead;
  try {
    head = decodeHead(row.id, row.head);
  } catch {
    return null;
  }
  return {
    id: row.id,
    guest: row.guest,
    atMs: row.atMs,
    state: row.bad ? "bad" : row.good ? "good" : "unproven",
    pinned: row.pinned,
    build: head.build,
    architecture: head.architecture,
    ramBytes: head.regions.reduce((sum, { bytes }) => sum + bytes, 0),
    contentBytes: head.pages.filled * pageBytes,
    addedBytes: head.pages.addedBytes,
    disks: head.disks.length,
    heldMs: Math.round(head.heldMs * 10) / 10,
  };
}

/** A row whose head cannot be read, as far as it can be told. */
export const damagedFacts = (row: CheckpointRow): CheckpointFacts => ({
  id: row.id,
  guest: row.guest,
  atMs: row.atMs,
  state: "bad",
  pinned: row.pinned,
  build: "unknown",
  architecture: "unknown",
  ramBytes: 0,
  contentBytes: 0,
  addedBytes: 0,
  disks: 0,
  heldMs: 0,
});

export const listFacts = (rows: readonly CheckpointRow[]): CheckpointFacts[] =>
  rows.map((row) => factsOf(row) ?? damagedFacts(row));
