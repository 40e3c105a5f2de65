// SPDX-License-Identifier: Apache-2.0
/**
 * What the main thread and the storage Worker say to each other. Plain data, one message at a time in each direction:
 * the next batch goes out when the last one is answered, so a batch is what arrived during the last flush.
 */
import type { PastTrial, TrialId } from "#fault.ts";
import type { JournalRow } from "./rows.ts";

export type ToWriter =
  /** Open the journal, write `recovered` (from the ring) and settle what is open. Asked again after a failure. */
  | {
      readonly kind: "open";
      readonly directory: string;
      readonly recovered: readonly JournalRow[];
      readonly atMs: number;
    }
  | { readonly kind: "write"; readonly rows: readonly JournalRow[]; readonly again: boolean }
  | { readonly kind: "close" };

export type FromWriter =
  | {
      readonly kind: "opened";
      readonly cursor: number;
      readonly history: readonly PastTrial[];
      readonly settled: readonly TrialId[];
    }
  | { readonly kind: "written"; readonly cursor: number }
  | { readonly kind: "failed"; readonly code: string; readonly why: string }
  | { readonly kind: "closed" };
