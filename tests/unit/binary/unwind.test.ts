// SPDX-License-Identifier: Apache-2.0
/**
 * The unwinder on written stacks: call-frame information, signals, bad calls, guesses, and where it must stop.
 */
import { expect, test } from "bun:test";
import { CodeMap } from "#binary/codeMap.ts";
import { parseElf } from "#binary/elf.ts";
import { parseMaps } from "#binary/maps.ts";
import { frameLimitMax, unwind, unwindBlocked } from "#binary/unwind.ts";
import type { Unwinding } from "#binary/unwindTypes.ts";
import { seededRandom } from "#clock.ts";
import { address } from "#fault.ts";
import { codeAt, type TinyElf, type TinyFunction, tinyElf } from "./tinyElf.ts";

const bias = 0x55550000_0000;
const stackAt = 0x7ffd_0000_0000;
const stackBytes = 0x10000;
const maps = `555500000000-555500004000 r-xp 00000000 00:00 7 /program
7ffd00000000-7ffd00010000 rw-p 00000000 00:00 0 [stack]
`;

/** Offsets of the functions of the program below. */
const leaf = codeAt;
const framed = codeAt + 0x40;
const outer = codeAt + 0x80;
const start = codeAt + 0xc0;
const bare = codeAt + 0x100;
const trampoline = codeAt + 0x140;

const x86Functions: readonly TinyFunction[] = [
  { start: leaf, lengthBytes: 0x40, cfi: [] },
  // push %rbp; mov %rsp, %rbp
  { start: framed, lengthBytes: 0x40, cfi: [0x41, 0x0e, 16, 0x86, 2, 0x43, 0x0d, 6] },
  // push %rbx; sub $16, %rsp
  { start: outer, lengthBytes: 0x40, cfi: [0x41, 0x0e, 16, 0x83, 2, 0x44, 0x0e, 32] },
  { start, lengthBytes: 0x40, cfi: [0x07, 16] },
];

/** `call` from the end of `from` + 0x10 to `to`; its return address is `from` + 0x10. */
function putCall(code: Uint8Array, from: number, to: number): void {
  const at = from + 0x10 - 5 - codeAt;
  code[at] = 0xe8;
  new DataView(code.buffer).setInt32(at + 1, to - (from + 0x10), true);
}

function x86Code(): Uint8Array {
  const code = new Uint8Array(0x200).fill(0x90);
  putCall(code, framed, leaf);
  putCall(code, outer, framed);
  putCall(code, start, outer);
  putCall(code, bare, leaf);
  code.set([0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05], trampoline - codeAt);
  return code;
}

class World {
  readonly memory = new DataView(new ArrayBuffer(stackBytes));
  readonly codeMap: CodeMap;
  readonly registers: (bigint | null)[];
  reads = 0;

  constructor(options: TinyElf) {
    this.codeMap = new CodeMap(parseMaps(maps), new Map([["/program", parseElf(tinyElf(options))]]));
    this.registers = new Array(this.codeMap.architecture === "x86_64" ? 17 : 33).fill(0n);
  }

  put(at: number, ...words: (number | bigint)[]): this {
    for (const [index, word] of words.entries()) this.memory.setBigUint64(at - stackAt + index * 8, BigInt(word), true);
    return this;
  }

  set(registers: Readonly<Record<number, number | bigint | null>>): this {
    for (const [register, value] of Object.entries(registers)) {
      this.registers[Number(register)] = value === null ? null : BigInt(value);
    }
    return this;
  }

  read = (from: bigint, lengthBytes: number): Uint8Array => {
    this.reads += 1;
    const inside = Number(from) - stackAt;
    if (inside < 0 || inside >= stackBytes) return new Uint8Array();
    return new Uint8Array(this.memory.buffer, inside, Math.min(lengthBytes, stackBytes - inside));
  };

  unwind(limit = 100): Unwinding {
    return unwind(this.registers, this.read, this.codeMap, limit);
  }
}

const x86 = (): World => new World({ code: x86Code(), functions: x86Functions });
const at = (offset: number): number => bias + offset;
const shape = ({ frames, end }: Pick<Unwinding, "frames" | "end">): string =>
  `${frames.map((frame) => `${frame.offset.toString(16)}:${frame.foundBy}${frame.isCertain ? "" : "?"}`).join(" ")} ${end}`;

