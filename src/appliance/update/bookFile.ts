// SPDX-License-Identifier: Apache-2.0
/**
 * The book of updates in its file, and beside it a word for the watch over a silent trial: the slot that is on trial. Gets the
 * directory of our records; a change is written beside the old file, flushed and renamed. Blocks.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UpdateError } from "#errors.ts";
import { emptyBook, readBook, type UpdateBook } from "./updateBook.ts";

const bookName = "book.json";
/** Read by the unit holdfast-trial.service. */
const trialName = "trial";

/** `damaged`: there is a file, and it is no book; it is set aside. */
export function loadBook(directory: string): { readonly book: UpdateBook; readonly damaged: boolean } {
  const path = join(directory, bookName);
  let words: string;
  try {
    words = readFileSync(path, "utf8");
  } catch {
    return { book: emptyBook, damaged: false }; // None yet.
  }
  const book = readBook(words);
  if (book !== null) return { book, damaged: false };
  try {
    renameSync(path, `${path}.damaged`);
  } catch {
    // The disk is ill: the next write says so.
  }
  return { book: emptyBook, damaged: true };
}

/** @throws UpdateError update.environment where it cannot be written */
export function saveBook(directory: string, book: UpdateBook): void {
  const { phase } = book;
  const onTrial = phase.kind === "installing" || phase.kind === "installed" || phase.kind === "trial";
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    put(directory, bookName, `${JSON.stringify(book)}\n`);
    if (onTrial) put(directory, trialName, `${phase.target}\n`);
    else rmSync(join(directory, trialName), { force: true });
    const folder = openSync(directory, "r");
    try {
      fsyncSync(folder);
    } finally {
      closeSync(folder);
    }
  } catch (cause) {
    throw new UpdateError("update.environment", `cannot write the record of updates in ${directory}`, {}, cause);
  }
}

function put(directory: string, name: string, words: string): void {
  const path = join(directory, name);
  writeFileSync(`${path}.new`, words, { mode: 0o600, flush: true });
  renameSync(`${path}.new`, path);
}
