// SPDX-License-Identifier: Apache-2.0
/**
 * Any bytes at all for the decoders of the GDB remote protocol: a value or GdbError, in bounded time and memory.
 */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { GdbError } from "#errors.ts";
import { encodePacket, FrameDecoder, maxTextBytes } from "#monitor/gdb/frame.ts";
import {
  parseFeatures,
  parseFileReply,
  parseHexBytes,
  parseProcesses,
  parseSiginfo,
  parseStopReply,
  parseThread,
  parseThreads,
  parseXfer,
} from "#monitor/gdb/messages.ts";
import { readDescription, readRegisters } from "#monitor/gdb/registers.ts";
import { parseTrace } from "#monitor/gdb/trace.ts";
import { runLengths } from "#tests/peers/fakeStub.ts";

const runs = { numRuns: 2000 };
/** Bytes that mean something, so that random input gets past the first check. */
const wire = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(...'$%#*}+-{~;:,.=<>/"0123456789abcdefTWXNSpl mFEOK\n\x00\xff') },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)) },
);
const wireText = fc.array(wire, { maxLength: 300 }).map((characters) => characters.join(""));
const words = fc.constantFrom(
  ...'thread: process: exec: ;thread:p1.2; T0b W00 X09 w0 PacketSize= <threads> <thread id=" p1.1 "/> <osdata <item> </item> <column name="pid"> </column> <reg name=" rip eflags x30 cpsr " bitsize=" 64 regnum= <xi:include href=" target.xml F-1, F3; l m'.split(
    " ",
  ),
);
const sentence = fc.array(fc.oneof(words, wire), { maxLength: 120 }).map((parts) => parts.join(""));

test("frames: any bytes in any chunks give the same frames as in one, and never more text than the limit", () => {
  fc.assert(
    fc.property(wireText, fc.array(fc.nat(300), { maxLength: 6 }), (text, cuts) => {
      const bytes = Buffer.from(text, "latin1");
      const strip = (decoder: FrameDecoder, chunks: Uint8Array[]) =>
        chunks.flatMap((chunk) => decoder.push(chunk)).filter(({ kind }) => kind !== "noise");
      const at = [0, ...cuts.map((cut) => Math.min(cut, bytes.length)).sort((a, b) => a - b), bytes.length];
      const chunks = at.slice(1).map((end, index) => bytes.subarray(at[index], end));
      const frames = strip(new FrameDecoder(), chunks);
      expect(frames).toEqual(strip(new FrameDecoder(), [bytes]));
      for (const frame of frames) if ("text" in frame) expect(frame.text.length).toBeLessThanOrEqual(maxTextBytes);
    }),
    runs,
  );
});

test("frames: what a stub encodes with run lengths is decoded to the same", () => {
  const body = fc.array(fc.tuple(fc.constantFrom(..."0fx;pT\x00\xff "), fc.integer({ min: 1, max: 400 })), {
    maxLength: 40,
  });
  fc.assert(
    fc.property(body, (pairs) => {
      const text = pairs.map(([character, count]) => character.repeat(count)).join("");
      expect(new FrameDecoder().push(Buffer.from(encodePacket(runLengths(text)), "latin1"))).toEqual([
        { kind: "packet", text },
      ]);
    }),
    runs,
  );
});

const parsers: readonly (readonly [name: string, parse: (text: string) => unknown])[] = [
  ["stop reply", parseStopReply],
  ["features", parseFeatures],
  ["thread", parseThread],
  ["threads", parseThreads],
  ["processes", parseProcesses],
  ["siginfo", parseSiginfo],
  ["piece", parseXfer],
  ["file reply", parseFileReply],
  ["hex", parseHexBytes],
  ["trace", parseTrace],
  ["description", (text) => readDescription(new Map([["target.xml", text]]))],
];

test.each(parsers)("%s: any text gives a value or GdbError gdb.message", (_, parse) => {
  fc.assert(
    fc.property(fc.oneof(sentence, wireText), (text) => {
      try {
        parse(text);
      } catch (error) {
        expect(error).toBeInstanceOf(GdbError);
        expect((error as GdbError).code).toBe("gdb.message");
      }
    }),
    runs,
  );
});

test("descriptions: any registers that are accepted can be read from bytes of the promised length", () => {
  const names = [
    ..."rax rdx rcx rbx rsi rdi rbp rsp rip eflags orig_rax k0".split(" "),
    ...Array.from({ length: 8 }, (_, i) => `r${i + 8}`),
  ];
  const register = (name: string) =>
    fc
      .tuple(fc.constantFrom(name === "eflags" ? 32 : 64), fc.option(fc.nat(4200), { freq: 60 }))
      .map(([bits, regnum]) => {
        return `<reg name="${name}" bitsize="${bits}"${regnum === null ? "" : ` regnum="${regnum}"`}/>`;
      });
  let accepted = 0;
  fc.assert(
    fc.property(
      fc.tuple(...names.map(register)),
      fc.shuffledSubarray(
        names.map((_, i) => i),
        { minLength: names.length - 1 },
      ),
      (tags, order) => {
        try {
          const description = readDescription(new Map([["target.xml", order.map((index) => tags[index]).join("\n")]]));
          if (description.kind !== "layout") return;
          accepted += 1;
          const { layout } = description;
          const registers = readRegisters(
            layout,
            new Uint8Array(layout.totalBytes).map((_, index) => index),
          );
          expect(registers.slice(0, 17)).not.toContain(null);
          expect(new Set(layout.general.map(({ offset }) => offset)).size).toBe(17);
        } catch (error) {
          if (!(error instanceof GdbError)) throw error;
        }
      },
    ),
    runs,
  );
  expect(accepted).toBeGreaterThan(50);
});

test("hostile sizes end quickly: nested includes, long names, deep nonsense", () => {
  const include = '<xi:include href="target.xml"/>'.repeat(1000);
  expect(() => readDescription(new Map([["target.xml", include]]))).toThrow(GdbError);
  const long = "<".repeat(200_000) + "reg ".repeat(200_000);
  expect(() => readDescription(new Map([["target.xml", long]]))).toThrow(GdbError);
  expect(parseThreads(`<threads>${"<thread ".repeat(100_000)}`)).toEqual([]);
  expect(() => parseProcesses(`<osdata${"<item>".repeat(500_000)}`)).toThrow(GdbError);
  expect(() => readDescription(new Map([["target.xml", "<!--".repeat(500_000)]]))).toThrow(GdbError);
});
