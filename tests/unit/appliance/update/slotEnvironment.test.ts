// SPDX-License-Identifier: Apache-2.0
/**
 * The boot loader's environment: read and written as GRUB's own tool does, by whatever is cut off in between.
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { readEnvironment, writeEnvironment } from "#appliance/update/environmentFile.ts";
import { editEnvironment } from "#appliance/update/grubEditenv.ts";
import {
  activated,
  bootNext,
  environmentBytes,
  formatEnvironment,
  givenUp,
  markedGood,
  parseEnvironment,
  readSlotBook,
  type SlotBook,
  sectorBytes,
  slots,
  triesMax,
  withSlotBook,
} from "#appliance/update/slotEnvironment.ts";
import { systemClock } from "#clock.ts";
import { UpdateError } from "#errors.ts";
import { need } from "#tests/skip.ts";

const seed = systemClock.wallMs() % 2 ** 31;
const editor = join(import.meta.dir, "../../../../src/appliance/update/grubEditenv.ts");

let folder = "";
let file = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "holdfast-slots-"));
  file = join(folder, "grubenv");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const names = fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,11}$/);
const values = fc.string({ unit: fc.constantFrom(..."abc 019=\\#\n/.:-"), maxLength: 20 });
const entries = fc.uniqueArray(fc.tuple(names, values), { maxLength: 12, selector: ([name]) => name });
const slot = fc.constantFrom(...slots);
const book: fc.Arbitrary<SlotBook> = fc.record({
  order: fc.constantFrom(["A", "B"] as const, ["B", "A"] as const),
  ok: fc.record({ A: fc.boolean(), B: fc.boolean() }),
  tries: fc.record({ A: fc.nat(9), B: fc.nat(9) }),
});

test(`what is written is read (seed ${seed})`, () => {
  fc.assert(
    fc.property(entries, (pairs) => {
      const bytes = formatEnvironment(new Map(pairs));
      expect(bytes.length).toBe(environmentBytes);
      expect(new Map([...parseEnvironment(bytes)!].sort())).toEqual(new Map([...pairs].sort()));
    }),
    { seed },
  );
  fc.assert(
    fc.property(book, (words) => expect(readSlotBook(withSlotBook(null, words))).toEqual(words)),
    { seed },
  );
});

test("damage is lost, never half believed", () => {
  const whole = formatEnvironment(withSlotBook(null, readSlotBook(null)));
  expect(parseEnvironment(whole.subarray(0, 1023))).toBeNull();
  expect(parseEnvironment(new Uint8Array(environmentBytes))).toBeNull();
  expect(parseEnvironment(new Uint8Array(0))).toBeNull();
  const torn = whole.slice();
  torn.fill(0x41, 25);
  expect(parseEnvironment(torn)).toBeNull();
  expect(readSlotBook(null)).toEqual({ order: ["A", "B"], ok: { A: true, B: true }, tries: { A: 0, B: 0 } });
  expect(() => formatEnvironment(new Map([["LONG", "x".repeat(1000)]]))).toThrow(UpdateError);
  expect(() => formatEnvironment(new Map([["a b", "1"]]))).toThrow(UpdateError);
});

test(`a change of slots torn at a sector's end is the old or the new one (seed ${seed})`, () => {
  const others = fc.uniqueArray(fc.tuple(names, fc.string({ unit: "grapheme-ascii", maxLength: 50 })), {
    maxLength: 6,
    selector: ([name]) => name,
  });
  fc.assert(
    fc.property(others, book, book, (pairs, before, after) => {
      const old = formatEnvironment(withSlotBook(new Map(pairs), before));
      const fresh = formatEnvironment(withSlotBook(new Map(pairs), after));
      const torn = [...fresh.subarray(0, sectorBytes), ...old.subarray(sectorBytes)];
      const reversed = [...old.subarray(0, sectorBytes), ...fresh.subarray(sectorBytes)];
      expect(readSlotBook(parseEnvironment(new Uint8Array(torn)))).toEqual(after);
      expect(readSlotBook(parseEnvironment(new Uint8Array(reversed)))).toEqual(before);
    }),
    { seed },
  );
});

test(`whatever is marked, something boots within four starts (seed ${seed})`, () => {
  fc.assert(
    fc.property(book, slot, (words, which) => {
      expect(bootNext(activated(words, which)).slot).toBe(which);
      expect(bootNext(markedGood(givenUp(words, which), which)).slot).not.toBeNull();
      let now = words;
      let started: string | null = null;
      for (let start = 0; start < 4 && started === null; start += 1) {
        const next = bootNext(now);
        now = next.book;
        started = next.slot;
      }
      expect(started).not.toBeNull();
    }),
    { seed },
  );
  let now = activated(readSlotBook(null), "B");
  const seen: (string | null)[] = [];
  for (let start = 0; start < triesMax + 1; start += 1) {
    const next = bootNext(now);
    seen.push(next.slot);
    now = next.book;
  }
  expect(seen).toEqual(["B", "B", "B", "A"]);
});

describe("the file", () => {
  test("a lost one is made anew; a short, long or foreign one too", () => {
    const words = withSlotBook(null, activated(readSlotBook(null), "B"));
    for (const damage of [null, "", "garbage", "x".repeat(environmentBytes), "y".repeat(5000)]) {
      rmSync(file, { force: true });
      if (damage !== null) writeFileSync(file, damage);
      expect(readEnvironment(file)).toBeNull();
      writeEnvironment(file, words);
      expect(readEnvironment(file)).toEqual(words);
      expect(statSync(file).size).toBe(environmentBytes);
    }
  });

  test("it is written in place: another who holds it open sees the change", () => {
    writeEnvironment(file, withSlotBook(null, readSlotBook(null)));
    const inode = statSync(file).ino;
    editEnvironment([file, "set", "B_OK=0", "ORDER=B A"]);
    expect(statSync(file).ino).toBe(inode);
    expect(editEnvironment([file, "list"])).toContain("ORDER=B A\nA_OK=1\nA_TRY=0\nB_OK=0\n");
    editEnvironment([file, "set", "extra=1"]);
    editEnvironment([file, "unset", "extra", "B_OK"]);
    expect(readEnvironment(file)?.has("extra")).toBe(false);
    expect(() => editEnvironment([file, "destroy"])).toThrow(UpdateError);
    expect(() => editEnvironment(["-", "list"])).toThrow(UpdateError);
  });

  test("what cannot be written is an error, not a lost environment", () => {
    expect(() => writeEnvironment(join(folder, "none/grubenv"), new Map())).toThrow(UpdateError);
  });
});

need("grub-editenv")("GRUB's own tool reads what we write, and we what it writes", () => {
  const tool = (...words: string[]): string => run(["grub-editenv", file, ...words]);
  fc.assert(
    fc.property(entries, (pairs) => {
      writeEnvironment(file, new Map(pairs));
      const shown = [...readEnvironment(file)!].map(([name, value]) => `${name}=${value}\n`).join("");
      expect(tool("list")).toBe(shown);
    }),
    { seed, numRuns: 20 },
  );
  rmSync(file);
  tool("create");
  tool("set", "ORDER=B A", "A_OK=0", "A_TRY=2", "odd=back\\slash");
  expect(readSlotBook(readEnvironment(file))).toEqual({
    order: ["B", "A"],
    ok: { A: false, B: true },
    tries: { A: 2, B: 0 },
  });
  expect(readEnvironment(file)?.get("odd")).toBe("back\\slash");
  editEnvironment([file, "set", "B_TRY=1"]);
  expect(tool("list").split("\n").sort()).toContain("B_TRY=1");
  truncateSync(file, 0);
  expect(run([process.execPath, editor, file, "set", "B_OK=0"])).toBe("");
  expect(tool("list")).toContain("B_OK=0");
});

need("strace")("the system calls: no truncation, one sector, flushed before it is read back", () => {
  writeEnvironment(file, withSlotBook(null, readSlotBook(null)));
  const trace = join(folder, "trace");
  const calls = "trace=open,openat,write,pwrite64,fsync,fdatasync,ftruncate,rename,renameat2";
  run(["strace", "-f", "-o", trace, "-e", calls, process.execPath, editor, file, "set", "A_TRY=1"]);
  const lines = readFileSync(trace, "utf8").split("\n");
  const opened = lines.filter((line) => line.includes(`"${file}"`) && line.includes("O_RDWR"));
  expect(opened).toHaveLength(1);
  expect(opened[0]).not.toContain("O_TRUNC");
  const descriptor = /= (\d+)$/.exec(opened[0]!)![1];
  const changes = lines
    .slice(lines.indexOf(opened[0]!))
    .filter((line) => line.includes(`(${descriptor},`) || line.includes(`(${descriptor})`))
    .map((line) => /(\w+)\(\d+(?:, .*"\.*, (\d+(?:, \d+)?))?/.exec(line)!.slice(1, 3).join(" "));
  expect(changes.slice(0, 2)).toEqual(["pwrite64 512, 0", "fsync "]);
});

function run(command: readonly string[]): string {
  const ran = Bun.spawnSync([...command], { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  if (!ran.success) throw new TypeError(`${command.join(" ")}: ${ran.stderr.toString()}`);
  return ran.stdout.toString();
}
