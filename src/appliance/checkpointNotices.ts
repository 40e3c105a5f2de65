// SPDX-License-Identifier: Apache-2.0
/**
 * What a supervisor tells of checkpoints and restores, as values and as sentences. Sizes are bytes.
 */

import type { PageWaits } from "#restoration/pageWaits.ts";
import type { Held, Sealed } from "#restoration/takeCheckpoint.ts";

/** What came of taking one. */
export type CheckpointReport = Held & Sealed & { readonly guest: string; readonly atMs: number };

export type CheckpointNotice =
  | {
      event: "checkpoint";
      workload: string;
      id: string;
      /** How long the guest stood still. */
      stillMs: number;
      addedPages: number;
      addedBytes: number;
    }
  | {
      event: "restore";
      workload: string;
      checkpoint: string;
      mode: "lazy" | "eager";
      contentBytes: number;
      prefetchedBytes: number;
    }
  | {
      event: "restored";
      workload: string;
      checkpoint: string;
      mode: "lazy" | "eager";
      contentBytes: number;
      prefetchedBytes: number;
      demandedBytes: number;
      backgroundBytes: number;
      /** See RestoreProgress. */
      waitUsP50: number | null;
      waitUsP99: number | null;
      waits: PageWaits;
    };

export function checkpointSentence(notice: CheckpointNotice): string {
  switch (notice.event) {
    case "checkpoint":
      return `guest ${notice.workload}: checkpoint ${notice.id} taken; it stood still for ${notice.stillMs} ms, ${mebibytes(notice.addedBytes)} were added`;
    case "restore": {
      const how = notice.mode === "lazy" ? "its memory arrives as it is needed" : "its memory was written first";
      return `guest ${notice.workload}: back from checkpoint ${notice.checkpoint}; ${how} (${mebibytes(notice.contentBytes)})`;
    }
    case "restored":
      return `guest ${notice.workload}: all of its memory is there (${mebibytes(notice.prefetchedBytes)} before it ran, ${mebibytes(notice.demandedBytes)} on demand, ${mebibytes(notice.backgroundBytes)} in the background)`;
  }
}

const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
