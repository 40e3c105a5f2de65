// SPDX-License-Identifier: Apache-2.0
/**
 * What the main thread and the storage Worker say to each other. Plain data; every message gets exactly one answer with its
 * number. Each file has one message under way at a time: the next batch goes out when the last one is answered, so a batch
 * is what arrived during the last flush.
 */
import type { TrialId } from "#fault.ts";
import type { SampleRow } from "./history.ts";
import type { JournalMemory } from "./journal.ts";
import type { StorageLimits } from "./limits.ts";
import type { OutboxRow } from "./outbox.ts";
import type { JournalRow } from "./rows.ts";
import type { Fullness, Space } from "./space.ts";

/** The files that the storage Worker writes; pages belong to the checkpoint Worker. */
export const lanes = ["journal", "outbox", "history"] as const;
export type LaneName = (typeof lanes)[number];

export type RowOf = { readonly journal: JournalRow; readonly outbox: OutboxRow; readonly history: SampleRow };

export type ToWriter =
  | { readonly kind: "start"; readonly directory: string; readonly limits: StorageLimits }
  /** Open the file, write `recovered` (journal: from the ring) and settle what is open. Asked again after a failure. */
  | { readonly kind: "open"; readonly file: LaneName; readonly recovered: readonly JournalRow[] }
  | {
      readonly kind: "write";
      readonly file: LaneName;
      readonly rows: readonly RowOf[LaneName][];
      readonly again: boolean;
    }
  /** Do a slice of what can wait. */
  | { readonly kind: "upkeep" }
  | { readonly kind: "close" };

/** What was found at opening that a person should know. */
export type Finding = { readonly event: string; readonly facts: Readonly<Record<string, string | number | null>> };

export type FromWriter =
  | { readonly kind: "started" }
  | {
      readonly kind: "opened";
      readonly cursor: number;
      /** For the journal. */
      readonly memory: JournalMemory | null;
      readonly settled: readonly TrialId[];
      readonly condition: Condition;
    }
  /** The condition where there is news of it: with every commit it would cost more than the row. */
  | { readonly kind: "written"; readonly cursor: number; readonly condition: Condition | null }
  | { readonly kind: "kept"; readonly more: boolean; readonly condition: Condition }
  | {
      readonly kind: "failed";
      readonly code: string;
      readonly why: string;
      /** What can be read of a journal that cannot be written. */
      readonly memory: JournalMemory | null;
      /** null where the Worker itself ended. */
      readonly condition: Condition | null;
    }
  | { readonly kind: "closed" };

/** How the disk is. */
export type Condition = {
  readonly fullness: Fullness;
  /** null where it cannot be told. */
  readonly space: Space | null;
  readonly overBudget: boolean;
  readonly bytesToday: number;
  readonly findings: readonly Finding[];
};
