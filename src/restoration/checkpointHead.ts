// SPDX-License-Identifier: Apache-2.0
/**
 * What is known of a checkpoint beside its pages, Config and State: as one JSON text that carries its own checksum.
 *
 * Gets and gives `CheckpointHead`. Damage anywhere in it, in Config or in State is found before a restore begins.
 */
import { StorageError } from "#errors.ts";
import { GuestRam, numbered, type RamRegion } from "#vm/offload/guestRam.ts";
import { sha256Hex } from "./pageHash.ts";
import { type ChunkRuns, chunkPages, namesOf } from "./pageMap.ts";

/** How the memory came: read from its file, or streamed. */
export type CheckpointMethod = "memoryFile" | "stream";

export type DiskClone = {
  /** Cloud Hypervisor's name of the disk. */
  readonly id: string;
  /** The guest's own disk. */
  readonly path: string;
  /** The clone that belongs to this checkpoint. */
  readonly clone: string;
};

export type CheckpointHead = {
  /** Cloud Hypervisor's build that made it: no other may restore it. */
  readonly build: string;
  readonly architecture: string;
  readonly method: CheckpointMethod;
  /** The guest ran; a paused one is restored paused. */
  readonly ran: boolean;
  readonly regions: readonly Omit<RamRegion, "firstPage">[];
  readonly chunks: ChunkRuns;
  readonly disks: readonly DiskClone[];
  readonly configSum: string;
  readonly stateSum: string;
  readonly pages: {
    /** With content; all others are zero. */
    readonly filled: number;
    /** That were not in any earlier checkpoint. */
    readonly added: number;
    /** What those take up, packed. */
    readonly addedBytes: number;
  };
  /** From State to the answer, as far as we know it, ms. */
  readonly heldMs: number;
};

export function encodeHead(head: CheckpointHead): string {
  return JSON.stringify({ ...head, sum: sumOf(head) });
}

/** @throws StorageError storage.checkpointCorrupt */
export function decodeHead(id: string, text: string): CheckpointHead {
  let parsed: CheckpointHead & { sum?: unknown };
  try {
    parsed = JSON.parse(text) as CheckpointHead & { sum?: unknown };
  } catch {
    throw corrupt(id, "its head is not JSON");
  }
  const { sum, ...head } = parsed;
  if (sum !== sumOf(head)) throw corrupt(id, "its head does not have its checksum");
  return head;
}

/** @throws StorageError storage.checkpointCorrupt where Config or State are not what the head says */
export function checkMessages(id: string, head: CheckpointHead, config: Uint8Array, state: Uint8Array): void {
  if (sha256Hex(config) !== head.configSum) throw corrupt(id, "its configuration does not have its checksum");
  if (sha256Hex(state) !== head.stateSum) throw corrupt(id, "its device state does not have its checksum");
}

/** The memory that it describes, with the names of its chunks in order. @throws StorageError storage.checkpointCorrupt */
export function layoutOf(id: string, head: CheckpointHead): { readonly ram: GuestRam; readonly chunks: string[] } {
  const ram = new GuestRam(numbered(head.regions));
  const chunks = namesOf(head.chunks);
  if (chunks.length !== Math.ceil(ram.pages / chunkPages)) throw corrupt(id, "its page map has the wrong length");
  return { ram, chunks };
}

const sumOf = (head: object): string => sha256Hex(JSON.stringify(head));
const corrupt = (id: string, why: string): StorageError =>
  new StorageError("storage.checkpointCorrupt", `checkpoint ${id} is damaged: ${why}`, { checkpoint: id });
