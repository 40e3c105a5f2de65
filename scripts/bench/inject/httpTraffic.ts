// SPDX-License-Identifier: Apache-2.0
/**
 * Checked HTTP traffic of one client: files of a server, by keep-alive connection, and the framing of its answers.
 *
 * A file's content says which it is and carries its checksum. An answer is compared without the header lines that may
 * differ from one to the next. Source: RFC 9112, the part that nginx uses for static files.
 */
import type { AnswerEnd, Framing } from "#appliance/demo/framing.ts";
import { bytesOf, pick, type Traffic, type TrafficMaker, textOf } from "#appliance/demo/traffic.ts";
import { seededRandom } from "#clock.ts";

const answerBytesMax = 1024 * 1024;
const headBytesMax = 16 * 1024;
const fileNumbers = Array.from({ length: 24 }, (_, number) => number);
const fileBytesMax = 24_000;

/** Name and content of every file that the clients ask for. */
export function webFiles(): Record<string, string> {
  return Object.fromEntries(fileNumbers.map((number) => [`file${number}`, contentOf(number)]));
}

function contentOf(number: number): string {
  const random = seededRandom(number + 1);
  const body = `${number}:${"0123456789abcdef".repeat(Math.ceil((random() * fileBytesMax) / 16))}`;
  return `${body}:${Bun.hash.crc32(body).toString(16).padStart(8, "0")}`;
}

/** One response: a head that names its length, then so many bytes; nothing after a head that says 304 or 204. */
export const frameHttp: Framing = (bytes, from, to): AnswerEnd => {
  const head = textOf(bytes.subarray(from, Math.min(to, from + headBytesMax)));
  const headEnd = head.indexOf("\r\n\r\n");
  if (!head.startsWith("HTTP/1.1 ".slice(0, head.length))) return "garbled";
  if (headEnd < 0) return head.length >= headBytesMax ? "garbled" : "more";
  const status = Number(head.slice(9, 12));
  const length = /\r\ncontent-length: *(\d+)\r\n/i.exec(head.slice(0, headEnd + 2))?.[1];
  if (length === undefined) return status === 304 || status === 204 ? from + headEnd + 4 : "garbled";
  const end = from + headEnd + 4 + Number(length);
  if (Number(length) > answerBytesMax) return "garbled";
  return end > to ? "more" : end;
};

/** What must be equal: status, type, length and the body. */
export function essenceOfHttp(answer: Uint8Array): string {
  const text = textOf(answer);
  const headEnd = text.indexOf("\r\n\r\n");
  const lines = text.slice(0, headEnd).split("\r\n");
  const kept = lines.flatMap((line, index) => {
    const field = /^(content-type|content-length): *(.*)$/i.exec(line);
    if (field !== null) return [`${field[1]!.toLowerCase()}: ${field[2]}`];
    return index === 0 ? [line] : [];
  });
  return `${kept.sort().join("\n")}\n${text.slice(headEnd + 4)}`;
}

/** The server says itself that it could not do what was asked: 5xx, or that it did not understand: 400. */
export const refusedHttp = (answer: Uint8Array): boolean => /^(5..|400)$/.test(textOf(answer.subarray(9, 12)));

export const httpTraffic: TrafficMaker = (_client, random): Traffic => ({
  next() {
    const number = pick(fileNumbers, random);
    const content = contentOf(number);
    const head = `HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ${content.length}\r\n\r\n`;
    return {
      request: bytesOf(`GET /file${number} HTTP/1.1\r\nHost: localhost\r\n\r\n`),
      expected: bytesOf(head + content),
    };
  },
});