const sp = stackAt + 0x8000;
/** leaf called by framed, called by outer, called by start. */
const plainStack = (world: World): World =>
  world
    .put(sp, at(framed + 0x10), 0x1111, sp + 0x40, at(outer + 0x10), 1, 2, 0xb0b, at(start + 0x10))
    .set({ 16: at(leaf + 4), 7: sp, 6: sp + 0x10, 3: 0xbb, 0: 0xaa, 12: 12 });

test("a stack with call-frame information is walked to its outermost frame, callee-saved registers restored", () => {
  const { frames, end } = plainStack(x86()).unwind();
  expect(shape({ frames, end })).toBe("404:stop 450:cfi 490:cfi 4d0:cfi outermost");
  expect(frames.map((frame) => Number(frame.cfa))).toEqual([sp + 8, sp + 0x20, sp + 0x40, sp + 0x48]);
  expect(frames[0]?.registers[0]).toBe(0xaan);
  expect(frames[1]?.registers[0]).toBeNull();
  expect(frames[2]?.registers[6]).toBe(BigInt(sp + 0x40));
  expect(frames[3]?.registers[3]).toBe(0xb0bn);
  expect(frames[3]?.registers[12]).toBe(12n);
  expect(frames[1]?.lookup).toBe(address(BigInt(at(framed + 0xf))));
});

test("the stack is read once as a block", () => {
  const world = plainStack(x86());
  world.unwind();
  expect(world.reads).toBe(1);
});

test.each([
  ["null", 0],
  ["data", stackAt + 0x100],
  ["an unmapped address", 0x1234_5678],
])("a call through a pointer to %s continues at the return address on the stack", (_, pc) => {
  const world = plainStack(x86());
  const unwinding = world.set({ 16: pc }).unwind();
  expect(shape(unwinding)).toBe("0:stop 450:returnAddress 490:cfi 4d0:cfi outermost");
  expect(unwinding.frames[1]?.registers[3]).toBe(0xbbn);
  expect(Number(unwinding.frames[0]?.cfa)).toBe(sp + 8);
});

test("the frame of a signal is left by the registers the kernel saved", () => {
  const world = plainStack(x86());
  const handlerStack = stackAt + 0x1000;
  const context = handlerStack + 8;
  world.put(handlerStack, at(trampoline));
  const saved = [8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7, 16].map(
    (register) => world.registers[register]!,
  );
  world.put(context + 40, ...saved).set({ 16: at(leaf + 8), 7: handlerStack, 3: 0, 6: 0 });
  const { frames, end } = world.unwind();
  expect(shape({ frames, end })).toBe("408:stop 540:cfi 404:signal 450:cfi 490:cfi 4d0:cfi outermost");
  expect(frames.map((frame) => frame.isSignal)).toEqual([false, true, false, false, false, false]);
  expect(frames[2]?.registers[0]).toBe(0xaan);
  expect(frames[2]?.lookup).toBe(address(BigInt(at(leaf + 4))));
});

test("code without call-frame information is left by the frame pointer", () => {
  const world = plainStack(x86()).set({ 16: at(bare + 0x30), 6: sp + 0x10, 7: sp + 8 });
  expect(shape(world.unwind())).toBe("530:stop 490:framePointer? 4d0:cfi? outermost");
});

test("a word that no call precedes is not taken for a return address", () => {
  const world = x86()
    .put(sp, at(framed + 0x11), at(outer + 0x20))
    .set({ 16: at(bare + 4), 7: sp, 6: 0 });
  expect(shape(world.unwind())).toBe("504:stop lost");
});

test("a stack that leads back to itself ends", () => {
  const world = x86().put(sp, at(framed + 0x10), 0, sp + 0x10, at(framed + 0x10));
  world.set({ 16: at(leaf), 7: sp, 6: sp + 0x10 });
  expect(shape(world.unwind())).toBe("400:stop 450:cfi 450:cfi noProgress");
});

test("an unmapped stack and a return address outside code end the walk", () => {
  expect(
    shape(
      x86()
        .set({ 16: at(leaf), 7: 0x1000 })
        .unwind(),
    ),
  ).toBe("400:stop unreadable");
  expect(
    shape(
      x86()
        .set({ 16: at(leaf), 7: sp })
        .put(sp, 0x1234)
        .unwind(),
    ),
  ).toBe("400:stop lost");
  expect(
    shape(
      x86()
        .set({ 16: at(leaf), 7: sp })
        .put(sp, 0)
        .unwind(),
    ),
  ).toBe("400:stop outermost");
});

