// SPDX-License-Identifier: Apache-2.0
/**
 * Where each register lies in the bytes of a `g` reply, taken from the stub's target description.
 *
 * Gets the description's documents; gives the layout, or the name of an included document that is still missing.
 * Reads general registers by DWARF number and patches them into a copy of the bytes, for `G`. A description of x86-64 that
 * names no register stands for the fixed ones up to SSE: gdbserver's, for a client that did not ask for more.
 * Limits: `maxRegisters`, `maxRegisterBits`, `maxDocuments`. Source: GDB manual, appendix G; DWARF numbers as in fault.ts.
 */
import { GdbError } from "#errors.ts";
import type { Architecture, Registers } from "#fault.ts";

export type RegisterSlot = { readonly offset: number; readonly lengthBytes: number };

export type RegisterLayout = {
  readonly architecture: Architecture;
  readonly totalBytes: number;
  /** End of the last register named below. */
  readonly neededBytes: number;
  /** General registers by DWARF number. */
  readonly general: readonly RegisterSlot[];
  /** Vector registers whose low halves can be written, by DWARF number: v8..v15 of AArch64 where the stub shows them. */
  readonly vectors: ReadonlyMap<number, RegisterSlot>;
  readonly pc: number;
  readonly sp: number;
  /** eflags or cpsr. */
  readonly flags: RegisterSlot;
  /** fs_base or tpidr; null where the stub does not show it. */
  readonly threadPointer: RegisterSlot | null;
  /** x86-64 only: the number of the system call the thread is in, -1 for none. */
  readonly origRax: RegisterSlot | null;
};

export const maxRegisters = 4096;
export const maxRegisterBits = 16384;
export const maxDocuments = 64;

const x86Names = "rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip".split(" ");
const armNames = [...Array.from({ length: 31 }, (_, index) => `x${index}`), "sp", "pc"];
/** What gdbserver sends where nothing else is agreed: 560 bytes, whatever the processor has (gdb 13, regformats/amd64-linux.dat). */
const x86Fixed: readonly (readonly [names: string, lengthBytes: number])[] = [
  ["rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip", 8],
  ["eflags cs ss ds es fs gs", 4],
  ["st0 st1 st2 st3 st4 st5 st6 st7", 10],
  ["fctrl fstat ftag fiseg fioff foseg fooff fop", 4],
  [Array.from({ length: 16 }, (_, index) => `xmm${index}`).join(" "), 16],
  ["mxcsr", 4],
  ["orig_rax fs_base gs_base", 8],
];
/** DWARF number of rflags on x86-64: decoders complete instructions that set flags. */
const flagsNumber = 49;
/** DWARF number of v0 on AArch64. */
const firstVectorNumber = 64;
/** DWARF numbers of the thread pointer: fs.base and TPIDR_EL0. */
export const threadPointerNumber: Readonly<Record<Architecture, number>> = { x86_64: 58, aarch64: 36 };
/** PSTATE.BTYPE: set while a branch target is checked; stale once the program counter is changed by hand. */
const branchTypeBits = 0xc00n;
const noSystemCall = 0xffff_ffff_ffff_ffffn;

export type Description =
  | { readonly kind: "layout"; readonly layout: RegisterLayout }
  | { readonly kind: "missing"; readonly document: string };

/** Reads the description from `target.xml` and the documents it includes, found by name in `documents`. */
export function readDescription(documents: ReadonlyMap<string, string>): Description {
  const slots = new Map<string, { regnum: number; lengthBytes: number }>();
  const pending = [{ name: "target.xml", from: 0 }];
  let nextRegnum = 0;
  for (let opened = 0; pending.length > 0; ) {
    const place = pending.pop()!;
    const document = documents.get(place.name);
    if (document === undefined) return { kind: "missing", document: place.name };
    const text = withoutComments(document);
    if (place.from === 0) opened += 1;
    if (opened > maxDocuments) throw unusable(`includes more than ${maxDocuments} documents`);
    const tag = /<(reg|xi:include)\s([^<>]*)>/g;
    tag.lastIndex = place.from;
    for (let match = tag.exec(text); match !== null; match = tag.exec(text)) {
      if (match[1] === "xi:include") {
        pending.push({ name: place.name, from: tag.lastIndex });
        pending.push({ name: attribute(match[2]!, "href") ?? "", from: 0 });
        break;
      }
      nextRegnum = addRegister(slots, match[2]!, nextRegnum);
    }
  }
  const isFixed = slots.size === 0 && documents.get("target.xml")!.includes(">i386:x86-64<");
  return { kind: "layout", layout: placeRegisters(isFixed ? fixedRegisters() : slots) };
}

