// SPDX-License-Identifier: Apache-2.0
/**
 * Sends what waits, on one link: retained topics, live events, then what waited, paced. Gets a link and the outbox; gives
 * acknowledgements to the outbox. It pulls, so nothing upstream ever waits for it.
 *
 * At most 8 in flight, never more than the broker's receive maximum. What the broker refuses stays in the outbox and its
 * lane rests for a minute; what it can never take (too large) is let go and counted: the journal still has it.
 */
import type { Clock } from "#clock.ts";
import { TelemetryError } from "#errors.ts";
import type { Log } from "#log.ts";
import type { Bell } from "./bell.ts";
import type { ClockMark } from "./bootTime.ts";
import { contentTypeOf, restampMessage } from "./encoding.ts";
import type { KeptMessage, KeptTopics } from "./kept.ts";
import type { Link } from "./link.ts";
import type { Lane, Outbox, QueuedMessage } from "./outbox.ts";
import { Pace } from "./pace.ts";
import { inFlightMax } from "./settings.ts";

/** A lane that was refused rests so long. */
export const restMs = 60_000;
/** Rows read ahead, and acknowledgements that may wait for the disk. */
const readAhead = 128;
const unflushedMax = 512;
/** Messages a second of a drain whose pace limit is lifted: faster is only more garbage at once. */
const drainMostPerSecond = 3_000;
/**
 * A long drain collects the heap each so many messages. By itself the runtime lets 32 MiB of garbage gather first; with
 * this, 100,000 messages grew the process by less (29 MiB where it was cold, 5 where it was warm; x86-64, 2026-11-23).
 */
const collectEvery = 2_048;
/** Reason codes by which a broker says that these bytes will never do: topic name, packet size, payload format. */
const hopeless: readonly number[] = [144, 149, 153];

export type PublisherReports = {
  /** A message was acknowledged after so long. */
  readonly acknowledged: (ackMs: number) => void;
  /** The broker refused a message; it stays where it is. */
  readonly refused: (code: number, topic: string) => void;
  /** A message can never be sent and was let go. */
  readonly undeliverable: (topic: string, why: string) => void;
};

export type PublisherOptions = {
  readonly outbox: Outbox;
  readonly kept: KeptTopics;
  readonly bell: Bell;
  readonly drainPerSecond: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly marks: () => readonly ClockMark[];
  readonly reports: PublisherReports;
};

type Pick =
  | { readonly kind: "kept"; readonly message: KeptMessage }
  | { readonly kind: "queued"; readonly message: QueuedMessage };

export class Publisher {
  readonly #options: PublisherOptions;
  readonly #link: Link;
  readonly #pace: Pace;
  readonly #window: number;
  readonly #live: LaneReader;
  readonly #backlog: LaneReader;
  readonly #metrics: LaneReader;
  readonly #rests = new Map<Lane | "kept", number>();
  /** An error that is none of the broker's: `run` throws it. */
  #bug: unknown = null;
  #inFlight = 0;
  #drained = 0;
  #unflushed = 0;

  constructor(link: Link, options: PublisherOptions) {
    const { outbox, clock, drainPerSecond } = options;
    this.#options = options;
    this.#link = link;
    this.#pace = new Pace(drainPerSecond === 0 ? drainMostPerSecond : drainPerSecond, clock);
    this.#window = Math.min(inFlightMax, link.receiveMaximum);
    const present = outbox.newest("event");
    this.#live = new LaneReader(outbox, "event", present, Number.MAX_SAFE_INTEGER);
    this.#backlog = new LaneReader(outbox, "event", 0, present);
    this.#metrics = new LaneReader(outbox, "metric", 0, Number.MAX_SAFE_INTEGER);
  }

  /** Runs until the signal or the end of the link. */
  async run(signal: AbortSignal): Promise<void> {
    const { bell } = this.#options;
    // One listener for the whole run: one for each wait would be a good part of the garbage of a drain.
    const stop = (): void => bell.ring();
    signal.addEventListener("abort", stop, { once: true });
    while (!signal.aborted) {
      if (this.#bug !== null) throw this.#bug;
      const pick = this.#pick();
      if (pick !== null) {
        void this.#send(pick, signal);
        continue;
      }
      const waitMs = this.#wakeMs();
      if (waitMs === null) await bell.wait();
      else await this.#waitAtMost(waitMs);
    }
  }

  async #waitAtMost(waitMs: number): Promise<void> {
    const { bell, clock } = this.#options;
    const timer = new AbortController();
    void clock.sleep(waitMs, timer.signal).then(
      () => bell.ring(),
      () => {},
    );
    await bell.wait();
    timer.abort();
  }

  #pick(): Pick | null {
    if (this.#inFlight >= this.#window || this.#unflushed > unflushedMax) return null;
    const kept = this.#resting("kept") ? null : this.#options.kept.take();
    if (kept !== null) return { kind: "kept", message: kept };
    const message = this.#pickEvent() ?? this.#pickMetric();
    return message === null ? null : { kind: "queued", message };
  }

  #pickEvent(): QueuedMessage | null {
    if (this.#resting("event")) return null;
    return this.#live.take(anyTime) ?? this.#paced(this.#backlog, anyTime);
  }

