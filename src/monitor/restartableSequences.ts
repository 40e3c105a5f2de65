// SPDX-License-Identifier: Apache-2.0
/**
 * Damage to a thread's restartable-sequence area. The kernel reads it whenever the thread was preempted; a pointer in it
 * that leads nowhere is a SIGSEGV at an innocent instruction, again and again, until somebody clears the pointer.
 * A program that scribbles over its own thread-local memory (redis tests all its memory after an assertion) meets this.
 *
 * Gets the code map once; answers for a thread pointer. Source: `struct rseq` of `include/uapi/linux/rseq.h` (`rseq_cs` at
 * offset 8), glibc 2.35 manual (`__rseq_offset`, exported by the dynamic linker), `rseq_get_rseq_cs` of `kernel/rseq.c`.
 */
import type { CodeMap } from "#binary/codeMap.ts";
import { dynamicObject } from "#binary/dynamicObject.ts";
import type { ElfImage } from "#binary/elf.ts";
import { type Architecture, address, type ProgramView, type VirtualAddress } from "#fault.ts";

const pointerOffset = 8n;
/** `struct rseq_cs`: version and flags (u32), start_ip, post_commit_offset, abort_ip (u64). */
const descriptorBytes = 32;
const abortOffset = 24;
const versionMax = 0;
/** What stands before the code that an abort goes to, as C libraries register it (`RSEQ_SIG` of glibc and librseq). */
const signatures: Readonly<Record<Architecture, number>> = { x86_64: 0x5305_3053, aarch64: 0xd428_bc00 };
const signatureBytes = 4;

export class RestartableSequences {
  /** Distance of the area from the thread pointer; null where the C library has none. */
  #offset: bigint | null = null;

  constructor(private readonly view: ProgramView) {}

  /** Finds the area's place. To be called again when code was loaded. */
  learn(map: CodeMap): void {
    for (const { image, bias } of map.modules) {
      const at = offsetIn(image);
      const word = at === null ? null : this.#read(address(bias + BigInt(at)));
      if (word !== null) this.#offset = BigInt.asIntN(64, word);
    }
  }

  /** The address of the thread's pointer where it leads to no sequence; null where it is in order or not known. */
  damage(threadPointer: bigint | null, map: CodeMap): VirtualAddress | null {
    if (threadPointer === null || this.#offset === null) return null;
    const at = address(threadPointer + this.#offset + pointerOffset);
    const sequence = this.#read(at);
    if (sequence === null || sequence === 0n || this.#isDescriptor(address(sequence), map)) return null;
    return at;
  }

  #isDescriptor(at: VirtualAddress, map: CodeMap): boolean {
    const bytes = this.view.readMemory(at, descriptorBytes);
    if (bytes.length < descriptorBytes) return false;
    const descriptor = new DataView(bytes.buffer, bytes.byteOffset);
    const abort = descriptor.getBigUint64(abortOffset, true);
    if (descriptor.getUint32(0, true) > versionMax || !map.isExecutable(Number(abort))) return false;
    const before = this.view.readMemory(address(abort - BigInt(signatureBytes)), signatureBytes);
    if (before.length < signatureBytes) return false;
    return new DataView(before.buffer, before.byteOffset).getUint32(0, true) === signatures[this.view.architecture];
  }

  #read(at: VirtualAddress): bigint | null {
    const bytes = this.view.readMemory(at, 8);
    return bytes.length < 8 ? null : new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  }
}

/** Of each image, because its processes are many and its names are. */
const offsets = new WeakMap<ElfImage, number | null>();

function offsetIn(image: ElfImage): number | null {
  const known = offsets.get(image);
  if (known !== undefined) return known;
  const found = dynamicObject(image, "__rseq_offset");
  offsets.set(image, found);
  return found;
}
