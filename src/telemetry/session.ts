// SPDX-License-Identifier: Apache-2.0
/**
 * The life of a box at its broker: connect, say who we are, run until the link ends, wait, again. Gets settings and what is
 * to be done on a link; gives the standing of the connection. It never gives up and never hurries.
 *
 *     waiting ──▶ dialling ──CONNACK──▶ online ──end──▶ waiting      (orderly stop: says "offline" on the way out)
 *
 * The session number is on the disk before CONNECT and in the will, so a reader can tell a stale will; if the broker knows
 * a higher one than we do, our database was lost and we go on from there.
 */
import { type Clock, deadline, type Random } from "#clock.ts";
import { explain, TelemetryError } from "#errors.ts";
import type { Log } from "#log.ts";
import { firstWaitMs, type LinkEnd, nextWaitMs } from "./backoff.ts";
import { Link, type ReceivedMessage } from "./link.ts";
import type { Outbox } from "./outbox.ts";
import { type Health, readJson, type State, stateSchema } from "./payloads.ts";
import type { TelemetrySettings } from "./settings.ts";
import { judgeEcho, type Standing, stateWords, willWords } from "./state.ts";
import type { BoxTopics } from "./topics.ts";

/** A box without a past waits so long for the broker's memory of it. */
const memoryMs = 2_000;
/** Longer than this for the session number to become durable, and the connect goes ahead without. */
const durableMs = 10_000;
/** "offline" is said within this time, or not at all. */
const farewellMs = 2_000;
/** A jump of the session number is believed at most once in this time. */
const behindMs = 60_000;
const recentWordsMax = 8;
/** Reason codes of CONNACK by which a broker says that it does not speak MQTT 5 (the second is of 3.1.1). */
const otherProtocol: readonly number[] = [132, 1];
/** Server unavailable, busy, message rate, quota, connection rate. */
const busyCodes: readonly number[] = [136, 137, 150, 151, 159];

export type SessionOptions = {
  readonly settings: TelemetrySettings;
  readonly topics: BoxTopics;
  readonly outbox: Outbox;
  readonly boot: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Our words are said again at most this often; shorter in tests. */
  readonly repeatMs?: number | undefined;
  /** Every message but those about our own state. Resolves when it may be acknowledged. */
  readonly receive: (message: ReceivedMessage) => Promise<void>;
  /** Runs on each link until the signal; the link's end aborts it. */
  readonly work: (link: Link, signal: AbortSignal) => Promise<void>;
  /** A connect was refused or a connection ended; null: connected. */
  readonly changed: (trouble: { readonly code: number; readonly why: string } | null) => void;
};

