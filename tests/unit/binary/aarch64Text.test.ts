// SPDX-License-Identifier: Apache-2.0
/** Our AArch64 decoder against capstone: words of the load, store and branch groups, drawn at random from a named seed. */
import { describe, expect, test } from "bun:test";
import { type A64Flow, decodeFlow } from "#binary/aarch64Decode.ts";
import { decodeMemory } from "#binary/aarch64Memory.ts";
import { formatMemory } from "#binary/aarch64Text.ts";
import { type Random, seededRandom } from "#clock.ts";
import { accessOfText } from "#tests/oracles/aarch64Text.ts";
import { type Line, openCapstone } from "#tests/oracles/capstone.ts";

const seed = 20230826;
const wordsMax = 20_000;
const start = 0x10_0000;

const drawWord = (random: Random): number => Math.floor(random() * 2 ** 32) >>> 0;

/** A load or store; half of them in the crowded groups: exclusive with its fixed fields set, and atomic. */
function drawAccess(random: Random): number {
  const word = (drawWord(random) & ~0x0a00_0000) | 0x0800_0000;
  const kind = random();
  if (kind < 0.3) return ((word & ~0x3700_0000) | 0x001f_7c00) >>> 0;
  return kind < 0.5 ? ((word & ~0x0700_0c00) | 0x3820_0000) >>> 0 : word >>> 0;
}

async function disassemble(words: readonly number[]): Promise<readonly Line[]> {
  const lines = (await openCapstone("aarch64"))(new Uint8Array(new Uint32Array(words).buffer), start);
  expect(lines.length).toBe(words.length);
  return lines;
}

/** Where capstone differs and the manual is on our side, or leaves the word open. */
function isKnown(word: number, line: Line): boolean {
  const [base, first, status] = [(word >>> 5) & 31, word & 31, (word >>> 16) & 31];
  // LDTR of its own base register is defined; capstone takes it for a write-back.
  if (line.mnemonic === ".byte" && base === first) return true;
  // Write-back to the loaded register is CONSTRAINED UNPREDICTABLE; capstone accepts some forms.
  if (base === first && /[!]|\], #/.test(line.operands)) return true;
  // Fields that should be ones are ignored by capstone in the exclusive group.
  return (word & 0x3f00_0000) === 0x0800_0000 && (status !== 31 || ((word >>> 10) & 31) !== 31);
}

describe(`AArch64 text, seed ${seed}`, () => {
  test("loads and stores transfer what capstone prints", async () => {
    const random = seededRandom(seed);
    const words = Array.from({ length: wordsMax }, () => drawAccess(random));
    const differences: string[] = [];
    let compared = 0;
    for (const [index, line] of (await disassemble(words)).entries()) {
      const word = words[index] ?? 0;
      const ours = decodeMemory(word);
      const text = ours === null ? "" : formatMemory(ours, word, BigInt(start + index * 4));
      const space = text.indexOf(" ");
      const mine = ours === null ? null : accessOfText(text.slice(0, space), text.slice(space + 1));
      const theirs = accessOfText(line.mnemonic, line.operands);
      if (theirs !== null) compared += 1;
      if (Bun.deepEquals(mine, theirs) || isKnown(word, line)) continue;
      differences.push(`${word.toString(16)} ${text || "-"} | ${line.mnemonic} ${line.operands}`);
    }
    expect(differences.slice(0, 20)).toEqual([]);
    expect(compared).toBeGreaterThan(wordsMax / 4);
  });

  test("branches, calls and returns are those of capstone", async () => {
    const random = seededRandom(seed);
    const words = Array.from({ length: wordsMax }, () => drawBranch(random));
    const differences: string[] = [];
    const kinds = new Set<string>();
    for (const [index, line] of (await disassemble(words)).entries()) {
      const word = words[index] ?? 0;
      const ours = textOf(decodeFlow(word, BigInt(start + index * 4)));
      const theirs = lineOf(line);
      kinds.add(ours.split(" ")[0] ?? "");
      if (ours !== theirs)
        differences.push(`${word.toString(16)} ${ours} | ${theirs} ${line.mnemonic} ${line.operands}`);
    }
    expect(differences.slice(0, 20)).toEqual([]);
    expect([...kinds].sort()).toEqual([
      "branch",
      "call",
      "callPointer",
      "jump",
      "jumpPointer",
      "next",
      "return",
      "trap",
    ]);
  });
});

/** A branch of any group; a third of them through a register, with the fixed fields of those forms. */
function drawBranch(random: Random): number {
  const word = ((drawWord(random) & ~0x1c00_0000) | 0x1400_0000) >>> 0;
  const fixed = [
    0xd61f_0000, 0xd63f_0000, 0xd65f_0000, 0xd61f_081f, 0xd63f_0c1f, 0xd71f_0800, 0xd73f_0c00, 0xd420_0000,
  ];
  const kind = random();
  if (kind > 0.33) return word;
  return ((fixed[Math.floor(random() * fixed.length)] ?? 0) | (word & 0x3e0)) >>> 0;
}

function textOf(flow: A64Flow): string {
  switch (flow.kind) {
    case "jump":
    case "call":
    case "branch":
      return `${flow.kind} ${flow.target.toString(16)}`;
    case "jumpPointer":
    case "callPointer":
    case "return":
      return `${flow.kind} ${flow.register}`;
    case "trap":
      return `trap ${flow.name}`;
    case "systemCall":
    case "nop":
    case "next":
      return "next";
  }
}

function lineOf({ mnemonic, operands }: Line): string {
  const target = /#(0x[0-9a-f]+)$/.exec(operands)?.[1];
  const to = BigInt.asUintN(64, BigInt(target ?? "0")).toString(16);
  const register = /^x([0-9]+|zr)/.exec(operands)?.[1]?.replace("zr", "31") ?? "30";
  if (mnemonic === "b") return `jump ${to}`;
  if (mnemonic === "bl") return `call ${to}`;
  if (/^(b\.|bc\.|cb|tb)/.test(mnemonic)) return `branch ${to}`;
  if (/^br/.test(mnemonic) && mnemonic !== "brk" && mnemonic !== "brb") return `jumpPointer ${register}`;
  if (/^blr/.test(mnemonic)) return `callPointer ${register}`;
  if (/^ret/.test(mnemonic)) return `return ${mnemonic === "ret" ? register : 31}`;
  return /^(brk|hlt|udf)$/.test(mnemonic) ? `trap ${mnemonic}` : "next";
}
