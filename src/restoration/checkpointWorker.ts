// SPDX-License-Identifier: Apache-2.0
/**
 * The checkpoint Worker: the one writer of the page file. What each order does is in checkpointStore.ts.
 */
import { CheckpointStore } from "./checkpointStore.ts";
import type { Keep } from "./retention.ts";
import type { CheckpointOrder } from "./takeCheckpoint.ts";
import { packTouches } from "./touchOrder.ts";
import { answerCalls } from "./workerPort.ts";

declare const self: Worker;

export type StoreOrder =
  | { readonly kind: "open"; readonly directory: string }
  | { readonly kind: "take"; readonly checkpoint: CheckpointOrder }
  | { readonly kind: "seal" }
  | { readonly kind: "discard" }
  | { readonly kind: "mark"; readonly id: string; readonly mark: "good" | "bad" | "pinned" | "unpinned" }
  | { readonly kind: "drop"; readonly id: string }
  | { readonly kind: "retain"; readonly guest: string; readonly keep: Keep }
  | { readonly kind: "touched"; readonly guest: string; readonly pages: readonly number[] }
  | { readonly kind: "verify"; readonly id: string }
  | { readonly kind: "import"; readonly path: string };

let store: CheckpointStore | null = null;

answerCalls<StoreOrder>(self, (order, tell) => {
  if (order.kind === "open") {
    store = new CheckpointStore(order.directory);
    return null;
  }
  return obey(store!, order, tell);
});

function obey(
  open: CheckpointStore,
  order: Exclude<StoreOrder, { kind: "open" }>,
  tell: (news: unknown) => void,
): unknown {
  switch (order.kind) {
    case "take":
      return open.take(order.checkpoint, tell);
    case "seal":
      return [open.seal(), open.rows()];
    case "discard":
      return open.discard();
    case "mark":
      open.mark(order.id, order.mark);
      return open.rows();
    case "drop":
      open.drop(order.id);
      return open.rows();
    case "retain":
      return [open.retain(order.guest, order.keep), open.rows()];
    case "touched":
      return open.touched(order.guest, packTouches(order.pages));
    case "verify":
      return [open.verify(order.id), open.rows()];
    case "import":
      return [open.import(order.path), open.rows()];
  }
}
