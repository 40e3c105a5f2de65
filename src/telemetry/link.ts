// SPDX-License-Identifier: Apache-2.0
/**
 * One MQTT connection, from CONNECT to its end. Gets settings, a will and a receiver; gives publish, subscribe and `ended`.
 * A link is never reused: whoever wants another connection makes another link, so nothing of a wedged client lives on.
 *
 * A received message is acknowledged when the receiver has resolved. Every await has a deadline, and a publish without its
 * PUBACK in time ends the link. Limits: 128 KiB a packet, checked before it is collected; bytes waiting to be written.
 * MQTT.js 5.16.0: `reschedulePings` would let our own live metrics put off the ping that finds a frozen broker.
 */
import type { Socket } from "node:net";
import mqtt, { type IClientOptions, type IPublishPacket, type MqttClient } from "mqtt";
import { type Clock, deadline } from "#clock.ts";
import { TelemetryError } from "#errors.ts";
import { FrameGuard } from "./frameGuard.ts";
import { type BrokerSettings, brokerAddress, packetBytesMax, receiveMaximum } from "./settings.ts";

/** Unwritten bytes beyond which live metrics are not sent any more. */
const unwrittenBytesMax = 256 * 1024;
/** An orderly end waits this long for the broker. */
const closeMs = 2_000;

export type WireMessage = {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: 0 | 1;
  readonly retain: boolean;
  readonly schema?: string;
  readonly contentType?: string;
  readonly correlation?: Uint8Array;
  readonly responseTopic?: string;
  readonly expirySeconds?: number;
};
export type ReceivedMessage = {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly retain: boolean;
  readonly responseTopic: string | null;
  readonly correlation: Uint8Array | null;
};
/** Resolves when the message may be acknowledged. */
export type Receiver = (message: ReceivedMessage) => Promise<void>;

export type LinkOptions = {
  readonly broker: BrokerSettings;
  readonly protocol: 5 | 4;
  readonly clientId: string;
  readonly will: { readonly topic: string; readonly payload: string } | null;
  /** False for a reader that wants nothing kept for it. */
  readonly session: boolean;
  readonly receive: Receiver;
  readonly clock: Clock;
  readonly signal: AbortSignal;
};

export type Ended = { readonly code: number; readonly why: string };

/** Something the broker has not answered yet. */
type Question = { readonly tried: string; readonly atNs: number; readonly reject: (error: Error) => void };
type Properties = {
  readonly receiveMaximum?: number;
  readonly maximumPacketSize?: number;
  readonly topicAliasMaximum?: number;
};

export class Link implements AsyncDisposable {
  readonly #client: MqttClient;
  readonly #options: LinkOptions;
  readonly #ended = Promise.withResolvers<Ended>();
  readonly #pending = new Set<Question>();
  #over: Ended | null = null;
  #lastError: Ended | null = null;
  receiveMaximum = receiveMaximum;
  packetBytesMax = packetBytesMax;
  /** True where the broker still had our session. */
  sessionPresent = false;

  /** @throws TelemetryError telemetry.settings, telemetry.refused (context.code is the broker's reason), telemetry.connect */
  static async open(options: LinkOptions): Promise<Link> {
    options.signal.throwIfAborted();
    const link = new Link(options, dial(options));
    try {
      await link.#connected();
      return link;
    } catch (error) {
      await link.#close();
      throw error;
    }
  }

