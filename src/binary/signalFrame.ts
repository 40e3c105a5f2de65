// SPDX-License-Identifier: Apache-2.0
/**
 * Registers of the code that a signal interrupted, from the frame the kernel left on the stack. Gets memory, gives registers.
 *
 * Needed where call-frame information does not do it: the AArch64 vdso restores only x29 and x30 of the frame record,
 * and C libraries other than glibc have none for their trampoline. Source: Linux arch/x86/include/uapi/asm/sigcontext.h,
 * arch/arm64/include/uapi/asm/{sigcontext,ucontext}.h, arch/arm64/kernel/vdso/sigreturn.S.
 */
import type { Architecture } from "#fault.ts";
import type { ElfImage } from "./elf.ts";
import type { StackWindow } from "./stackWindow.ts";

/** `mov $15, %rax; syscall` in its two encodings, `mov x8, #139; svc #0`. */
const trampolines: Record<Architecture, readonly (readonly number[])[]> = {
  x86_64: [
    [0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05],
    [0xb8, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05],
  ],
  aarch64: [[0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4]],
};

export const trampolineBytesMax = 9;

/**
 * Bytes from the stack pointer at the trampoline to the saved registers, and their order by DWARF number.
 * x86-64: the return address is popped, so ucontext is at the stack pointer: flags 8, link 8, stack 24, then gregs.
 * AArch64: siginfo 128, ucontext (flags 8, link 8, stack 24, signal mask 128, 8 of padding), fault_address 8, then regs.
 */
const saved: Record<Architecture, { readonly from: number; readonly order: readonly number[] }> = {
  x86_64: { from: 40, order: [8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7, 16] },
  aarch64: { from: 128 + 176 + 8, order: Array.from({ length: 33 }, (_, index) => index) },
};

/**
 * Bytes from the stack pointer at the trampoline to what returning from the handler would also restore: the alternate
 * signal stack and the signal mask. x86-64 keeps the mask behind 256 bytes of sigcontext, AArch64 before it.
 */
export const savedContext: Record<Architecture, { readonly alternateStack: bigint; readonly mask: bigint }> = {
  x86_64: { alternateStack: 16n, mask: 40n + 256n },
  aarch64: { alternateStack: 128n + 16n, mask: 128n + 40n },
};

/** True where `offset` is the first instruction of a trampoline that returns from a signal handler. */
export function isTrampoline(image: ElfImage, offset: number): boolean {
  return isTrampolineCode(image.architecture, image.codeAt(offset, trampolineBytesMax));
}

/** The same for code that begins at the trampoline. */
export function isTrampolineCode(architecture: Architecture, code: Uint8Array): boolean {
  return trampolines[architecture].some((wanted) => wanted.every((byte, index) => code[index] === byte));
}

/** Registers of the interrupted code; null where the frame is not readable. */
export function interruptedRegisters(
  architecture: Architecture,
  stackPointer: number,
  window: StackWindow,
): (bigint | null)[] | null {
  const { from, order } = saved[architecture];
  const registers: (bigint | null)[] = new Array(order.length).fill(null);
  for (const [index, register] of order.entries()) {
    const word = window.word(stackPointer + from + index * 8);
    if (word === null) return null;
    registers[register] = word;
  }
  return registers;
}
