// SPDX-License-Identifier: Apache-2.0
/**
 * The retained topics of this box: birth, config, alarms, jobs, discovery. Gets their newest payloads; keeps them on disk
 * and gives those that the broker does not have yet.
 *
 * A broker may have lost what it acknowledged, so every connect begins with all of them again. At most 50 topics: the
 * retained budget of the contract. An empty payload clears a topic and is forgotten once the broker has it.
 */
import type { Bell } from "./bell.ts";
import type { Outbox } from "./outbox.ts";

export const keptTopicsMax = 50;

export type KeptMessage = {
  readonly topic: string;
  readonly schema: string;
  readonly contentType: string;
  readonly payload: Uint8Array;
};
type Stored = { readonly schema: string; readonly type: string; readonly payload: string };

export class KeptTopics {
  readonly #outbox: Outbox;
  readonly #bell: Bell;
  readonly #messages = new Map<string, KeptMessage>();
  /** Topics the broker does not have yet, in the order of their change. */
  readonly #pending = new Set<string>();

  constructor(
    outbox: Outbox,
    bell: Bell,
    private readonly topicsMax = keptTopicsMax,
  ) {
    this.#outbox = outbox;
    this.#bell = bell;
    for (const { id, value } of outbox.notes("kept")) {
      const { schema, type, payload } = JSON.parse(value) as Stored;
      this.#messages.set(id, { topic: id, schema, contentType: type, payload: Uint8Array.fromBase64(payload) });
    }
  }

  /** Sets the newest payload of a topic. The same bytes again are nothing new. False where the budget is spent. */
  set(message: KeptMessage): boolean {
    const known = this.#messages.get(message.topic);
    if (known !== undefined && Buffer.compare(known.payload, message.payload) === 0) return true;
    if (known === undefined && this.#messages.size >= this.topicsMax) return false;
    this.#messages.set(message.topic, message);
    const { schema, contentType, payload } = message;
    const stored: Stored = { schema, type: contentType, payload: new Uint8Array(payload).toBase64() };
    this.#outbox.putNote("kept", message.topic, JSON.stringify(stored));
    this.#offer(message.topic);
    return true;
  }

  /** Clears a topic at the broker. */
  clear(topic: string): void {
    const known = this.#messages.get(topic);
    if (known !== undefined) this.set({ ...known, payload: new Uint8Array() });
  }

  has(topic: string): boolean {
    return (this.#messages.get(topic)?.payload.length ?? 0) > 0;
  }

  /** Topics with this beginning that are not cleared. */
  topicsBelow(prefix: string): string[] {
    return [...this.#messages.keys()].filter((topic) => topic.startsWith(prefix) && this.has(topic));
  }

  /** A new connection: the broker may have nothing. */
  offerAll(): void {
    for (const topic of this.#messages.keys()) this.#offer(topic);
  }

  /** Sends one topic again. */
  offer(topic: string): void {
    if (this.#messages.has(topic)) this.#offer(topic);
  }

  /** The next message the broker does not have, taken off the list; null of none. */
  take(): KeptMessage | null {
    for (const topic of this.#pending) {
      this.#pending.delete(topic);
      const message = this.#messages.get(topic);
      if (message !== undefined) return message;
    }
    return null;
  }

  /** The broker has it. What was cleared is forgotten, unless it changed meanwhile. */
  acknowledge(message: KeptMessage): void {
    if (message.payload.length > 0 || this.#messages.get(message.topic) !== message) return;
    this.#messages.delete(message.topic);
    this.#outbox.putNote("kept", message.topic, null);
  }

  #offer(topic: string): void {
    this.#pending.delete(topic);
    this.#pending.add(topic);
    this.#bell.ring();
  }
}
