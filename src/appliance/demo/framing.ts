// SPDX-License-Identifier: Apache-2.0
/**
 * Where one answer ends in a stream of bytes: RESP2 and RESP3 (redis), and the memcached text protocol.
 *
 * Gets bytes and a range; gives the index after the first whole answer, or says that more must come or that the bytes are
 * no answer at all. Nothing is decoded: the load compares whole answers byte for byte. An answer ends within
 * `answerBytesMax` and nests at most `depthMax` deep. Sources: redis.io protocol specification, memcached doc/protocol.txt.
 */

export type AnswerEnd = number | "more" | "garbled";
/** Total: never throws, never reads outside `from..to`. */
export type Framing = (bytes: Uint8Array, from: number, to: number) => AnswerEnd;

export const answerBytesMax = 16 * 1024 * 1024;
const depthMax = 8;
const lineBytesMax = 64 * 1024;
const elementCountMax = 1_000_000;

const carriageReturn = 13;
const lineFeed = 10;

/** One RESP value. A push message (`>`) counts as an answer of its own. */
export const frameResp: Framing = (bytes, from, to) => respEnd(bytes, from, to, 0);

/** A line, or `VALUE` blocks up to and including `END`. */
export const frameMemcached: Framing = (bytes, from, to) => {
  for (let at = from; ; ) {
    const lineEnd = endOfLine(bytes, at, to);
    if (typeof lineEnd !== "number") return lineEnd;
    const line = latin1(bytes, at, lineEnd - 2);
    if (!line.startsWith("VALUE ")) return lineEnd;
    const lengthBytes = Number(line.split(" ")[3] ?? "x");
    if (!Number.isInteger(lengthBytes) || lengthBytes < 0 || lengthBytes > answerBytesMax) return "garbled";
    const blockEnd = endOfBlock(bytes, lineEnd, lengthBytes, to);
    if (typeof blockEnd !== "number") return blockEnd;
    at = blockEnd;
  }
};

function respEnd(bytes: Uint8Array, from: number, to: number, depth: number): AnswerEnd {
  const lineEnd = endOfLine(bytes, from, to);
  if (typeof lineEnd !== "number") return lineEnd;
  const kind = String.fromCharCode(bytes[from] ?? 0);
  if ("+-:,#(_".includes(kind)) return lineEnd;
  const count = Number(latin1(bytes, from + 1, lineEnd - 2));
  if (!Number.isInteger(count) || count < -1) return "garbled";
  if (count === -1) return lineEnd;
  if ("$=!".includes(kind)) {
    return count > answerBytesMax ? "garbled" : endOfBlock(bytes, lineEnd, count, to);
  }
  if (!"*~>%|".includes(kind) || depth >= depthMax || count > elementCountMax) return "garbled";
  let at = lineEnd;
  // An attribute (`|`) is followed by the value it belongs to, so it is one element longer than a map.
  const elements = kind === "%" ? 2 * count : kind === "|" ? 2 * count + 1 : count;
  for (let index = 0; index < elements; index += 1) {
    const end = respEnd(bytes, at, to, depth + 1);
    if (typeof end !== "number") return end;
    at = end;
  }
  return at;
}

function endOfLine(bytes: Uint8Array, from: number, to: number): AnswerEnd {
  const at = bytes.indexOf(lineFeed, from);
  if (at < 0 || at >= to) return to - from > lineBytesMax ? "garbled" : "more";
  return at > from && bytes[at - 1] === carriageReturn ? at + 1 : "garbled";
}

function endOfBlock(bytes: Uint8Array, from: number, lengthBytes: number, to: number): AnswerEnd {
  const end = from + lengthBytes + 2;
  if (end > to) return "more";
  return bytes[end - 2] === carriageReturn && bytes[end - 1] === lineFeed ? end : "garbled";
}

const latin1 = (bytes: Uint8Array, from: number, to: number): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset + from, Math.max(0, to - from)).toString("latin1");
