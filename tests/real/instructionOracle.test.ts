// SPDX-License-Identifier: Apache-2.0
/**
 * Decoders against processors: instructions of real programs are executed one by one, and what they did to registers and
 * flags is compared with what `faulting` and the steps of a followed value say of them. AArch64 runs under qemu.
 */
import { describe, expect } from "bun:test";
import { decodeFlow, wordAt } from "#binary/aarch64Decode.ts";
import { decodeMemory } from "#binary/aarch64Memory.ts";
import { stepAt as armStepAt } from "#binary/aarch64Value.ts";
import type { ElfImage } from "#binary/elf.ts";
import { instructionsOf } from "#binary/instructions.ts";
import { stepAt as x86StepAt } from "#binary/x86_64Value.ts";
import { type Random, seededRandom } from "#clock.ts";
import { armLibrary, armLibraryPath } from "#tests/oracles/execute.ts";
import { askPackage, iced } from "#tests/oracles/iced.ts";
import { distinctInstructions, openImage, sample } from "#tests/oracles/realCode.ts";
import { compareSkips } from "#tests/oracles/skips.ts";
import { compareSteps } from "#tests/oracles/steps.ts";
import { need, processor } from "#tests/skip.ts";

const seed = 20230826;
const x86Programs = ["/usr/bin/redis-server", "/lib/x86_64-linux-gnu/libc.so.6"];
const armPrograms = [armLibraryPath];
const onX86 = need("gcc", "redis-server", processor("x64"));
const onArm = need("aarch64-linux-gnu-gcc", "qemu-aarch64-static", armLibrary);
const testTimeoutMs = 120_000;
const allEqual = (differences: readonly string[]): void => expect(differences.slice(0, 20)).toEqual([]);

describe(`x86-64 against the processor, seed ${seed}`, () => {
  const set = instructionsOf("x86_64");
  let images: ElfImage[] | undefined;
  const open = (): ElfImage[] => (images ??= x86Programs.map(openImage));

  /** Encoding and prefixes: 40 instructions of each are enough to meet its registers and addresses. */
  const kindOf =
    (memory: boolean) =>
    (code: Uint8Array): string | null => {
      if ((set.memoryOperand(code, 0n) !== null) !== memory) return null;
      return askPackage(code, (instruction) => {
        if (instruction.flowControl !== iced.FlowControl.Next) return null;
        if (instruction.isStackInstruction || writesStackPointer(code)) return null;
        const marks = [instruction.hasRepPrefix, instruction.hasRepnePrefix, instruction.hasLockPrefix].map(Number);
        return `${instruction.code} ${marks.join("")}`;
      });
    };

  onX86(
    "completed instructions leave the registers that a run on zero memory leaves",
    async () => {
      const codes = distinctInstructions(open(), 40, kindOf(true));
      const { compared, differences } = compareSkips(set, codes, 6, seededRandom(seed));
      expect(compared).toBeGreaterThan(10_000);
      allEqual(differences);
    },
    testTimeoutMs,
  );

  onX86(
    "the comparison sees a wrong completion",
    async () => {
      const load = new Uint8Array([0x48, 0x8b, 0x03]);
      const wrong = compareSkips(set, [load], 1, seededRandom(seed), () => ({ kind: "zero", registers: [1] }));
      expect(wrong.differences).toHaveLength(1);
    },
    testTimeoutMs,
  );

  onX86(
    "steps name what is read, written, copied and tested",
    async () => {
      const codes = distinctInstructions(open(), 12, kindOf(false)).filter(touchesGeneralOnly);
      const found = compareSteps("x86_64", codes, (code) => x86StepAt(code, 0x1000n, 0), seededRandom(seed));
      expect(found.compared).toBeGreaterThan(1_000);
      expect(found.tests).toBeGreaterThan(100);
      allEqual(found.differences);
    },
    testTimeoutMs,
  );
});

const writesStackPointer = (code: Uint8Array): boolean => x86StepAt(code, 0n, 0)?.writes.includes(7) !== false;

/** The clock, the processor's name, mask and upper vector registers are no function of the general registers. */
function touchesGeneralOnly(code: Uint8Array): boolean {
  const { EncodingKind, Mnemonic, RegisterExt } = iced;
  const { Cpuid, Rdtsc, Rdtscp, Xgetbv, Rdrand, Rdsspq } = Mnemonic;
  const general = askPackage(code, ({ encoding, mnemonic, op0Register, op1Register }) => {
    if (encoding === EncodingKind.EVEX) return false;
    if ([Cpuid, Rdtsc, Rdtscp, Xgetbv, Rdrand, Rdsspq].includes(mnemonic)) return false;
    return ![op0Register, op1Register].some((register) => RegisterExt.isK(register));
  });
  return general === true;
}

const bytesOf = (word: number): Uint8Array => new Uint8Array(new Uint32Array([word]).buffer);
const drawWord = (random: Random): number => Math.floor(random() * 2 ** 32) >>> 0;

describe(`AArch64 against qemu, seed ${seed}`, () => {
  const set = instructionsOf("aarch64");
  const random = seededRandom(seed);

  onArm(
    "completed instructions leave the registers that a run on zero memory leaves",
    async () => {
      const isAccess = (code: Uint8Array): string | null => {
        const access = decodeMemory(wordAt(code, 0) ?? 0);
        // A store-exclusive without its load fails; we complete it as done. A signature check needs a signature.
        return access === null || access.exclusive || access.mnemonic.startsWith("ldra") ? null : access.mnemonic;
      };
      const real = distinctInstructions(armPrograms.map(openImage), 150, isAccess);
      const drawn = Array.from({ length: 6_000 }, () => bytesOf((drawWord(random) & ~0x0a00_0000) | 0x0800_0000));
      const codes = [...real, ...drawn.filter((code) => isAccess(code) !== null)];
      const { compared, differences } = compareSkips(set, codes, 1, random);
      expect(compared).toBeGreaterThan(2_000);
      allEqual(differences);
    },
    testTimeoutMs,
  );

  onArm(
    "steps name what is read, written, copied and tested",
    async () => {
      const system = 0xd5;
      const isPlain = (code: Uint8Array): string | null => {
        const word = wordAt(code, 0) ?? 0;
        if (decodeMemory(word) !== null || decodeFlow(word, 0n).kind !== "next" || word >>> 24 === system) return null;
        return armStepAt(code, 0n, 0)?.writes.includes(31) === false ? String(word >>> 24) : null;
      };
      const codes = sample(distinctInstructions(armPrograms.map(openImage), 200, isPlain), 2_000, random);
      const found = compareSteps("aarch64", codes, (code) => armStepAt(code, 0x1000n, 0), random);
      expect(found.compared).toBeGreaterThan(1_500);
      expect(found.tests).toBeGreaterThan(100);
      allEqual(found.differences);
    },
    testTimeoutMs,
  );
});