  private constructor(options: LinkOptions, client: MqttClient) {
    this.#options = options;
    this.#client = client;
    // Small packets one after the other would wait for each other's acknowledgement (40 ms each, measured on loopback).
    if ("setNoDelay" in client.stream) (client.stream as Socket).setNoDelay(true);
    const guard = new FrameGuard(packetBytesMax);
    client.stream.prependListener("data", (chunk: Uint8Array) => {
      if (!guard.accepts(chunk)) this.#end({ code: 149, why: "the broker sent a packet above our limit" });
    });
    client.handleMessage = (packet, done) => this.#receive(packet, done);
    client.on("error", (error) => {
      this.#lastError = { code: reasonOf(error), why: error.message };
    });
    client.on("disconnect", (packet) => {
      this.#lastError = { code: packet.reasonCode ?? 0, why: "the broker ended the connection" };
    });
    client.on("close", () => this.#end(this.#lastError ?? { code: 0, why: "the connection was closed" }));
    void this.#watch();
  }

  /** Resolves once the connection is over, however that came. */
  get ended(): Promise<Ended> {
    return this.#ended.promise;
  }

  /** True while what we write still reaches the network. */
  get flowing(): boolean {
    return this.#over === null && this.#client.stream.writableLength < unwrittenBytesMax;
  }

  /** Resolves at PUBACK (QoS 1) or once written (QoS 0). @throws TelemetryError telemetry.refused, .closed, .timeout, .size */
  async publish(message: WireMessage): Promise<void> {
    const bytes = message.payload.length + message.topic.length + 64;
    if (bytes > this.packetBytesMax) {
      throw new TelemetryError("telemetry.size", `${message.topic} is larger than the broker takes`, { bytes });
    }
    const { topic, payload, qos, retain } = message;
    const properties = this.#options.protocol === 5 ? publishProperties(message) : undefined;
    await this.#answered((done) => {
      const options = { qos, retain, ...(properties === undefined ? {} : { properties }) };
      this.#client.publish(topic, Buffer.from(payload.buffer, payload.byteOffset, payload.length), options, done);
    }, `publish ${topic}`);
  }

  /** Resolves at SUBACK. QoS 0 is for a mere onlooker: the broker queues nothing for it. @throws TelemetryError telemetry.refused where the broker refuses one of them */
  async subscribe(filters: readonly string[], qos: 0 | 1 = 1): Promise<void> {
    if (filters.length === 0) return;
    await this.#answered((done) => {
      // Retain as published: a command with the retain flag must be seen to have it.
      this.#client.subscribe([...filters], { qos, rap: true }, (error, granted) => {
        const refused = granted?.find((grant) => grant.qos >= 128);
        done(error ?? (refused === undefined ? undefined : refusal(refused.qos, `subscribe ${refused.topic}`)));
      });
    }, `subscribe ${filters.length} topics`);
  }

  /** Says goodbye: without this the broker says our will. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }

  async #connected(): Promise<void> {
    const { broker, signal } = this.#options;
    const late = (): Error =>
      new TelemetryError("telemetry.timeout", "no CONNACK in time", { connectMs: broker.connectMs });
    using patience = deadline(broker.connectMs, late, signal);
    const connack = await new Promise<{ sessionPresent: boolean; properties?: Properties }>((resolve, reject) => {
      patience.signal.addEventListener("abort", () => reject(patience.signal.reason), { once: true });
      this.#client.once("connect", resolve);
      void this.#ended.promise.then(({ code, why }) =>
        reject(
          code > 0
            ? refusal(code, `connect: ${why}`)
            : new TelemetryError("telemetry.connect", `cannot connect: ${why}`, { broker: brokerAddress(broker).host }),
        ),
      );
    });
    this.sessionPresent = connack.sessionPresent;
    this.receiveMaximum = Math.min(receiveMaximum, connack.properties?.receiveMaximum ?? receiveMaximum);
    this.packetBytesMax = Math.min(packetBytesMax, connack.properties?.maximumPacketSize ?? packetBytesMax);
  }

  async #answered(ask: (done: (error?: Error | null) => void) => void, tried: string): Promise<void> {
    if (this.#over !== null) throw closed(this.#over, tried);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const question: Question = { tried, atNs: this.#options.clock.monotonicNs(), reject };
    this.#pending.add(question);
    try {
      ask((error) => (error ? reject(asTyped(error, tried)) : resolve()));
      await promise;
    } finally {
      this.#pending.delete(question);
    }
  }

  /** Ends the link once a question is open for too long. One timer for all of them: a timer each would be most of the cost. */
  async #watch(): Promise<void> {
    const { broker, clock } = this.#options;
    const stop = new AbortController();
    void this.#ended.promise.then(() => stop.abort());
    while (this.#over === null) {
      await clock.sleep(broker.ackMs / 4, stop.signal).catch(() => {});
      const oldest = this.#pending.values().next().value;
      if (oldest === undefined || clock.monotonicNs() - oldest.atNs < broker.ackMs * 1e6) continue;
      const why = `no answer in ${broker.ackMs} ms: ${oldest.tried}`;
      oldest.reject(new TelemetryError("telemetry.timeout", why));
      this.#end({ code: 0, why });
    }
  }

  #receive(packet: IPublishPacket, done: (error?: Error) => void): void {
    const correlation = packet.properties?.correlationData;
    const message: ReceivedMessage = {
      topic: packet.topic,
      payload: typeof packet.payload === "string" ? new TextEncoder().encode(packet.payload) : packet.payload,
      retain: packet.retain,
      responseTopic: packet.properties?.responseTopic ?? null,
      correlation: correlation instanceof Uint8Array ? correlation : null,
    };
    // A message that could not be taken is not acknowledged: the broker sends it again on the next connection.
    this.#options.receive(message).then(
      () => done(),
      (error: Error) => this.#end({ code: 0, why: `a message could not be taken: ${error.message}` }),
    );
  }

  #end(end: Ended): void {
    if (this.#over !== null) return;
    this.#over = end;
    for (const { tried, reject } of this.#pending) reject(closed(end, tried));
    this.#pending.clear();
    this.#client.end(true);
    this.#client.stream.destroy();
    this.#ended.resolve(end);
  }

  async #close(): Promise<void> {
    if (this.#over === null && this.#client.connected) {
      using patience = deadline(
        closeMs,
        () => new TelemetryError("telemetry.timeout", "the broker did not let us go in time"),
      );
      await new Promise<void>((resolve) => {
        patience.signal.addEventListener("abort", () => resolve(), { once: true });
        this.#client.end(false, () => resolve());
      });
    }
    this.#end({ code: 0, why: "we ended the connection" });
  }
}