test("a deep recursion is walked up to the limit, in few reads", () => {
  const world = x86();
  for (let place = 0; place + 32 <= stackBytes; place += 32) world.put(stackAt + place, 0, 0, 7, at(outer + 0x10));
  world.set({ 16: at(outer + 0x10), 7: stackAt });
  expect(world.unwind(frameLimitMax)).toMatchObject({ end: "unreadable" });
  expect(world.unwind(frameLimitMax).frames).toHaveLength(1 + stackBytes / 32);
  expect(shape(world.unwind(3))).toBe("490:stop 490:cfi 490:cfi limit");
  expect(world.reads).toBeLessThan(20);
});

test("of a deep stack both ends are kept, and the frame before the gap has no CFA", () => {
  const world = x86();
  for (let place = 0; place + 32 <= stackBytes; place += 32) world.put(stackAt + place, 0, 0, 7, at(outer + 0x10));
  world.set({ 16: at(outer + 0x10), 7: stackAt });
  const whole = world.unwind(frameLimitMax).frames;
  const keptAtEachEnd = 5;
  const { frames, dropped, end } = unwind(world.registers, world.read, world.codeMap, frameLimitMax, { keptAtEachEnd });
  expect({ dropped, end }).toEqual({ dropped: whole.length - 10, end: "unreadable" });
  const cfas = (of: typeof frames): unknown[] => of.map(({ cfa }) => cfa);
  expect(cfas(frames)).toEqual([...cfas(whole.slice(0, 4)), null, ...cfas(whole.slice(-5))]);
  const short = unwind(world.registers, world.read, world.codeMap, 9, { keptAtEachEnd });
  expect({ ...short, frames: cfas(short.frames) }).toEqual({
    frames: cfas(whole.slice(0, 9)),
    dropped: 0,
    end: "limit",
  });
});

/** `outer` and `framed` call each other at random until `start` has called them. Gives their number. */
function deepX86(world: World): number {
  const random = seededRandom(11);
  let [cfa, frames] = [stackAt, 0];
  let pointerAt: number | null = null;
  world.set({ 16: at(outer + 0x10), 7: stackAt, 3: 0xbb, 12: 12 });
  for (let isFramed = false; cfa + 0x100 < stackAt + stackBytes; frames += 1) {
    const next = random() < 0.5;
    const caller = at((next ? framed : outer) + 0x10);
    if (isFramed) {
      cfa += 16 + 8 * Math.floor(random() * 4);
      if (pointerAt === null) world.set({ 6: cfa - 16 });
      else world.put(pointerAt, cfa - 16);
      pointerAt = cfa - 16;
      world.put(cfa - 8, caller);
    } else {
      cfa += 32;
      world.put(cfa - 16, frames, caller);
    }
    isFramed = next;
  }
  // The last one is left as it began, by `start`.
  const isLastFramed = Number(world.memory.getBigUint64(cfa - 8 - stackAt, true)) === at(framed + 0x10);
  const last = cfa + 32;
  if (isLastFramed) world.put(pointerAt!, last - 16);
  world.put(last - 16, 0xb0b, at(start + 0x10));
  return frames;
}

/** The same, half of the return addresses signed. */
function deepArm(world: World): number {
  const random = seededRandom(12);
  let [cfa, frames] = [stackAt, 0];
  world.set({ 32: at(outer + 0x10), 31: stackAt, 30: at(outer + 0x10), 29: 1, 19: 19 });
  for (; cfa + 64 < stackAt + stackBytes; frames += 1, cfa += 32) {
    const isSigned = random() < 0.5;
    world.put(cfa, frames, isSigned ? signature | BigInt(at(framed + 0x10)) : at(outer + 0x10));
  }
  world.put(cfa, 0xb0b, at(start + 0x10));
  return frames;
}

test.each(["x86-64", "AArch64"])(
  "a deep stack is passed over to the frames that a walk of each frame ends with, %s",
  (processor) => {
    const world = processor === "x86-64" ? x86() : arm();
    const depth = processor === "x86-64" ? deepX86(world) : deepArm(world);
    for (const [keptAtEachEnd, limit] of [
      [5, frameLimitMax],
      [64, frameLimitMax],
      [7, 1000],
      [3, 8],
    ] as const) {
      const { frames, end } = unwind(world.registers, world.read, world.codeMap, limit);
      if (limit === frameLimitMax)
        expect({ end, frames: frames.length }).toEqual({ end: "outermost", frames: depth + 2 });
      const short = unwind(world.registers, world.read, world.codeMap, limit, { keptAtEachEnd });
      expect({ end: short.end, dropped: short.dropped }).toEqual({ end, dropped: frames.length - 2 * keptAtEachEnd });
      const inner = frames.slice(0, keptAtEachEnd);
      expect(short.frames).toEqual([
        ...inner.with(-1, { ...inner.at(-1)!, cfa: null }),
        ...frames.slice(-keptAtEachEnd),
      ]);
    }
    expect(depth).toBeGreaterThan(1000);
  },
);

