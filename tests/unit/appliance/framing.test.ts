// SPDX-License-Identifier: Apache-2.0
/**
 * Where an answer ends: known answers whole, cut at every byte, joined, and any bytes at all.
 */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type Framing, frameMemcached, frameResp } from "#appliance/demo/framing.ts";
import { bytesOf } from "#appliance/demo/traffic.ts";

const resp = [
  "+OK\r\n",
  "-ERR no\r\n",
  ":-12\r\n",
  "$-1\r\n",
  "$0\r\n\r\n",
  "$4\r\na\r\nb\r\n",
  "*0\r\n",
  "*-1\r\n",
  "*3\r\n$1\r\na\r\n$-1\r\n*1\r\n:1\r\n",
  "%1\r\n+a\r\n:1\r\n",
  "~2\r\n:1\r\n:2\r\n",
  ">3\r\n$9\r\nsubscribe\r\n$2\r\nch\r\n:1\r\n",
  "|1\r\n+ttl\r\n:3\r\n+OK\r\n",
  "=7\r\ntxt:abc\r\n",
  "_\r\n",
  "#t\r\n",
  ",1.5\r\n",
];
const memcached = [
  "STORED\r\n",
  "END\r\n",
  "17\r\n",
  "VALUE k 0 3\r\nabc\r\nEND\r\n",
  "VALUE k 0 5\r\nEND\r\n\r\nVALUE j 7 0 12\r\n\r\nEND\r\n",
  "CLIENT_ERROR unauthenticated\r\n",
];
const garbled: readonly [Framing, string][] = [
  [frameResp, "hello\r\n"],
  [frameResp, "+OK\n"],
  [frameResp, "$x\r\n"],
  [frameResp, "$-2\r\n"],
  [frameResp, "$3\r\nabcd\r\n"],
  [frameResp, "$99999999999\r\n"],
  [frameResp, "*1\r\n".repeat(20)],
  [frameMemcached, "VALUE k 0 -1\r\n"],
  [frameMemcached, "VALUE k 0 2\r\nabc\r\nEND\r\n"],
];

describe.each([
  ["RESP", frameResp, resp],
  ["memcached", frameMemcached, memcached],
] as const)("%s", (_, framing, known) => {
  test.each(known.map((text) => [text]))("%j ends at its end, and not before", (text) => {
    const bytes = bytesOf(text);
    expect(framing(bytes, 0, bytes.length)).toBe(bytes.length);
    for (let to = 0; to < bytes.length; to += 1) expect(framing(bytes, 0, to)).toBe("more");
  });

  test("answers in a row are told apart, wherever they begin", () => {
    const bytes = bytesOf(known.join(""));
    let at = 0;
    for (const text of known) {
      expect(framing(bytes, at, bytes.length)).toBe(at + text.length);
      at += text.length;
    }
  });

  test("any bytes give an end within them, or a word", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const end = framing(bytes, 0, bytes.length);
        if (typeof end === "number") expect(end > 0 && end <= bytes.length).toBe(true);
        else expect(["more", "garbled"]).toContain(end);
      }),
    );
  });
});

test.each(garbled.map(([framing, text]) => [text, framing] as const))("%j is garbled", (text, framing) => {
  const bytes = bytesOf(text);
  expect(framing(bytes, 0, bytes.length)).toBe("garbled");
});
