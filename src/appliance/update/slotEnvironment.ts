// SPDX-License-Identifier: Apache-2.0
/**
 * The boot loader's environment as bytes and as value: which slot is to be started, which are good, how often each was tried.
 * Gets 1,024 bytes or a map; gives the other. Pure.
 *
 *     # GRUB Environment Block⏎ NAME=VALUE⏎ … and # up to the end; a backslash stands before a backslash or line feed
 *
 * The names are those that RAUC uses with GRUB. Ours come first and end long before the first 512 bytes do, so that a change
 * of theirs touches one sector of the disk, and a power cut leaves the old one or the new one.
 * Source: GRUB 2.06 grub-core/lib/envblk.c; RAUC's src/bootchooser.c and contrib/grub.conf.
 */
import { UpdateError } from "#errors.ts";

export const environmentBytes = 1024;
export const sectorBytes = 512;
export const slots = ["A", "B"] as const;
export type Slot = (typeof slots)[number];
export const otherSlot = (slot: Slot): Slot => (slot === "A" ? "B" : "A");
export const isSlot = (text: unknown): text is Slot => text === "A" || text === "B";

/** The boot loader starts a slot this often before it gives it up. */
export const triesMax = 3;

const header = "# GRUB Environment Block\n";
const ours = ["HOLDFAST", "ORDER", "A_OK", "A_TRY", "B_OK", "B_TRY"] as const;
const namePattern = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** null where this is no environment: too short, torn, foreign. */
export function parseEnvironment(bytes: Uint8Array): Map<string, string> | null {
  if (bytes.length !== environmentBytes) return null;
  const text = Buffer.from(bytes).toString("latin1");
  if (!text.startsWith(header)) return null;
  const found = new Map<string, string>();
  for (let at = header.length; at < text.length; ) {
    if (text[at] === "#") {
      const end = text.indexOf("\n", at);
      at = end < 0 ? text.length : end + 1;
      continue;
    }
    const line = readLine(text, at);
    if (line === null) return null;
    found.set(line.name, line.value);
    at = line.next;
  }
  return found;
}

/** @throws UpdateError update.environment where it does not fit, or a name is none */
export function formatEnvironment(entries: ReadonlyMap<string, string>): Uint8Array<ArrayBuffer> {
  const names = [...ours.filter((name) => entries.has(name)), ...[...entries.keys()].filter((name) => !isOurs(name))];
  let text = header;
  for (const name of names) {
    const value = entries.get(name)!;
    if (!namePattern.test(name) || /[^\n\x20-\x7e]/.test(value)) {
      throw new UpdateError("update.environment", `${JSON.stringify(name)} cannot be kept for the boot loader`);
    }
    text += `${name}=${value.replaceAll(/[\\\n]/g, "\\$&")}\n`;
  }
  if (text.length > environmentBytes) {
    const context = { bytes: text.length, bytesMax: environmentBytes };
    throw new UpdateError("update.environment", "the boot loader's environment has no room for that", context);
  }
  const bytes = new Uint8Array(environmentBytes).fill(0x23);
  bytes.set(Buffer.from(text, "latin1"));
  return bytes;
}

/** What the boot loader will do, as far as the environment says. */
export type SlotBook = {
  readonly order: readonly Slot[];
  readonly ok: Readonly<Record<Slot, boolean>>;
  readonly tries: Readonly<Record<Slot, number>>;
};

/** As the boot loader takes it: what is missing is order A B, good, never tried. */
export function readSlotBook(entries: ReadonlyMap<string, string> | null): SlotBook {
  const order = (entries?.get("ORDER") ?? "").split(" ").filter(isSlot);
  const tries = (slot: Slot): number => {
    const text = entries?.get(`${slot}_TRY`) ?? "0";
    return /^\d{1,4}$/.test(text) ? Number(text) : 0;
  };
  return {
    order: order.length === 0 ? slots : order.filter((slot, index) => order.indexOf(slot) === index),
    ok: { A: entries?.get("A_OK") !== "0", B: entries?.get("B_OK") !== "0" },
    tries: { A: tries("A"), B: tries("B") },
  };
}

/** The same entries with these words about the slots; what others keep in there stays. */
export function withSlotBook(entries: ReadonlyMap<string, string> | null, book: SlotBook): Map<string, string> {
  const { order, ok, tries } = book;
  const words = new Map(entries ?? []);
  // By this the boot loader's script knows that it has read an environment, and a whole one.
  words.set("HOLDFAST", "1");
  words.set("ORDER", order.join(" "));
  for (const slot of slots) {
    words.set(`${slot}_OK`, ok[slot] ? "1" : "0");
    words.set(`${slot}_TRY`, String(tries[slot]));
  }
  return words;
}

/** A slot has proven itself: it stays, and its tries begin anew. */
export const markedGood = (book: SlotBook, slot: Slot): SlotBook => ({
  ...book,
  ok: { ...book.ok, [slot]: true },
  tries: { ...book.tries, [slot]: 0 },
});
/** A slot is not to be started any more; the other one is. */
export const givenUp = (book: SlotBook, slot: Slot): SlotBook => ({
  ...book,
  ok: { ...book.ok, [slot]: false },
  order: [otherSlot(slot), slot],
});
/** This slot is to be tried first, from the next start on. */
export const activated = (book: SlotBook, slot: Slot): SlotBook => ({
  ...markedGood(book, slot),
  order: [slot, otherSlot(slot)],
});

/**
 * The slot that is started next, and the book as the boot loader leaves it. Where none is left to be tried, both begin anew,
 * and the box starts once more: `slot` is null.
 */
export function bootNext(book: SlotBook): { readonly slot: Slot | null; readonly book: SlotBook } {
  const slot = book.order.find((each) => book.ok[each] && book.tries[each] < triesMax) ?? null;
  if (slot === null) return { slot, book: { ...book, ok: { A: true, B: true }, tries: { A: 0, B: 0 } } };
  return { slot, book: { ...book, tries: { ...book.tries, [slot]: book.tries[slot] + 1 } } };
}

const isOurs = (name: string): boolean => (ours as readonly string[]).includes(name);

function readLine(text: string, from: number): { name: string; value: string; next: number } | null {
  const equals = text.indexOf("=", from);
  const name = equals < 0 ? "" : text.slice(from, equals);
  if (!namePattern.test(name)) return null;
  let value = "";
  for (let at = equals + 1; at < text.length; at += 1) {
    if (text[at] === "\n") return { name, value, next: at + 1 };
    if (text[at] === "\\") at += 1;
    value += text[at] ?? "";
  }
  return null; // The last line has no end: torn.
}
