// SPDX-License-Identifier: Apache-2.0
/**
 * A reader at the broker that is none of ours: it keeps every message it gets and waits for what a test expects. Gets topic
 * filters; gives messages. It has a session, so that a broker which restarts with persistence owes it what came meanwhile.
 */
import mqtt, { type MqttClient } from "mqtt";
import { deadline } from "#clock.ts";
import { decodeCbor } from "#telemetry/cbor.ts";

const waitMs = 20_000;
const subscribesMax = 5;

export type Seen = {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly retain: boolean;
  readonly properties: Readonly<Record<string, unknown>>;
};

export class Observer implements AsyncDisposable {
  readonly seen: Seen[] = [];
  /** All messages so far; with a `take` of the caller's they are counted and not kept. */
  count = 0;
  readonly #client: MqttClient;
  readonly #waiters = new Set<() => void>();

  /** With `take`, messages go there and are not kept. */
  static async open(
    url: string,
    filters: readonly string[],
    options: mqtt.IClientOptions = {},
    take?: (topic: string, payload: Uint8Array) => void,
  ): Promise<Observer> {
    const client = mqtt.connect(url, {
      protocolVersion: 5,
      clientId: `observer-${Bun.randomUUIDv7().slice(-8)}`,
      clean: false,
      properties: { sessionExpiryInterval: 3600 },
      reconnectPeriod: 50,
      connectTimeout: 5_000,
      ...options,
    });
    const observer = new Observer(client, filters, take);
    await observer.#subscribe();
    return observer;
  }

  private constructor(
    client: MqttClient,
    private readonly filters: readonly string[],
    take?: (topic: string, payload: Uint8Array) => void,
  ) {
    this.#client = client;
    client.on("error", () => {});
    client.on("message", (topic, payload, { retain, properties = {} }) => {
      this.count += 1;
      if (take !== undefined) {
        take(topic, payload);
        return;
      }
      this.seen.push({ topic, payload, retain, properties: properties as Record<string, unknown> });
      for (const wake of this.#waiters) wake();
    });
  }

  /** The first message that fits, seen already or to come. @throws RangeError where none comes in time */
  async until<Value>(what: string, find: (seen: readonly Seen[]) => Value | undefined | null | false): Promise<Value> {
    using patience = deadline(waitMs, () => new RangeError(`never seen: ${what}, but ${this.#summary()}`));
    for (;;) {
      const found = find(this.seen);
      if (found !== undefined && found !== null && found !== false) return found;
      await new Promise<void>((resolve, reject) => {
        const wake = (): void => {
          this.#waiters.delete(wake);
          resolve();
        };
        this.#waiters.add(wake);
        patience.signal.addEventListener("abort", () => reject(patience.signal.reason), { once: true });
      });
    }
  }

  /** Decoded CBOR of all messages below `prefix`. */
  decoded(prefix: string): Record<string, unknown>[] {
    return this.seen
      .filter(({ topic, payload }) => topic.startsWith(prefix) && payload.length > 0)
      .map(({ payload }) => decodeCbor(payload, 1 << 20) as Record<string, unknown>);
  }

  publish(topic: string, payload: Uint8Array | string, options: mqtt.IClientPublishOptions = {}): Promise<unknown> {
    return this.#client.publishAsync(topic, Buffer.from(payload as Uint8Array), { qos: 1, ...options });
  }

  /** After a broker lost its sessions. */
  async subscribeAgain(): Promise<void> {
    if (!this.#client.connected) await new Promise((resolve) => this.#client.once("connect", resolve));
    await this.#subscribe();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.endAsync(true);
  }

  /** On a machine with too much to do a connection may end before it was of use; the client makes the next one itself. */
  async #subscribe(): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await this.#client.subscribeAsync([...this.filters], { qos: 1, rap: true });
        return;
      } catch (error) {
        if (attempt === subscribesMax) throw error;
      }
    }
  }

  #summary(): string {
    const counts = Map.groupBy(this.seen, ({ topic }) => topic);
    return [...counts].map(([topic, messages]) => `${topic} ${messages.length}`).join(", ") || "nothing";
  }
}
