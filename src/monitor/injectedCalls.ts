// SPDX-License-Identifier: Apache-2.0
/**
 * System calls run by the stopped thread itself, as if the program had made them. Gets a number and arguments; gives what
 * the kernel answered. The thread's registers are put back by whoever resumes it: the last write before a resume counts.
 *
 * A system call instruction is borrowed from code that is mapped already; nothing is written to the program's memory or
 * stack. One single step a call. Source: syscall(2), "Architecture calling conventions"; ptrace(2).
 */
import { callingConvention } from "#binary/callingConvention.ts";
import type { CodeMap } from "#binary/codeMap.ts";
import { segmentFlags, segmentTypes } from "#binary/elfLayout.ts";
import { GdbError } from "#errors.ts";
import type { Architecture, SystemCall } from "#fault.ts";

/** Runs one instruction with these registers; gives the registers after it and the signal it stopped with. */
export type Step = (
  changes: ReadonlyMap<number, bigint>,
) => Promise<{ registers: readonly (bigint | null)[]; signal: string }>;

const instructionBytes: Readonly<Record<Architecture, readonly number[]>> = {
  x86_64: [0x0f, 0x05],
  aarch64: [0x01, 0x00, 0x00, 0xd4],
};
/** DWARF numbers of the registers that carry the number and the arguments of a system call. */
const numberRegister: Readonly<Record<Architecture, number>> = { x86_64: 0, aarch64: 8 };
const argumentRegisters: Readonly<Record<Architecture, readonly number[]>> = {
  x86_64: [5, 4, 1, 10, 8, 9],
  aarch64: [0, 1, 2, 3, 4, 5],
};
const numbers: Readonly<Record<Architecture, Readonly<Record<SystemCall, number>>>> = {
  x86_64: {
    timerfd_create: 283,
    dup3: 292,
    close: 3,
    epoll_ctl: 233,
    shutdown: 48,
    rt_sigprocmask: 14,
    sigaltstack: 131,
    ppoll: 271,
  },
  aarch64: {
    timerfd_create: 85,
    dup3: 24,
    close: 57,
    epoll_ctl: 21,
    shutdown: 210,
    rt_sigprocmask: 135,
    sigaltstack: 132,
    ppoll: 73,
  },
};

/** The address of a system call instruction in the program's code; null where there is none. Search it before a fault. */
export function findSystemCallInstruction(map: CodeMap): bigint | null {
  const wanted = Buffer.from(instructionBytes[map.architecture]);
  // The C library comes last: nearly every program has it, and its wrappers are nothing but such instructions.
  for (const { image, bias } of [...map.modules].reverse()) {
    for (const { type, flags, offset, memoryBytes } of image.layout.segments) {
      if (type !== segmentTypes.load || (flags & segmentFlags.execute) === 0) continue;
      const at = aligned(Buffer.from(image.codeAt(offset, memoryBytes)), wanted, map.architecture);
      if (at >= 0) return bias + BigInt(offset + at);
    }
  }
  return null;
}

/** @throws GdbError "gdb.refused" where the step ended in another signal: the call may or may not have been made */
export async function runSystemCall(
  name: SystemCall,
  words: readonly bigint[],
  architecture: Architecture,
  instruction: bigint,
  step: Step,
): Promise<bigint> {
  const { pc, returnValue } = callingConvention[architecture];
  const changes = systemCallRegisters(name, words, architecture, instruction);
  const { registers, signal } = await step(changes);
  const expected = instruction + BigInt(instructionBytes[architecture].length);
  if (signal !== "SIGTRAP" || registers[pc] !== expected) {
    throw new GdbError("gdb.refused", `${name} run by the stopped thread ended in ${signal}`, {
      pc: registers[pc] ?? null,
    });
  }
  return BigInt.asIntN(64, registers[returnValue] ?? -1n);
}

/** The registers with which the next instruction is that system call, by DWARF number. Pure. */
export function systemCallRegisters(
  name: SystemCall,
  words: readonly bigint[],
  architecture: Architecture,
  instruction: bigint,
): Map<number, bigint> {
  const changes = new Map<number, bigint>([
    [callingConvention[architecture].pc, instruction],
    [numberRegister[architecture], BigInt(numbers[architecture][name])],
  ]);
  for (const [index, register] of argumentRegisters[architecture].entries()) changes.set(register, words[index] ?? 0n);
  return changes;
}

function aligned(code: Buffer, wanted: Buffer, architecture: Architecture): number {
  const unit = architecture === "aarch64" ? 4 : 1;
  for (let at = code.indexOf(wanted); at >= 0; at = code.indexOf(wanted, at + 1)) if (at % unit === 0) return at;
  return -1;
}