  /** Metrics of a boot that never knew the time come last. */
  #pickMetric(): QueuedMessage | null {
    if (this.#resting("metric")) return null;
    const boots = new Set(this.#options.marks().map(({ boot }) => boot));
    const known = (message: QueuedMessage): boolean => message.quality !== "guess" || boots.has(message.boot);
    for (const wanted of [known, anyTime]) {
      if (this.#metrics.peek(wanted)) return this.#paced(this.#metrics, wanted);
    }
    return null;
  }

  /** A message of what waited, if it is time for one. */
  #paced(lane: LaneReader, wanted: Wanted): QueuedMessage | null {
    if (!lane.peek(wanted) || !this.#pace.take()) return null;
    this.#drained += 1;
    if (this.#drained % collectEvery === 0) Bun.gc(true);
    return lane.take(wanted);
  }

  /** When to look again without being rung: at the next token, or at the end of a rest. */
  #wakeMs(): number | null {
    const now = this.#options.clock.monotonicNs() / 1e6;
    const rests = [...this.#rests.values()].map((untilMs) => Math.max(1, untilMs - now));
    const waiting = this.#inFlight < this.#window && (this.#backlog.peek(anyTime) || this.#metrics.peek(anyTime));
    const waits = waiting ? [...rests, Math.max(1, this.#pace.waitMs())] : rests;
    return waits.length === 0 ? null : Math.min(...waits);
  }

  async #send(pick: Pick, signal: AbortSignal): Promise<void> {
    const { clock, marks, log } = this.#options;
    const sentNs = clock.monotonicNs();
    this.#inFlight += 1;
    try {
      const { topic, schema, payload } = pick.kind === "kept" ? pick.message : restampMessage(pick.message, marks());
      const contentType = pick.kind === "kept" ? pick.message.contentType : contentTypeOf(pick.message);
      const correlation = pick.kind === "queued" ? pick.message.correlation : undefined;
      const extra = correlation === undefined ? {} : { correlation };
      await this.#link.publish({ topic, payload, qos: 1, retain: pick.kind === "kept", schema, contentType, ...extra });
      this.#options.reports.acknowledged((clock.monotonicNs() - sentNs) / 1e6);
      this.#acknowledge(pick);
    } catch (error) {
      if (!signal.aborted) log("debug", "telemetry.notSent", { topic: pick.message.topic, why: String(error) });
      this.#judge(pick, error);
    } finally {
      this.#inFlight -= 1;
      this.#options.bell.ring();
    }
  }

  #acknowledge(pick: Pick): void {
    const { outbox, kept } = this.#options;
    if (pick.kind === "kept") kept.acknowledge(pick.message);
    else outbox.acknowledge(pick.message.lane, pick.message.cursor);
    this.#unflushed += 1;
    if (this.#unflushed % unflushedMax !== 0) return;
    // Acknowledgements must not pile up before a slow disk: sending waits for it.
    const counted = this.#unflushed;
    void outbox.flush().then(() => {
      this.#unflushed -= counted;
      this.#options.bell.ring();
    });
  }

  /** A dead link needs nothing: the next one starts from the outbox again. */
  #judge(pick: Pick, error: unknown): void {
    if (!(error instanceof TelemetryError)) {
      this.#bug ??= error;
      return;
    }
    const { topic } = pick.message;
    const code = Number(error.context.code ?? 0);
    if (error.code === "telemetry.size" || (error.code === "telemetry.refused" && hopeless.includes(code))) {
      this.#acknowledge(pick);
      this.#options.reports.undeliverable(topic, error.message);
    } else if (error.code === "telemetry.refused") {
      this.#options.reports.refused(code, topic);
      const lane = pick.kind === "kept" ? "kept" : pick.message.lane;
      this.#rests.set(lane, this.#options.clock.monotonicNs() / 1e6 + restMs);
      if (pick.kind === "kept") this.#options.kept.offer(topic);
      else if (pick.message.lane === "metric") this.#metrics.rewind();
      else {
        this.#live.rewind();
        this.#backlog.rewind();
      }
    }
  }

  #resting(lane: Lane | "kept"): boolean {
    const untilMs = this.#rests.get(lane);
    if (untilMs === undefined) return false;
    if (untilMs > this.#options.clock.monotonicNs() / 1e6) return true;
    this.#rests.delete(lane);
    return false;
  }
}

const anyTime = (): boolean => true;
type Wanted = (message: QueuedMessage) => boolean;

/** Reads one lane of the outbox in order, once, between two cursors. */
class LaneReader {
  #buffer: QueuedMessage[] = [];
  /** What was passed over, for a later pass. */
  #skipped: QueuedMessage[] = [];
  #after: number;
  /** The version of the lane in which nothing was left: no need to look again before it changes. */
  #exhausted = -1;

  constructor(
    private readonly outbox: Outbox,
    private readonly lane: Lane,
    private readonly from: number,
    private readonly to: number,
  ) {
    this.#after = from;
  }

  peek(wanted: Wanted): boolean {
    return this.#find(wanted) !== null;
  }

  take(wanted: Wanted): QueuedMessage | null {
    const found = this.#find(wanted);
    if (found === null) return null;
    this.#buffer = this.#buffer.filter((message) => message !== found);
    this.#skipped = this.#skipped.filter((message) => message !== found);
    return found;
  }

  /** Begins again: what is still in the outbox will come once more. */
  rewind(): void {
    this.#after = this.from;
    this.#exhausted = -1;
    this.#buffer = [];
    this.#skipped = [];
  }

  #find(wanted: Wanted): QueuedMessage | null {
    for (;;) {
      const found = this.#buffer.find(wanted) ?? this.#skipped.find(wanted);
      if (found !== undefined) return found;
      if (this.#skipped.length + this.#buffer.length > readAhead * 4) return null;
      const version = this.outbox.version(this.lane);
      if (version === this.#exhausted) return null;
      this.#skipped.push(...this.#buffer);
      this.#buffer = this.outbox.next(this.lane, this.#after, readAhead).filter((message) => message.cursor <= this.to);
      if (this.#buffer.length === 0) {
        this.#exhausted = version;
        return null;
      }
      this.#after = this.#buffer.at(-1)!.cursor;
    }
  }
}
