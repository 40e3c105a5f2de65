// SPDX-License-Identifier: Apache-2.0
/**
 * `/api/v1/stream`: a snapshot, then changes, as server-sent events. Ids are cursors of the journal, so a reader that comes
 * back with `Last-Event-ID` misses nothing.
 *
 * Nothing is queued for a reader: each asks for its next piece when it has taken the last one, and is given all that came
 * since, so a slow one costs one piece of memory. One that has taken nothing for `slowReaderMs` is let go.
 */

import { toJson } from "#bytes.ts";
import { deadline } from "#clock.ts";
import { StatusError } from "#errors.ts";
import type { Page } from "../page.ts";
import { limits } from "../settings.ts";
import { type Ask, problemAnswer } from "../web.ts";
import { faultAnswer, summaryAnswer } from "./answers.ts";

/** Changes that one piece holds at most; a reader that is further behind starts with a new snapshot. */
const changesMax = 100;

type Reader = { readonly owner: string; end: (() => void) | null; takenNs: number; waiting: boolean };

export class Streams {
  readonly #readers = new Set<Reader>();

  constructor(private readonly page: Page) {}

  get count(): number {
    return this.#readers.size;
  }

  open(c: Ask): Response {
    const asker = c.get("asker")!;
    const owner = asker.kind === "login" ? asker.login.id : asker.token.id;
    const own = [...this.#readers].filter((reader) => reader.owner === owner).length;
    if (this.#readers.size >= limits.streamsMax || own >= limits.streamsPerLoginMax) {
      c.header("retry-after", "30");
      return problemAnswer(
        c,
        503,
        "Too many live readers",
        `${limits.streamsMax} streams are served, ${limits.streamsPerLoginMax} a login`,
        "Close another tab, or read without live updates.",
      );
    }
    c.env.keepOpen();
    const given = c.req.header("last-event-id");
    const last = given !== undefined && /^\d{1,15}$/.test(given) ? Number(given) : null;
    const body = this.#stream(owner, last, () => stillAllowed(c));
    return new Response(body, {
      headers: { "content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no" },
    });
  }

  /** Lets go of readers that take nothing. */
  sweep(): void {
    const nowNs = this.page.clock.monotonicNs();
    for (const reader of this.#readers) {
      if (!reader.waiting && nowNs - reader.takenNs > limits.slowReaderMs * 1e6) reader.end?.();
    }
  }

  #stream(owner: string, last: number | null, allowed: () => boolean): ReadableStream<Uint8Array> {
    const { page } = this;
    const reader: Reader = { owner, end: null, takenNs: page.clock.monotonicNs(), waiting: false };
    this.#readers.add(reader);
    const encoder = new TextEncoder();
    let cursor = last !== null && last <= page.record.cursor ? last : -1;
    let gone = false;
    const leave = (): void => {
      gone = true;
      this.#readers.delete(reader);
    };
    return new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          reader.end = () => {
            leave();
            controller.error(new StatusError("status.refused", "the reader took nothing"));
          };
        },
        pull: async (controller) => {
          reader.waiting = true;
          const piece = await this.#next(cursor, () => gone);
          reader.waiting = false;
          reader.takenNs = page.clock.monotonicNs();
          if (gone) return;
          if (!allowed()) {
            leave();
            controller.enqueue(encoder.encode("event: ended\ndata: {}\n\n"));
            controller.close();
            return;
          }
          cursor = piece.cursor;
          controller.enqueue(encoder.encode(piece.text));
        },
        cancel: leave,
      },
      { highWaterMark: 1 },
    );
  }

  /** What comes after `cursor`: at once where there is something, else the next change or a heartbeat. */
  async #next(cursor: number, gone: () => boolean): Promise<{ cursor: number; text: string }> {
    const { page } = this;
    if (cursor < 0) return this.#snapshot();
    if (page.record.cursor === cursor) {
      const beat = (): Error => new StatusError("status.refused", "heartbeat");
      using patience = deadline(limits.heartbeatMs, beat);
      const silent = await Promise.race([
        page.changed.then(() => false),
        new Promise<boolean>((resolve) =>
          patience.signal.addEventListener("abort", () => resolve(true), { once: true }),
        ),
      ]);
      if (silent || gone()) return { cursor, text: ": still here\n\n" };
    }
    const changes = page.record.changes(cursor, changesMax + 1);
    if (changes === null || changes.length > changesMax) return this.#snapshot();
    const told = `event: state\ndata: ${toJson(summaryAnswer(page.view))}\n\n`;
    const lines = changes.map(({ n, kind, value }) => {
      const shown = kind === "event" ? value : faultAnswer(value);
      return `id: ${n}\nevent: ${kind}\ndata: ${toJson(shown)}\n\n`;
    });
    return { cursor: page.record.cursor, text: `${lines.join("")}${told}` };
  }

  #snapshot(): { cursor: number; text: string } {
    const { page } = this;
    const cursor = page.record.cursor;
    return {
      cursor,
      text: `id: ${cursor}\nretry: 2000\nevent: snapshot\ndata: ${toJson(summaryAnswer(page.view))}\n\n`,
    };
  }
}

/** A login that has ended sees no more. */
function stillAllowed(c: Ask): boolean {
  const asker = c.get("asker");
  const page = c.get("page");
  if (asker?.kind === "token")
    return page.accounts.tokens.some((token) => token.id === asker.token.id && token.endsMs > page.clock.wallMs());
  return asker?.kind === "login" && page.logins.list.includes(asker.login);
}
