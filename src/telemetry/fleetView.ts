// SPDX-License-Identifier: Apache-2.0
/**
 * What a reader knows of a fleet from its topics: who is there, who is lost and since when, faults, alarms. Gets messages;
 * gives rows. Pure. Bytes that cannot be read are counted and change nothing.
 */
import { TelemetryError } from "#errors.ts";
import { alarmSchema, eventSchema, readJson, readPayload, type State, stateSchema } from "./payloads.ts";
import { believe } from "./state.ts";
import type { FleetTopics } from "./topics.ts";

const boxesMax = 10_000;
/** Event ids remembered of a box, to count an event once. */
const idsMax = 256;

export type BoxView = {
  readonly device: string;
  readonly state: State["s"] | "unknown";
  readonly health: string;
  /** Since when it is in this state, as far as we saw; null: since before we looked. */
  readonly sinceMs: number | null;
  readonly faults: number;
  readonly failed: number;
  readonly alarms: readonly string[];
  /** Newest event, in words. */
  readonly last: string;
};

type Known = {
  state: State | null;
  sinceMs: number | null;
  faults: number;
  failed: number;
  readonly alarms: Map<string, string>;
  last: string;
  readonly ids: Set<string>;
};

export class FleetView {
  readonly #topics: FleetTopics;
  readonly #boxes = new Map<string, Known>();
  unreadable = 0;

  constructor(topics: FleetTopics) {
    this.#topics = topics;
  }

  /** Topics that a reader subscribes, each narrow. */
  get filters(): string[] {
    const { tree } = this.#topics;
    return [
      `${tree}/+/state`,
      `${tree}/+/a/+`,
      `${tree}/+/e/fault`,
      `${tree}/+/e/suppress`,
      `${tree}/+/e/restore`,
      `${tree}/+/e/lifecycle`,
    ];
  }

  /**
   * Takes a message. `retained`: as it was published. The first one of a box was there before we came, so its time says
   * nothing; what comes later was said just now, and a state is published as retained then too.
   */
  take(topic: string, payload: Uint8Array, retained: boolean, nowMs: number): void {
    const [device = "", kind = "", name = ""] = topic.slice(this.#topics.tree.length + 1).split("/");
    if (device === "" || device.startsWith("_")) return;
    try {
      if (kind === "state") this.#takeState(device, payload, retained, nowMs);
      else if (kind === "a") this.#takeAlarm(device, name, payload);
      else if (kind === "e") this.#takeEvent(device, payload);
    } catch (error) {
      if (!(error instanceof TelemetryError)) throw error;
      this.unreadable += 1;
    }
  }

  /** All boxes; the lost ones first, then by health, then by name. */
  rows(): BoxView[] {
    return [...this.#boxes]
      .map(([device, known]) => ({
        device,
        state: known.state?.s ?? ("unknown" as const),
        health: known.state?.health ?? "",
        sinceMs: known.sinceMs,
        faults: known.faults,
        failed: known.failed,
        alarms: [...known.alarms.values()],
        last: known.last,
      }))
      .sort((a, b) => weight(b) - weight(a) || (a.device < b.device ? -1 : 1));
  }

  #takeState(device: string, payload: Uint8Array, retained: boolean, nowMs: number): void {
    if (payload.length === 0) {
      this.#boxes.delete(device);
      return;
    }
    const known = this.#box(device);
    const believed = believe(known.state, readJson(stateSchema, payload));
    if (believed.s !== known.state?.s) known.sinceMs = retained && known.state === null ? null : nowMs;
    known.state = believed;
  }

  #takeAlarm(device: string, name: string, payload: Uint8Array): void {
    const { alarms } = this.#box(device);
    if (payload.length === 0) alarms.delete(name);
    else alarms.set(name, readPayload(alarmSchema, payload).alarm);
  }

  #takeEvent(device: string, payload: Uint8Array): void {
    const event = readPayload(eventSchema, payload);
    const known = this.#box(device);
    if (known.ids.has(event.id)) return;
    known.ids.add(event.id);
    if (known.ids.size > idsMax) known.ids.delete(known.ids.values().next().value!);
    if (event.class === "fault") known.faults += 1;
    if (event.out === "failed") known.failed += 1;
    const what =
      event.class === "fault" ? event.sig : event.class === "lifecycle" ? event.name : `${event.rung} ${event.out}`;
    known.last = `${event.w ?? ""} ${String(what)}`.trim();
  }

  #box(device: string): Known {
    const known = this.#boxes.get(device);
    if (known !== undefined) return known;
    const fresh: Known = {
      state: null,
      sinceMs: null,
      faults: 0,
      failed: 0,
      alarms: new Map(),
      last: "",
      ids: new Set(),
    };
    if (this.#boxes.size < boxesMax) this.#boxes.set(device, fresh);
    return fresh;
  }
}

const weights: Readonly<Record<string, number>> = { lost: 8, failing: 4, degraded: 3, attention: 2 };
const weight = (box: BoxView): number => (weights[box.state] ?? 0) + (weights[box.health] ?? 0);