test("a blocked thread is walked from pc and stack pointer; frames behind a guess are marked", () => {
  const world = plainStack(x86());
  const blocked = (): Unwinding =>
    unwindBlocked(address(BigInt(at(leaf + 4))), address(BigInt(sp)), world.read, world.codeMap, 100);
  // The frame of `framed` has a word of its own that its prologue does not show, so its size is a guess.
  expect(shape(blocked())).toBe("404:stop 450:cfi? 490:cfi? 4d0:cfi? outermost");
  world.put(sp, at(framed + 0x10), sp + 0x40, at(outer + 0x10), 1, 2, 0xb0b, at(start + 0x10));
  expect(shape(blocked())).toBe("404:stop 450:cfi 490:cfi 4d0:cfi outermost");
});

// AArch64: `stp x29, x30, [sp, #-32]!`, and `paciasp` before it in one function.
const armFunctions: readonly TinyFunction[] = [
  { start: leaf, lengthBytes: 0x40, cfi: [] },
  { start: framed, lengthBytes: 0x40, cfi: [0x41, 0x2d, 0x0e, 32, 0x9d, 4, 0x9e, 3] },
  { start: outer, lengthBytes: 0x40, cfi: [0x41, 0x0e, 32, 0x9d, 4, 0x9e, 3] },
  { start, lengthBytes: 0x40, cfi: [0x07, 30] },
];

function arm(): World {
  const code = new Uint8Array(0x200);
  const view = new DataView(code.buffer);
  const call = (from: number, to: number): void =>
    view.setUint32(from + 0x10 - 4 - codeAt, 0x94000000 | (((to - from - 0x10 + 4) >> 2) & 0x3ffffff), true);
  call(framed, leaf);
  call(outer, framed);
  call(start, outer);
  view.setUint32(trampoline - codeAt, 0xd2801168, true);
  view.setUint32(trampoline - codeAt + 4, 0xd4000001, true);
  return new World({ machine: 183, code, functions: armFunctions });
}

const signature = 0x0025_0000_0000_0000n;
const armStack = (world: World): World =>
  world
    .put(sp, sp + 0x20, signature | BigInt(at(outer + 0x10)), 0, 0, 0, at(start + 0x10))
    .set({ 32: at(leaf + 4), 31: sp, 30: at(framed + 0x10), 29: sp, 19: 19 });

test("AArch64: the link register of a leaf, signed return addresses and the outermost frame", () => {
  const { frames, end } = armStack(arm()).unwind();
  expect(shape({ frames, end })).toBe("404:stop 450:cfi 490:cfi 4d0:cfi outermost");
  expect(frames[2]?.registers[30]).toBe(BigInt(at(outer + 0x10)));
  expect(frames[3]?.registers[19]).toBe(19n);
  expect(frames.map((frame) => Number(frame.cfa))).toEqual([sp, sp + 0x20, sp + 0x40, sp + 0x40]);
});

test("AArch64: a call through a bad pointer continues at the link register", () => {
  expect(shape(armStack(arm()).set({ 32: 0 }).unwind())).toBe("0:stop 450:returnAddress 490:cfi 4d0:cfi outermost");
});

test("AArch64: the kernel's signal frame gives all registers", () => {
  const world = armStack(arm());
  const handlerStack = stackAt + 0x1000;
  world.put(handlerStack + 312, ...world.registers.map((value) => value!));
  world.set({ 32: at(leaf), 31: handlerStack, 30: at(trampoline), 29: 0, 19: 0 });
  const { frames, end } = world.unwind();
  expect(shape({ frames, end })).toBe("400:stop 540:cfi 404:signal 450:cfi 490:cfi 4d0:cfi outermost");
  expect(frames[2]?.registers[19]).toBe(19n);
});

test("AArch64: frame records lead through code without call-frame information", () => {
  const world = armStack(arm()).set({ 32: at(bare + 8), 30: at(bare + 4), 29: sp });
  expect(shape(world.unwind())).toBe("508:stop 490:framePointer? 4d0:framePointer? outermost");
});
