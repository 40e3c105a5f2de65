// SPDX-License-Identifier: Apache-2.0
/**
 * Modules, places and slots of an address space, from written mappings and files.
 */
import { expect, test } from "bun:test";
import { CodeMap } from "#binary/codeMap.ts";
import { parseElf } from "#binary/elf.ts";
import { type Mapping, parseMaps } from "#binary/maps.ts";
import { address } from "#fault.ts";
import { codeAt, tinyElf } from "./tinyElf.ts";

/** Two segments that share the file page at 0x3000: code up to 0x3800, variables behind, loaded one page higher. */
function twoSegments(): Uint8Array {
  const bytes = tinyElf({
    functions: [{ start: codeAt, lengthBytes: 64, cfi: [] }],
  });
  const view = new DataView(bytes.buffer);
  const segment = (index: number, values: readonly number[]): void => {
    const [type = 0, flags = 0, position = 0, offset = 0, fileBytes = 0, memoryBytes = 0] = values;
    const entry = 64 + index * 56;
    view.setUint32(entry, type, true);
    view.setUint32(entry + 4, flags, true);
    for (const [at, value] of [
      [8, position],
      [16, offset],
      [32, fileBytes],
      [40, memoryBytes],
    ] as const) {
      view.setBigUint64(entry + at, BigInt(value), true);
    }
  };
  segment(0, [1, 5, 0, 0, 0x3800, 0x3800]);
  segment(1, [1, 6, 0x3800, 0x4800, 0x800, 0x2000]);
  segment(2, [0x6474e552, 4, 0x3800, 0x4800, 0x800, 0x800]);
  segment(3, [0x6474e550, 4, 0x3000, 0x3000, 0x700, 0x700]);
  view.setUint16(56, 4, true);
  return bytes;
}

const maps = `555500000000-555500004000 r-xp 00000000 00:00 7 /program
555500004000-555500005000 r--p 00003000 00:00 7 /program
555500005000-555500006000 rw-p 00004000 00:00 7 /program
555500006000-555500007000 rw-p 00000000 00:00 0
7f0000000000-7f0000001000 r-xp 00000000 00:00 0
7f1000000000-7f1000001000 rw-p 00000000 00:00 0 [heap]
`;

const image = parseElf(twoSegments());
const mapOf = (mappings: readonly Mapping[]): CodeMap => new CodeMap(mappings, new Map([["/program", image]]));
const codeMap = mapOf(parseMaps(maps));
const at = (offset: number): bigint => 0x5555_0000_0000n + BigInt(offset);

test("one module for all mappings of a file, also where segments share a page", () => {
  expect(codeMap.modules).toMatchObject([{ path: "/program", bias: 0x5555_0000_0000n as never, ownsSignals: false }]);
});

test("a file loaded twice is two modules", () => {
  const again = maps.replaceAll(/^5555/gm, "6666").replaceAll("-5555", "-6666");
  expect(mapOf(parseMaps(maps + again)).modules.map(({ bias }) => bias)).toEqual(
    [at(0), 0x6666_0000_0000n].map(address),
  );
});

test("code is found with its entry; data, gaps and code outside files are not", () => {
  expect(codeMap.find(address(at(codeAt + 8)))).toMatchObject({
    module: 0,
    offset: codeAt + 8,
    fde: { start: codeAt },
  });
  expect(codeMap.find(address(at(codeAt + 64)))).toMatchObject({ module: 0, fde: null });
  for (const outside of [at(0x4800), 0x5555_0000_8000n, 0x7f00_0000_0010n, 0n, (1n << 64n) - 1n]) {
    expect(codeMap.find(address(outside))).toBeNull();
  }
  expect(codeMap.isExecutable(0x7f00_0000_0010)).toBe(true);
  expect(codeMap.isExecutable(0x7f10_0000_0010)).toBe(false);
});

test("a slot is a library's where it cannot change after relocation, else a pointer", () => {
  expect(codeMap.slotKind(address(at(0x4900)))).toBe("library");
  expect(codeMap.slotKind(address(at(0x5100)))).toBe("pointer");
  expect(codeMap.slotKind(address(at(0x6100)))).toBe("pointer");
  expect(codeMap.slotKind(address(at(0x100)))).toBe("library");
  expect(codeMap.slotKind(address(0x7f10_0000_0010n))).toBe("pointer");
  // Before relocation is done the same slot lies in a writable mapping; the file says that it will not stay so.
  const early = mapOf(parseMaps(maps.replace("r--p 00003000", "rw-p 00003000")));
  expect(early.slotKind(address(at(0x4900)))).toBe("library");
});

test("without any file the code is not known", () => {
  expect(() => new CodeMap(parseMaps(maps), new Map())).toThrow(expect.objectContaining({ code: "binary.elf" }));
});
