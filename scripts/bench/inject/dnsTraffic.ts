// SPDX-License-Identifier: Apache-2.0
/**
 * Checked DNS traffic of one client over TCP: addresses of a small zone, one question at a time, and the framing of answers.
 *
 * An answer is compared by its id, its code and the addresses in it: sections and flags differ from server to server.
 * Source: RFC 1035, section 4; RFC 7766 for TCP.
 */
import type { AnswerEnd, Framing } from "#appliance/demo/framing.ts";
import { pick, type Traffic, type TrafficMaker } from "#appliance/demo/traffic.ts";

export const zone = "lab";
export const hostNumbers = Array.from({ length: 200 }, (_, number) => number);
const lengthBytes = 2;
const headerBytes = 12;
const codeMask = 0x0f;
const addressType = 1;
const internet = 1;
/** Each record of an answer: pointer to the name, type, class, time to live, length. */
const recordHeadBytes = 12;

const addressOf = (host: number): readonly number[] => [10, 20, host >> 4, (host & 15) + 1];
export const addressText = (host: number): string => addressOf(host).join(".");

/** A question for one host's address, with its length in front. */
export function question(id: number, host: number): Uint8Array {
  const name = [...label(`h${host}`), ...label(zone), 0];
  return framed([...words(id, 0x0100, 1, 0, 0, 0), ...name, ...words(addressType, internet)]);
}

/** The one right answer: the question again, and its address. */
function answerTo(asked: Uint8Array, host: number): Uint8Array {
  const bytes = [...asked.subarray(lengthBytes)];
  // An answer, with authority; one record.
  bytes[2] = 0x85;
  bytes[7] = 1;
  return framed([...bytes, ...words(0xc00c, addressType, internet, 0, 3600, 4), ...addressOf(host)]);
}

const label = (text: string): readonly number[] => [text.length, ...Buffer.from(text, "latin1")];
const words = (...values: readonly number[]): readonly number[] => values.flatMap((value) => [value >> 8, value & 255]);
const framed = (message: readonly number[]): Uint8Array => new Uint8Array([...words(message.length), ...message]);
const wordAt = (bytes: Uint8Array, at: number): number => ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);

/** A length and so many bytes, of which the header says that it is an answer. */
export const frameDns: Framing = (bytes, from, to): AnswerEnd => {
  if (to - from < lengthBytes + headerBytes) return "more";
  const isAnswer = ((bytes[from + lengthBytes + 2] ?? 0) & 0x80) !== 0;
  const length = wordAt(bytes, from);
  if (!isAnswer || length < headerBytes) return "garbled";
  const end = from + lengthBytes + length;
  return end > to ? "more" : end;
};

/** Its id, its code, the name that was asked for, and what comes after each pointer to that name. */
export function essenceOfDns(answer: Uint8Array): string {
  const message = answer.subarray(lengthBytes);
  const nameEnd = message.indexOf(0, headerBytes) + 1;
  const facts = [wordAt(message, 0), (message[3] ?? 0) & codeMask, wordAt(message, 6)];
  let at = nameEnd + 4;
  const records: string[] = [];
  for (let left = facts[2]!; left > 0 && at + recordHeadBytes <= message.length; left -= 1) {
    const end = at + recordHeadBytes + wordAt(message, at + recordHeadBytes - 2);
    records.push(Buffer.from(message.subarray(at + recordHeadBytes, end)).toHex());
    at = end;
  }
  return `${facts.join(" ")} ${Buffer.from(message.subarray(headerBytes, nameEnd)).toString("latin1")} ${records.join(" ")}`;
}

/** The server says itself that it could not: any code but 0 and 3, which says that there is no such name. */
export const refusedByDns = (answer: Uint8Array): boolean =>
  ![0, 3].includes((answer[lengthBytes + 3] ?? 0) & codeMask);

export const dnsTraffic: TrafficMaker = (_client, random): Traffic => {
  let id = Math.floor(random() * 0xffff);
  return {
    next() {
      id = (id + 1) & 0xffff;
      const host = pick(hostNumbers, random);
      const request = question(id, host);
      return { request, expected: answerTo(request, host) };
    },
  };
};