function fixedRegisters(): Map<string, { regnum: number; lengthBytes: number }> {
  const each = x86Fixed.flatMap(([names, lengthBytes]) => names.split(" ").map((name) => ({ name, lengthBytes })));
  return new Map(each.map(({ name, lengthBytes }, regnum) => [name, { regnum, lengthBytes }]));
}

const unusable = (reason: string): GdbError =>
  new GdbError("gdb.message", `the stub's target description cannot be used: it ${reason}`);

/** In linear time, which the obvious expression is not. */
const withoutComments = (text: string): string =>
  text
    .split("<!--")
    .map((part, index) => (index === 0 ? part : part.includes("-->") ? part.slice(part.indexOf("-->") + 3) : ""))
    .join("");

const attribute = (attributes: string, name: string): string | null =>
  new RegExp(`\\b${name}="([^"]*)"`).exec(attributes)?.[1] ?? null;

function addRegister(
  slots: Map<string, { regnum: number; lengthBytes: number }>,
  attributes: string,
  nextRegnum: number,
): number {
  const name = attribute(attributes, "name");
  const bits = Number(attribute(attributes, "bitsize"));
  const regnum = Number(attribute(attributes, "regnum") ?? nextRegnum);
  if (name === null || !(bits > 0 && bits <= maxRegisterBits)) throw unusable("has a register without name or size");
  if (!Number.isInteger(regnum) || regnum < 0 || regnum >= maxRegisters)
    throw unusable(`has register number ${regnum}`);
  if (slots.has(name)) throw unusable(`has two registers ${name.slice(0, 20)}`);
  slots.set(name, { regnum, lengthBytes: Math.ceil(bits / 8) });
  return regnum + 1;
}

/** The bytes of `g` are the registers in the order of their numbers, without gaps. */
function placeRegisters(sizes: ReadonlyMap<string, { regnum: number; lengthBytes: number }>): RegisterLayout {
  const placed = new Map<string, RegisterSlot>();
  let offset = 0;
  let last = -1;
  for (const [name, { regnum, lengthBytes }] of [...sizes].sort(([, a], [, b]) => a.regnum - b.regnum)) {
    if (regnum === last) throw unusable(`has two registers numbered ${regnum}`);
    placed.set(name, { offset, lengthBytes });
    offset += lengthBytes;
    last = regnum;
  }
  const slot = (name: string, lengthBytes: number): RegisterSlot => {
    const found = placed.get(name);
    if (found === undefined) throw unusable(`lacks register ${name}`);
    if (found.lengthBytes !== lengthBytes) throw unusable(`has register ${name} of ${found.lengthBytes} bytes`);
    return found;
  };
  const layout = (
    names: readonly string[],
    rest: Omit<RegisterLayout, "totalBytes" | "neededBytes" | "general" | "vectors">,
    vectors: RegisterLayout["vectors"],
  ): RegisterLayout => {
    const general = names.map((name) => slot(name, 8));
    const used = [...general, rest.flags, ...(rest.origRax === null ? [] : [rest.origRax])];
    const neededBytes = Math.max(...used.map((one) => one.offset + one.lengthBytes));
    return { totalBytes: offset, neededBytes, general, vectors, ...rest };
  };
  if (placed.has("rip")) {
    const origRax = placed.has("orig_rax") ? slot("orig_rax", 8) : null;
    const threadPointer = placed.get("fs_base") ?? null;
    const parts = { pc: 16, sp: 7, flags: slot("eflags", 4), threadPointer, origRax } as const;
    return layout(x86Names, { architecture: "x86_64", ...parts }, new Map());
  }
  if (placed.has("cpsr") && placed.has("x30")) {
    const threadPointer = placed.get("tpidr") ?? null;
    const flags = slot("cpsr", 4);
    const parts = { pc: 32, sp: 31, flags, threadPointer, origRax: null } as const;
    return layout(armNames, { architecture: "aarch64", ...parts }, armVectors(placed));
  }
  throw unusable("is neither of 64-bit x86 nor of AArch64; only 64-bit programs are guarded");
}

