// SPDX-License-Identifier: Apache-2.0
/**
 * The storage Worker: the only thread with a connection that writes. Gets `ToWriter` messages, answers each with exactly
 * one `FromWriter`. It decides nothing: a failure is told and the connection is opened anew at the next message, because
 * after an error on flush the kernel may have dropped the pages that the old one believes written.
 */
import { join } from "node:path";
import { explain, StorageError, unreachable } from "#errors.ts";
import { Journal } from "./journal.ts";
import type { FromWriter, ToWriter } from "./messages.ts";
import { claimDirectory, lockFile } from "./ownership.ts";

declare const self: Worker;

let path: string | undefined;
/** Held until we end: a journal that is ill is still ours. */
let lock: Disposable | undefined;
let journal: Journal | undefined;

self.onmessage = (event: MessageEvent<ToWriter>): void => {
  let answer: FromWriter;
  try {
    answer = answerTo(event.data);
  } catch (error) {
    closeJournal();
    const code = error instanceof StorageError ? error.code : "bug";
    answer = { kind: "failed", code, why: explain(error) };
  }
  self.postMessage(answer);
};

function answerTo(message: ToWriter): FromWriter {
  switch (message.kind) {
    case "open": {
      claimDirectory(message.directory);
      lock ??= lockFile(join(message.directory, "owner.lock"));
      path = join(message.directory, "journal.db");
      const opened = openJournal();
      if (message.recovered.length > 0) opened.write(message.recovered);
      const settled = opened.settle(message.atMs);
      return { kind: "opened", cursor: opened.cursor, history: opened.history(), settled };
    }
    case "write":
      return { kind: "written", cursor: openJournal().write(message.rows, message.again) };
    case "close":
      closeJournal();
      lock?.[Symbol.dispose]();
      lock = undefined;
      return { kind: "closed" };
    default:
      return unreachable(message);
  }
}

function openJournal(): Journal {
  if (path === undefined) throw new StorageError("storage.io", "the journal was never opened");
  journal ??= Journal.open(path);
  return journal;
}

function closeJournal(): void {
  journal?.[Symbol.dispose]();
  journal = undefined;
}
