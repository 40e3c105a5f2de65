// SPDX-License-Identifier: Apache-2.0
/**
 * Checked MQTT traffic of one client: it subscribes to a topic of its own and publishes to it, QoS 1 both ways.
 *
 * An answer is everything the broker owes for one request: CONNACK, SUBACK, or the message itself followed by PUBACK. Each
 * message is acknowledged with the next request. The broker numbers its messages for a client from 1 on (mosquitto 2.0).
 * Source: MQTT 3.1.1, sections 2.2.3 and 3.
 */
import type { AnswerEnd, Framing } from "#appliance/demo/framing.ts";
import { bytesOf, checkedValue, type Exchange, type Traffic, type TrafficMaker } from "#appliance/demo/traffic.ts";
import type { Random } from "#clock.ts";

const [connect, connectAck, publish, publishAck, subscribe, subscribeAck] = [0x10, 0x20, 0x32, 0x40, 0x82, 0x90];
const publishType = 3;
const lengthBytesMax = 4;
const packetNumberMax = 65_535;

/** One answer: a message with the acknowledgement of its publication, or any other packet. */
export const frameMqtt: Framing = (bytes, from, to): AnswerEnd => {
  const first = packetEnd(bytes, from, to);
  if (typeof first !== "number" || bytes[from]! >> 4 !== publishType) return first;
  return packetEnd(bytes, first, to);
};

function packetEnd(bytes: Uint8Array, from: number, to: number): AnswerEnd {
  if (from >= to) return "more";
  const kind = bytes[from]! >> 4;
  if (kind === 0 || kind === 15) return "garbled";
  let length = 0;
  for (let index = 0; index < lengthBytesMax; index += 1) {
    const byte = bytes[from + 1 + index];
    if (byte === undefined || from + 1 + index >= to) return "more";
    length |= (byte & 0x7f) << (7 * index);
    if ((byte & 0x80) !== 0) continue;
    const end = from + 2 + index + length;
    return end > to ? "more" : end;
  }
  return "garbled";
}

export const mqttTraffic: TrafficMaker = (client, random, prefix) => new MqttTraffic(client, random, prefix);

class MqttTraffic implements Traffic {
  #asked = 0;
  #sequence = 0;
  readonly #topic: string;

  constructor(
    private readonly client: number,
    private readonly random: Random,
    private readonly prefix: string,
  ) {
    this.#topic = `${prefix}/${client}`;
  }

  next(): Exchange {
    this.#asked += 1;
    if (this.#asked === 1) {
      const body = [...text("MQTT"), 4, 2, 0, 0, ...text(`${this.prefix}-${this.client}`)];
      return { request: packet(connect, body), expected: packet(connectAck, [0, 0]) };
    }
    if (this.#asked === 2) {
      const body = [...word(1), ...text(this.#topic), 1];
      return { request: packet(subscribe, body), expected: packet(subscribeAck, [...word(1), 1]) };
    }
    return this.#message();
  }

  #message(): Exchange {
    const before = this.#sequence;
    this.#sequence += 1;
    const number = numberOf(this.#sequence);
    const value = bytesOf(checkedValue(this.client, this.#sequence, this.random));
    const message = packet(publish, [...text(this.#topic), ...word(number), ...value]);
    const thanks = before === 0 ? [] : packet(publishAck, word(numberOf(before)));
    return {
      request: Uint8Array.from([...thanks, ...message]),
      expected: Uint8Array.from([...message, ...packet(publishAck, word(number))]),
    };
  }
}

const numberOf = (sequence: number): number => ((sequence - 1) % packetNumberMax) + 1;
const word = (value: number): number[] => [value >> 8, value & 0xff];
const text = (value: string): number[] => [...word(value.length), ...bytesOf(value)];

function packet(kind: number, body: readonly number[]): Uint8Array {
  const length: number[] = [];
  for (let left = body.length; ; left >>= 7) {
    length.push(left > 0x7f ? (left & 0x7f) | 0x80 : left);
    if (left <= 0x7f) break;
  }
  return Uint8Array.from([kind, ...length, ...body]);
}