/** Where the processor has SVE, v8 is the start of z8. */
function armVectors(placed: ReadonlyMap<string, RegisterSlot>): Map<number, RegisterSlot> {
  const found = new Map<number, RegisterSlot>();
  for (let number = 8; number < 16; number += 1) {
    const slot = placed.get(`v${number}`) ?? placed.get(`z${number}`);
    if (slot !== undefined) found.set(firstVectorNumber + number, slot);
  }
  return found;
}

/** The general registers of a `g` reply. @throws GdbError "gdb.message" where the reply cannot be of this layout. */
export function readRegisters(layout: RegisterLayout, raw: Uint8Array): Registers {
  // A stub may leave out registers at the end (qemu does).
  if (raw.length > layout.totalBytes || raw.length < layout.neededBytes) {
    const expected = `${layout.neededBytes} to ${layout.totalBytes}`;
    throw new GdbError(
      "gdb.message",
      `registers take ${expected} bytes by the description, the stub sent ${raw.length}`,
    );
  }
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const registers: (bigint | null)[] = layout.general.map(({ offset }) => view.getBigUint64(offset, true));
  const put = (register: number, value: bigint): void => {
    while (registers.length < register) registers.push(null);
    registers[register] = value;
  };
  if (layout.architecture === "x86_64") put(flagsNumber, BigInt(view.getUint32(layout.flags.offset, true)));
  const thread = layout.threadPointer;
  if (thread?.lengthBytes === 8 && thread.offset + 8 <= raw.length) {
    put(threadPointerNumber[layout.architecture], view.getBigUint64(thread.offset, true));
  }
  return registers;
}

/**
 * A copy of `raw` with `changes` (DWARF number to value) made. A changed program counter also ends what the kernel or
 * the processor still meant to do at the old one: restart of a system call (x86-64), check of a branch target (AArch64).
 */
export function patchRegisters(
  layout: RegisterLayout,
  raw: Uint8Array,
  changes: ReadonlyMap<number, bigint>,
): Uint8Array<ArrayBuffer> {
  const patched = new Uint8Array(raw);
  const view = new DataView(patched.buffer);
  for (const [register, value] of changes) {
    if (register === flagsNumber && layout.architecture === "x86_64") {
      view.setUint32(layout.flags.offset, Number(BigInt.asUintN(32, value)), true);
      continue;
    }
    const vector = layout.vectors.get(register);
    // As a load of the low half does it: the rest becomes zero.
    if (vector !== undefined && vector.offset + vector.lengthBytes <= raw.length) {
      patched.fill(0, vector.offset, vector.offset + vector.lengthBytes);
    }
    const slot = layout.general[register] ?? vector;
    if (slot === undefined || slot.offset + 8 > raw.length)
      throw new GdbError("gdb.refused", `there is no register ${register} to write`);
    view.setBigUint64(slot.offset, BigInt.asUintN(64, value), true);
  }
  if (!changes.has(layout.pc)) return patched;
  if (layout.origRax !== null) view.setBigUint64(layout.origRax.offset, noSystemCall, true);
  if (layout.architecture === "aarch64") {
    view.setUint32(layout.flags.offset, view.getUint32(layout.flags.offset, true) & ~Number(branchTypeBits), true);
  }
  return patched;
}
