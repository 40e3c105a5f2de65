// SPDX-License-Identifier: Apache-2.0
/**
 * The x86-64 call that ends at a return address. Gets the bytes before it, gives its kind.
 *
 * Read backwards, one byte string can end with two calls: `E8` four bytes before an `FF /2`. The rules of `prefer` decide;
 * a sweep forward from the start of the function, where the caller has its bytes, decides for certain.
 * Source: Intel SDM volume 2, CALL; forms and prefixes as gcc, clang and ld emit them (TLS sequences, addr32 relaxation).
 */
import type { CallSite, MemoryReference } from "./instructionSet.ts";
import { callBytesMax, sweepBytesMax } from "./instructionSet.ts";
import { decodeAt, iced } from "./x86_64Decode.ts";
import type * as Iced from "./x86_64Iced.ts";

const none: CallSite = { kind: "none" };
const callBytesMin = 2;
/** No module's code is larger: beyond it the four bytes of a direct call are the end of another instruction. */
const directReachMax = 0x1000_0000n;

export function callBefore(before: Uint8Array, returnAddress: bigint, functionBytes?: Uint8Array): CallSite {
  const guess = guessBackward(before, returnAddress);
  // Read backwards a call is never missed, only seen where there is none.
  if (guess.kind === "none" || functionBytes === undefined) return guess;
  return sweep(functionBytes.subarray(-sweepBytesMax), returnAddress) ?? guess;
}

function guessBackward(before: Uint8Array, returnAddress: bigint): CallSite {
  let direct: CallSite | null = null;
  let indirect: CallSite | null = null;
  for (let length = callBytesMin; length <= Math.min(callBytesMax, before.length); length += 1) {
    const site = callOf(before.subarray(before.length - length), returnAddress - BigInt(length), length);
    if (site === null) continue;
    if (site.kind === "direct") direct ??= site;
    else indirect = site;
  }
  if (direct === null || indirect === null) return direct ?? indirect ?? none;
  return prefer(direct, indirect, before, returnAddress);
}

/** The call that fills `bytes` exactly. */
function callOf(bytes: Uint8Array, at: bigint, length: number): CallSite | null {
  if (!mayBeCall(bytes)) return null;
  const instruction = decodeAt(bytes, at);
  return instruction === null || instruction.length !== length ? null : siteOf(instruction);
}

const prefixes: ReadonlySet<number> = new Set([0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf2, 0xf3]);

/** Cheap refusal: prefixes, then at most one REX, then E8 or FF. */
function mayBeCall(bytes: Uint8Array): boolean {
  let index = 0;
  while (index < bytes.length && prefixes.has(bytes[index] as number)) index += 1;
  if (((bytes[index] ?? 0) & 0xf0) === 0x40) index += 1;
  return bytes[index] === 0xe8 || bytes[index] === 0xff;
}

function siteOf(instruction: Iced.Instruction): CallSite | null {
  const { lib, parts } = iced();
  const lengthBytes = instruction.length;
  if (instruction.isCallNear) return { kind: "direct", target: instruction.nearBranchTarget, lengthBytes };
  if (!instruction.isCallNearIndirect) return null;
  if (instruction.op0Kind === lib.OpKind.Register) {
    return { kind: "pointer", register: parts[instruction.op0Register]?.dwarf ?? null, memory: null, lengthBytes };
  }
  const memory = memoryReference(instruction);
  const fixed = memory.base === null && memory.index === null && memory.segment === null;
  if (fixed) return { kind: "slot", slot: memory.displacement, lengthBytes };
  return { kind: "pointer", register: null, memory, lengthBytes };
}

/** The explicit memory operand, PC-relative ones resolved. */
export function memoryReference(instruction: Iced.Instruction): MemoryReference {
  const { lib, parts } = iced();
  const { memoryBase, memoryIndex, memorySegment } = instruction;
  const relative = instruction.isIpRelMemoryOperand;
  const displacement = relative ? instruction.ipRelMemoryAddress : BigInt.asIntN(64, instruction.memoryDisplacement);
  const segment = memorySegment === lib.Register.FS ? "fs" : memorySegment === lib.Register.GS ? "gs" : null;
  return {
    base: relative ? null : (parts[memoryBase]?.dwarf ?? null),
    index: parts[memoryIndex]?.dwarf ?? null,
    scale: memoryIndex === lib.Register.None ? 1 : instruction.memoryIndexScale,
    extend: "none",
    displacement,
    segment,
  };
}

/**
 * Chooses between a direct call and an indirect one that end at the same byte. The indirect one contains, or is, the
 * last bytes of the displacement, so a short one says how far the direct call would reach.
 */
function prefer(direct: CallSite, indirect: CallSite, before: Uint8Array, returnAddress: bigint): CallSite {
  if (direct.kind !== "direct" || indirect.kind === "none") return direct;
  const distance = BigInt.asIntN(64, direct.target - returnAddress);
  if (distance >= directReachMax || distance < -directReachMax) return indirect;
  if (indirect.lengthBytes > direct.lengthBytes) return indirect;
  // FF 5x d8: compilers call through offsets that are multiples of the pointer size, and leave out a zero.
  const lastByte = before[before.length - 1] ?? 0;
  return lastByte !== 0 && lastByte % 8 === 0 ? indirect : direct;
}

/**
 * Decodes forward to the return address. null where the stream does not meet it: data among code, or a wrong start. A
 * start inside an instruction falls into step within a few instructions, so the end of a long function will do.
 */
function sweep(functionBytes: Uint8Array, returnAddress: bigint): CallSite | null {
  const { lib, instruction } = iced();
  if (functionBytes.length === 0) return null;
  const decoder = new lib.Decoder(64, functionBytes, lib.DecoderOptions.None);
  decoder.ip = returnAddress - BigInt(functionBytes.length);
  while (decoder.canDecode) decoder.decodeOut(instruction);
  decoder.free();
  return instruction.isInvalid ? null : (siteOf(instruction) ?? none);
}