export class Session {
  readonly #options: SessionOptions;
  #standing: Exclude<Standing, "offline"> = "online";
  #health: Health = "ok";
  #link: Link | null = null;
  #sid: number;
  #words = "";
  /** Words of this session that the broker may still echo. */
  #recentWords: string[] = [];
  #over: AbortController | null = null;
  #repeating = false;
  #saidNs = Number.NEGATIVE_INFINITY;
  #echo: PromiseWithResolvers<void> = Promise.withResolvers();
  #behindNs = Number.NEGATIVE_INFINITY;
  #restart = false;
  #protocol: 5 | 4;
  connects = 0;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#sid = Number(options.outbox.note("session", "sid") ?? 0);
    this.#protocol = options.settings.broker.protocol === "3.1.1" ? 4 : 5;
  }

  get connected(): boolean {
    return this.#link !== null;
  }
  get protocol(): 5 | 4 {
    return this.#protocol;
  }

  /** What `P/state` says from now on. */
  announce(standing: Exclude<Standing, "offline">, health: Health): void {
    if (standing === this.#standing && health === this.#health) return;
    this.#standing = standing;
    this.#health = health;
    if (this.#link !== null) void this.#say(this.#link, standing).catch(() => {});
  }

  /** Runs until the signal; says goodbye on the way out. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, random, settings, log } = this.#options;
    let waitMs = firstWaitMs(settings.reconnect, random);
    while (!signal.aborted) {
      try {
        await clock.sleep(waitMs, signal);
      } catch {
        return;
      }
      const end = await this.#connectOnce(signal);
      waitMs = nextWaitMs(waitMs, end, settings.reconnect, random);
      if (!signal.aborted) log("info", "telemetry.disconnected", { kind: end.kind, waitMs: Math.round(waitMs) });
    }
  }

  async #connectOnce(signal: AbortSignal): Promise<LinkEnd> {
    const { outbox, clock, changed } = this.#options;
    const fresh = this.#sid === 0;
    this.#sid += 1;
    this.#restart = false;
    this.#echo = Promise.withResolvers();
    this.#recentWords = [];
    outbox.putNote("session", "sid", String(this.#sid));
    let link: Link;
    try {
      await this.#sidDurable(signal);
      link = await this.#dial(signal);
    } catch (error) {
      if (signal.aborted) return { kind: "closed", connectedMs: 0 };
      return this.#refusedConnect(error);
    }
    const beganNs = clock.monotonicNs();
    this.connects += 1;
    changed(null);
    const code = await this.#live(link, fresh, signal);
    const connectedMs = (clock.monotonicNs() - beganNs) / 1e6;
    if (this.#restart) return { kind: "restart", connectedMs };
    return { kind: busyCodes.includes(code) ? "busy" : "closed", connectedMs };
  }

  /** The number is on the disk; or the disk is ill, which is when a fleet most needs to hear from a box. */
  async #sidDurable(signal: AbortSignal): Promise<void> {
    const late = (): Error => new TelemetryError("telemetry.timeout", "the session number is not durable");
    using patience = deadline(durableMs, late, signal);
    try {
      await this.#options.outbox.flush(patience.signal);
    } catch (error) {
      if (signal.aborted) throw error;
      this.#options.log("warn", "telemetry.sidNotDurable", { sid: this.#sid });
    }
  }

  async #dial(signal: AbortSignal): Promise<Link> {
    const { settings, topics, boot, clock } = this.#options;
    const will = { topic: topics.state, payload: willWords(this.#sid, boot) };
    const receive = (message: ReceivedMessage): Promise<void> => this.#receive(message);
    const { broker, device } = settings;
    return Link.open({
      broker,
      protocol: this.#protocol,
      clientId: device,
      will,
      session: true,
      receive,
      clock,
      signal,
    });
  }

  #refusedConnect(error: unknown): LinkEnd {
    if (!(error instanceof TelemetryError) || error.code === "telemetry.settings") throw error;
    const code = Number(error.context.code ?? 0);
    const { settings, log, changed } = this.#options;
    log("warn", "telemetry.refused", { code, why: explain(error) });
    changed({ code, why: error.message });
    if (settings.broker.protocol === "auto" && otherProtocol.includes(code)) {
      this.#protocol = this.#protocol === 5 ? 4 : 5;
      return { kind: "restart", connectedMs: 0 };
    }
    return { kind: busyCodes.includes(code) ? "busy" : "refused", connectedMs: 0 };
  }

  /** Runs one link to its end. Gives the broker's reason code, 0 where it gave none. */
  async #live(link: Link, fresh: boolean, signal: AbortSignal): Promise<number> {
    const { work, changed, log } = this.#options;
    const over = new AbortController();
    this.#over = over;
    const ended = link.ended.then((end) => {
      this.#link = null;
      over.abort(new TelemetryError("telemetry.closed", end.why));
      return end;
    });
    const stop = (): void => over.abort(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
    try {
      await this.#greet(link, fresh);
      this.#link = link;
      await work(link, over.signal);
    } catch (error) {
      if (!over.signal.aborted && !(error instanceof TelemetryError)) throw error;
      if (!over.signal.aborted) log("warn", "telemetry.linkGivenUp", { why: explain(error) });
    } finally {
      signal.removeEventListener("abort", stop);
      if (signal.aborted) await this.#farewell(link);
      await link[Symbol.asyncDispose]();
    }
    const end = await ended;
    if (!signal.aborted && !this.#restart) changed(end);
    return end.code;
  }

  /** Looks what the broker knows of us, then says that we are here. */
  async #greet(link: Link, fresh: boolean): Promise<void> {
    const { topics, clock } = this.#options;
    await link.subscribe([topics.state]);
    if (fresh) {
      const patience = new AbortController();
      await Promise.race([this.#echo.promise, clock.sleep(memoryMs, patience.signal), link.ended]).catch(() => {});
      patience.abort();
      if (this.#restart) throw new TelemetryError("telemetry.closed", "the broker knows a later session of this box");
    }
    await this.#say(link, this.#standing);
  }

  async #say(link: Link, standing: Standing): Promise<void> {
    const { topics, boot, clock } = this.#options;
    this.#words = stateWords(this.#sid, boot, standing, this.#health, clock.wallMs());
    this.#recentWords = [...this.#recentWords, this.#words].slice(-recentWordsMax);
    this.#saidNs = clock.monotonicNs();
    const payload = new TextEncoder().encode(this.#words);
    const contentType = "application/json";
    await link.publish({ topic: topics.state, payload, qos: 1, retain: true, schema: "state/1.0", contentType });
  }

  async #farewell(link: Link): Promise<void> {
    using patience = deadline(farewellMs, () => new TelemetryError("telemetry.timeout", "no time for a farewell"));
    const late = new Promise<void>((resolve) =>
      patience.signal.addEventListener("abort", () => resolve(), { once: true }),
    );
    // If it cannot be said, the will says it.
    await Promise.race([this.#say(link, "offline").catch(() => {}), late]);
  }

  async #receive(message: ReceivedMessage): Promise<void> {
    if (message.topic !== this.#options.topics.state) return this.#options.receive(message);
    this.#hearEcho(message.payload);
    this.#echo.resolve();
  }

  #hearEcho(payload: Uint8Array): void {
    const { clock, log, outbox } = this.#options;
    const nowNs = clock.monotonicNs();
    const text = new TextDecoder().decode(payload.subarray(0, 4096));
    if (this.#recentWords.includes(text)) return;
    const own = { text: this.#words, sid: this.#sid, saidAtMs: this.#saidNs / 1e6 };
    const echo = judgeEcho({ text, state: readState(payload) }, own, this.#options.repeatMs);
    if (echo.kind === "own") return;
    if (echo.kind === "behind" && nowNs - this.#behindNs > behindMs * 1e6) {
      log("warn", "telemetry.sessionBehind", { sid: this.#sid, known: echo.sid - 1 });
      this.#behindNs = nowNs;
      this.#restart = true;
      this.#sid = echo.sid - 1;
      outbox.putNote("session", "sid", String(this.#sid));
      void this.#link?.[Symbol.asyncDispose]();
      return;
    }
    if (this.#link !== null) void this.#repeat(this.#link, echo.kind === "repeat" ? echo.atMs : nowNs / 1e6);
  }

  /** Says our words again, not more often than the contract allows. */
  async #repeat(link: Link, atMs: number): Promise<void> {
    if (this.#repeating || this.#over === null) return;
    this.#repeating = true;
    const { clock } = this.#options;
    try {
      await clock.sleep(Math.max(0, atMs - clock.monotonicNs() / 1e6), this.#over.signal);
      if (this.#link === link) await this.#say(link, this.#standing);
    } catch {
      // The link is over; the next one begins with our words.
    } finally {
      this.#repeating = false;
    }
  }
}

function readState(payload: Uint8Array): State | null {
  try {
    return readJson(stateSchema, payload);
  } catch {
    // Words that cannot be read are overwritten with ours.
    return null;
  }
}