/** A key or certificate that cannot be used makes the runtime throw at once. */
function dial(options: LinkOptions): MqttClient {
  try {
    return mqtt.connect(clientOptions(options));
  } catch (cause) {
    if (cause instanceof TelemetryError) throw cause;
    throw new TelemetryError("telemetry.connect", "cannot connect with these certificates", {}, cause);
  }
}

function clientOptions(options: LinkOptions): IClientOptions {
  const { broker, protocol, clientId, will, session } = options;
  const url = brokerAddress(broker);
  const contentType = "application/json";
  return {
    protocol: url.protocol.slice(0, -1) as "mqtt",
    hostname: url.hostname.replace(/^\[|\]$/g, ""),
    ...(url.port === "" ? {} : { port: Number(url.port) }),
    ...(url.protocol.startsWith("ws") ? { path: `${url.pathname}${url.search}` } : {}),
    clientId,
    protocolVersion: protocol,
    clean: !session,
    keepalive: Math.max(1, Math.round(broker.keepAliveMs / 1000)),
    connectTimeout: broker.connectMs,
    reconnectPeriod: 0,
    reschedulePings: false,
    resubscribe: false,
    queueQoSZero: false,
    ...(broker.username === undefined ? {} : { username: broker.username }),
    ...(broker.password === undefined ? {} : { password: broker.password }),
    ...(broker.authority === undefined ? {} : { ca: broker.authority }),
    ...(broker.certificate === undefined ? {} : { cert: broker.certificate }),
    ...(broker.privateKey === undefined ? {} : { key: broker.privateKey }),
    rejectUnauthorized: true,
    minVersion: "TLSv1.2",
    ...(protocol === 5
      ? {
          properties: {
            sessionExpiryInterval: session ? broker.sessionExpirySeconds : 0,
            receiveMaximum,
            maximumPacketSize: packetBytesMax,
          },
          autoUseTopicAlias: true,
          autoAssignTopicAlias: true,
        }
      : {}),
    ...(will === null
      ? {}
      : {
          will: {
            topic: will.topic,
            payload: Buffer.from(will.payload),
            qos: 1 as const,
            retain: true,
            ...(protocol === 5 ? { properties: { willDelayInterval: broker.willDelaySeconds, contentType } } : {}),
          },
        }),
  } as IClientOptions;
}

function publishProperties(message: WireMessage): NonNullable<IPublishPacket["properties"]> {
  const { schema, contentType, correlation, responseTopic, expirySeconds } = message;
  return {
    ...(contentType === undefined ? {} : { contentType }),
    ...(schema === undefined ? {} : { userProperties: { schema } }),
    ...(correlation === undefined ? {} : { correlationData: Buffer.from(correlation) }),
    ...(responseTopic === undefined ? {} : { responseTopic }),
    ...(expirySeconds === undefined ? {} : { messageExpiryInterval: expirySeconds }),
  };
}

/** The broker's reason code, 0 where the error is none of the broker's. */
const reasonOf = (error: Error): number => ("code" in error && typeof error.code === "number" ? error.code : 0);

const refusal = (code: number, tried: string): TelemetryError =>
  new TelemetryError("telemetry.refused", `the broker refuses: ${tried}`, { code });

const closed = (end: Ended, tried: string): TelemetryError =>
  new TelemetryError("telemetry.closed", `the connection is over: ${tried}`, { why: end.why, code: end.code });

function asTyped(error: Error, tried: string): Error {
  if (error instanceof TelemetryError) return error;
  const code = reasonOf(error);
  if (code > 0) return refusal(code, tried);
  return new TelemetryError("telemetry.closed", `the connection is over: ${tried}`, { why: error.message });
}
