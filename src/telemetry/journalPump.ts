// SPDX-License-Identifier: Apache-2.0
/**
 * From the journal to the outbox, by cursor. Gets durable rows; gives durable messages and remembers how far it came, so a
 * death anywhere means at worst that a row is taken twice, with the same id.
 *
 * Small batches with a turn of the event loop between them: a fault never waits for more than one.
 */
import type { Clock } from "#clock.ts";
import type { Bell } from "./bell.ts";
import type { ClockMark } from "./bootTime.ts";
import { type Encoding, formsOf, schemaOf } from "./encoding.ts";
import { bootEvent, type EventContext, type EventMessage, type EventState, translate } from "./events.ts";
import type { FeedRow, JournalFeed } from "./feed.ts";
import type { Outbox, OutMessage } from "./outbox.ts";
import type { BoxTopics } from "./topics.ts";

const batchRows = 32;
/** Rows are gathered for so long before they are read. */
const gatherMs = 25;
/** Rows older than this are not taken over at the first start. */
const ageMsMax = 7 * 86_400_000;
const bootsMax = 20;
/** A journal that cannot be read is tried again after so long. */
const unreadableMs = 10_000;
/** Rows that one `resend` may ask for. */
export const resendRowsMax = 10_000;

type Position = {
  readonly n: number;
  readonly lastN: number;
  /** First row of each boot, newest last. */
  readonly boots: readonly { readonly boot: string; readonly from: number }[];
};

const start: Position = { n: 0, lastN: 0, boots: [] };

export type PumpOptions = {
  readonly feed: JournalFeed;
  readonly outbox: Outbox;
  readonly bell: Bell;
  readonly topics: BoxTopics;
  readonly encoding: Encoding;
  readonly boot: string;
  readonly clock: Clock;
  readonly marks: () => readonly ClockMark[];
  readonly usedFleet: EventContext["usedFleet"];
};

export class JournalPump {
  readonly #options: PumpOptions;
  #position: Position;
  /** Rows before this are passed over: 0 but at the first start. */
  readonly #oldestMs: number;
  #workloads: EventState["workloads"] = new Map();

  constructor(options: PumpOptions) {
    this.#options = options;
    const stored = options.outbox.note("position", "journal");
    const position: Position = stored === null ? start : JSON.parse(stored);
    // A journal that was lost counts from the beginning again.
    this.#position = position.n > options.feed.cursor ? start : position;
    this.#oldestMs = this.#position.n > 0 ? 0 : options.clock.wallMs() - ageMsMax;
  }

  /** How far the journal was taken over. */
  get cursor(): number {
    return this.#position.n;
  }

  /** Runs until the signal, whose reason it throws. */
  async run(signal: AbortSignal): Promise<void> {
    for await (const cursor of this.#options.feed.commits(signal)) {
      // What was just committed often has to do with a fault that is still being dealt with: that goes first.
      await this.#options.clock.sleep(gatherMs, signal);
      while (this.#position.n < cursor) await this.#take(signal);
    }
  }

  /** Queues what the journal still holds of these rows once more. Gives how many events that were. */
  async resend(from: number, to: number, signal: AbortSignal): Promise<number> {
    const last = Math.min(to, from + resendRowsMax, this.#position.n);
    let state: EventState = { lastN: 0, boot: this.#bootOf(from), workloads: this.#workloads };
    let count = 0;
    // A little earlier, so that the first event can name the one before it.
    for (let after = Math.max(0, from - 1 - batchRows); after < last; ) {
      const rows = this.#options.feed.read(after, batchRows);
      if (rows === null || rows.length === 0) break;
      for (const row of rows) {
        const step = translate(row, { ...state, boot: this.#bootOf(row.n) }, this.#context());
        state = step.state;
        if (step.message === null || row.n < from || row.n > last) continue;
        this.#options.outbox.append(this.#messages(step.message));
        count += 1;
      }
      after = rows.at(-1)!.n;
      await this.#options.outbox.flush(signal);
      this.#options.bell.ring();
    }
    return count;
  }

  async #take(signal: AbortSignal): Promise<void> {
    const { feed, outbox, bell, clock } = this.#options;
    const rows = feed.read(this.#position.n, batchRows);
    if (rows === null) return clock.sleep(unreadableMs, signal);
    let { n, lastN, boots } = this.#position;
    for (const row of rows) {
      boots = this.#withBoot(boots, row);
      n = row.n;
      if (row.atMs < this.#oldestMs) continue;
      const state = { lastN, boot: boots.at(-1)!.boot, workloads: this.#workloads };
      const step = translate(row, state, this.#context());
      this.#workloads = step.state.workloads;
      if (step.message === null) continue;
      lastN = row.n;
      outbox.append(this.#messages(step.message));
    }
    // The rows may have gone by retention between the commit and the read.
    this.#position = { n: rows.length === 0 ? feed.cursor : n, lastN, boots };
    outbox.putNote("position", "journal", JSON.stringify(this.#position));
    await outbox.flush(signal);
    bell.ring();
    await clock.sleep(0, signal);
  }

  #withBoot(boots: Position["boots"], row: FeedRow): Position["boots"] {
    const told = row.kind === "event" && row.event === bootEvent ? row.facts.boot : undefined;
    const boot = typeof told === "string" ? told : (boots.at(-1)?.boot ?? this.#options.boot);
    if (boots.at(-1)?.boot === boot) return boots;
    return [...boots, { boot, from: row.n }].slice(-bootsMax);
  }

  #bootOf(n: number): string {
    const { boots } = this.#position;
    return boots.findLast(({ from }) => from <= n)?.boot ?? boots[0]?.boot ?? this.#options.boot;
  }

  #context(): EventContext {
    const { topics, marks, usedFleet } = this.#options;
    return { device: topics.device, marks: marks(), usedFleet };
  }

  #messages(event: EventMessage): OutMessage[] {
    const { topics, encoding } = this.#options;
    const { rank, atMs, boot, n, quality, payload } = event;
    return formsOf(topics, topics.event(event.class), payload, encoding).map((form) => ({
      id: form.json ? `${payload.id}/json` : String(payload.id),
      lane: "event",
      rank,
      topic: form.topic,
      schema: schemaOf("event"),
      payload: form.payload,
      atMs,
      boot,
      n,
      quality,
    }));
  }
}
