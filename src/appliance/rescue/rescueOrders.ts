// SPDX-License-Identifier: Apache-2.0
/**
 * Orders of a person to the book of a running supervisor: a file in its state directory, which it takes away once done.
 *
 *     holdfast rescue forget ─▶ DIRECTORY/rescue-order.json ─▶ supervisor, within `lookMs` ─▶ file gone
 *
 * Gets a directory; the one who holds its storage follows, everybody else may only leave an order. One at a time: a second
 * waits for the first to go. What is no order is taken away unread.
 */
import { existsSync, linkSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { type Clock, sleepToBeat } from "#clock.ts";
import { StorageError } from "#errors.ts";
import type { Storage } from "#storage/storage.ts";
import type { TaskGroup } from "#tasks.ts";
import { RescueBook } from "./rescueBook.ts";
import type { SiteRecord } from "./rescueRecord.ts";
import { exportRecords, importRecords, recordsMax } from "./rescueText.ts";

export type RescueOrder =
  | { readonly kind: "forget"; readonly ids: readonly string[] | "all" }
  | { readonly kind: "import"; readonly records: readonly SiteRecord[] };

const lookMs = 500;
const waitLookMs = 25;
/** A supervisor that works on a fault answers within this, whatever its disk does. */
const answerMsMax = 10_000;

const wire = v.variant("kind", [
  v.object({
    kind: v.literal("forget"),
    ids: v.union([v.literal("all"), v.pipe(v.array(v.string()), v.maxLength(recordsMax))]),
  }),
  v.object({ kind: v.literal("import"), text: v.string() }),
]);

const pathOf = (directory: string): string => join(directory, "rescue-order.json");

/** The book of a storage, open for orders for as long as the tasks run. */
export function openRescues(storage: Storage, directory: string, clock: Clock, tasks: TaskGroup): RescueBook {
  const book = new RescueBook(storage, clock);
  tasks.start((signal) => followOrders(book, directory, clock, signal));
  return book;
}

/** Follows the orders left in `directory` until the signal aborts. */
async function followOrders(book: RescueBook, directory: string, clock: Clock, signal: AbortSignal): Promise<void> {
  for (;;) {
    const order = takeOrder(directory);
    if (order !== null) obey(book, order);
    // Only now: who waits for it to go may rely on what was ordered.
    if (order !== null) rmSync(pathOf(directory), { force: true });
    await sleepToBeat(clock, lookMs, signal);
  }
}

export function obey(book: RescueBook, order: RescueOrder): void {
  if (order.kind === "forget") book.forget(order.ids);
  else book.import(order.records);
}

/** Leaves an order for the supervisor of `directory`, and waits until it is done. @throws StorageError storage.io */
export async function leaveOrder(directory: string, order: RescueOrder, clock: Clock): Promise<void> {
  const text = order.kind === "forget" ? order : { kind: "import", text: exportRecords(order.records) };
  const draft = `${pathOf(directory)}.${process.pid}`;
  writeFileSync(draft, JSON.stringify(text), { mode: 0o600 });
  const untilNs = clock.monotonicNs() + answerMsMax * 1e6;
  const waitUntil = async (isDone: () => boolean): Promise<void> => {
    while (!isDone()) {
      if (clock.monotonicNs() > untilNs) {
        throw new StorageError(
          "storage.io",
          `the supervisor of ${directory} has not answered within ${answerMsMax} ms`,
        );
      }
      await clock.sleep(waitLookMs);
    }
  };
  try {
    await waitUntil(() => isPlaced(draft, pathOf(directory)));
    await waitUntil(() => textAt(pathOf(directory)) !== JSON.stringify(text));
  } finally {
    rmSync(draft, { force: true });
  }
}

/** Whole or not at all, and never over another order. */
function isPlaced(draft: string, path: string): boolean {
  try {
    linkSync(draft, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw new StorageError("storage.io", `cannot write ${path}`, {}, error);
  }
}

/** null where there is none. One that cannot be understood goes at once. */
function takeOrder(directory: string): RescueOrder | null {
  const text = textAt(pathOf(directory));
  if (text === null) return null;
  try {
    const order = v.parse(wire, JSON.parse(text));
    return order.kind === "forget"
      ? order
      : { kind: "import", records: importRecords(new TextEncoder().encode(order.text)) };
  } catch {
    // Nobody who uses the verb writes such a thing.
    rmSync(pathOf(directory), { force: true });
    return null;
  }
}

function textAt(path: string): string | null {
  // Asked first: an error with its stack costs more than all else of a look.
  if (!existsSync(path)) return null;
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null; // Taken away since, or not ours to read.
  }
}
