// SPDX-License-Identifier: Apache-2.0
/**
 * One payload in the encodings that the settings ask for. Gets a topic and a value; gives wire forms, the mirror under
 * `P/json/…`. Pure.
 */

import { type ClockMark, stamp } from "./bootTime.ts";
import { type CborMap, decodeCbor, encodeCbor, isMap } from "./cbor.ts";
import { restamped } from "./events.ts";
import { mirrorJson } from "./mirror.ts";
import type { OutMessage } from "./outbox.ts";
import { payloadBytesMax } from "./payloads.ts";
import type { TelemetrySettings } from "./settings.ts";
import type { BoxTopics } from "./topics.ts";

export type Encoding = TelemetrySettings["encoding"];
export type Form = { readonly topic: string; readonly payload: Uint8Array; readonly json: boolean };

export const contentTypes = {
  cbor: "application/cbor",
  json: "application/json",
  senml: "application/senml+cbor",
} as const;

/** Name and version of a payload, told to v5 readers. */
export const schemaOf = (name: string): string => `${name}/1.0`;

export function formsOf(topics: BoxTopics, topic: string, value: CborMap, encoding: Encoding): Form[] {
  const forms: Form[] = [];
  if (encoding !== "json") forms.push({ topic, payload: encodeCbor(value), json: false });
  if (encoding !== "cbor") {
    forms.push({ topic: topics.mirror(topic), payload: new TextEncoder().encode(mirrorJson(value)), json: true });
  }
  return forms;
}

/** The content type of a queued message, by its first byte: a JSON text begins with a brace or a bracket, ours in CBOR never. */
export function contentTypeOf(message: Pick<OutMessage, "schema" | "payload">): string {
  const first = message.payload[0];
  if (first === 0x7b || first === 0x5b) return contentTypes.json;
  return message.schema.startsWith("senml/") ? contentTypes.senml : contentTypes.cbor;
}

/** The message with the times that became known since it was queued; the message itself where nothing did. */
export function restampMessage<Message extends OutMessage>(message: Message, marks: readonly ClockMark[]): Message {
  if (message.quality !== "guess") return message;
  const { atMs, quality } = stamp(message.atMs, message.n, message.boot, marks);
  if (quality === "guess") return message;
  const payload = restampPayload(message, atMs - message.atMs, marks);
  return payload === null ? message : { ...message, payload, atMs, quality };
}

function restampPayload(message: OutMessage, jumpMs: number, marks: readonly ClockMark[]): Uint8Array | null {
  if (contentTypeOf(message) === contentTypes.json) return restampJson(message, jumpMs);
  const value = decodeCbor(message.payload, payloadBytesMax);
  if (isMap(value)) return encodeCbor(restamped(value, message.n, marks));
  const first = Array.isArray(value) ? value[0] : undefined;
  if (!(first instanceof Map)) return null;
  first.set(-3, Number(first.get(-3)) + jumpMs / 1000);
  return encodeCbor(value);
}

function restampJson(message: OutMessage, jumpMs: number): Uint8Array {
  const value = JSON.parse(new TextDecoder().decode(message.payload));
  if (Array.isArray(value)) value[0].bt += jumpMs / 1000;
  else Object.assign(value, { t: value.t + jumpMs, q: "fixed" });
  return new TextEncoder().encode(JSON.stringify(value));
}
