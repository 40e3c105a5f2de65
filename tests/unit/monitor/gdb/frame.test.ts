// SPDX-License-Identifier: Apache-2.0
/**
 * Frames: every vector parsed, generated, split everywhere, cut everywhere and with every bit flipped.
 */
import { expect, test } from "bun:test";
import {
  encodeNotification,
  encodePacket,
  escapeBinary,
  type Frame,
  FrameDecoder,
  maxTextBytes,
  unescapeBinary,
} from "#monitor/gdb/frame.ts";
import { wireVectors } from "./vectors.ts";

const bytesOf = (text: string): Uint8Array => Buffer.from(text, "latin1");
const decode = (...chunks: string[]): Frame[] => {
  const decoder = new FrameDecoder();
  return chunks.flatMap((chunk) => decoder.push(bytesOf(chunk)));
};

test.each(wireVectors)("$name: whole, in every split, byte by byte", ({ bytes, frame }) => {
  expect(decode(bytes)).toEqual([frame]);
  for (let at = 0; at <= bytes.length; at += 1) expect(decode(bytes.slice(0, at), bytes.slice(at))).toEqual([frame]);
  expect(decode(...bytes)).toEqual([frame]);
});

test.each(wireVectors)("$name: what is encoded is decoded to the same", ({ frame }) => {
  if (frame.kind === "packet") expect(decode(encodePacket(frame.text))).toEqual([frame]);
  if (frame.kind === "notification") expect(decode(encodeNotification(frame.text))).toEqual([frame]);
});

test.each(wireVectors)("$name: cut short it gives nothing, and the next frame is whole", ({ bytes }) => {
  for (let length = 0; length < bytes.length; length += 1) {
    const cut = bytes.slice(0, length);
    expect(decode(cut)).toEqual([]);
    // A frame cut in its checksum swallows the `$` of the next: that one is lost, the one after it is not.
    expect(decode(`${cut}$OK#9a$OK#9a`).at(-1)).toEqual({ kind: "packet", text: "OK" });
  }
});

test.each(wireVectors)("$name: no bit flip turns it into another frame of its kind", ({ bytes, frame }) => {
  for (let index = 0; index < bytes.length; index += 1) {
    for (let bit = 0; bit < 8; bit += 1) {
      const flipped = bytesOf(bytes);
      flipped[index]! ^= 1 << bit;
      for (const got of new FrameDecoder().push(flipped)) {
        if (frame.kind !== "packet" && frame.kind !== "notification") continue;
        // One flip changes the sum, except in the case of a checksum digit, which is the same digit.
        if (got.kind === frame.kind) expect(got).toEqual(frame);
      }
    }
  }
});

test("vectors between noise and acknowledgements come out in order", () => {
  const wire = wireVectors.map(({ bytes }) => bytes).join("+\n");
  const frames = decode(wire).filter(({ kind }) => kind === "packet" || kind === "notification");
  expect(frames).toEqual(
    wireVectors.map(({ frame }) => frame).filter(({ kind }) => kind === "packet" || kind === "notification"),
  );
  expect(decode("noise$OK#9a")).toEqual([
    { kind: "noise", lengthBytes: 5 },
    { kind: "packet", text: "OK" },
  ]);
});

test("a new packet inside a frame ends the broken one and is itself whole", () => {
  expect(decode("$qSuppor$OK#9a")).toEqual([
    { kind: "damaged", reason: "a new packet began inside a frame" },
    { kind: "packet", text: "OK" },
  ]);
});

test("bad run lengths and bad checksums are damaged", () => {
  const reasons = (wire: string): string[] =>
    decode(wire).map((frame) => (frame.kind === "damaged" ? frame.reason : ""));
  expect(reasons("$* #4a")).toEqual(["a run length with nothing before it"]);
  expect(reasons("$0*\x1f#79")).toEqual(["run length character 31"]);
  expect(reasons("$OK#9b")).toEqual(["checksum 155 sent, 154 counted"]);
  expect(decode("$OK#9g")[0]?.kind).toBe("damaged");
});

test("a frame at the limit is taken, one byte more is damaged, and neither keeps more memory than the limit", () => {
  const longest = "a".repeat(maxTextBytes);
  expect(decode(encodePacket(longest))).toEqual([{ kind: "packet", text: longest }]);
  expect(decode(encodePacket(`${longest}a`))[0]?.kind).toBe("damaged");
  // 97 bytes for two on the wire.
  const bomb = `$a${"*~".repeat(maxTextBytes)}#00$OK#9a`;
  expect(decode(bomb)).toEqual([
    { kind: "damaged", reason: `more than ${maxTextBytes} bytes in one frame` },
    { kind: "packet", text: "OK" },
  ]);
});

test("binary bytes survive escaping", () => {
  const all = String.fromCharCode(...Array.from({ length: 256 }, (_, index) => index));
  expect(unescapeBinary(escapeBinary(all))).toBe(all);
  expect(decode(encodePacket(escapeBinary(all)))).toEqual([{ kind: "packet", text: escapeBinary(all) }]);
  expect(unescapeBinary("a}")).toBe("a}");
});
