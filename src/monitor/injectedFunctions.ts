// SPDX-License-Identifier: Apache-2.0
/**
 * A function of the C library called by a thread that waits, as if it had called it itself. Gets its name, one argument and
 * the stopped thread; gives what it returned, and the thread waits again as before.
 *
 * Only where the thread is known to be at its idle point: it is then inside no lock and no allocator. Its stack is used
 * below the red zone, where nothing lives. The function returns to an address that is never mapped, and the stop there is its
 * end; then all registers are put back, and the kernel makes the interrupted wait again. Limit: `callMs`.
 */
import { callingConvention } from "#binary/callingConvention.ts";
import type { CodeMap } from "#binary/codeMap.ts";
import { GdbError } from "#errors.ts";
import { address, type VirtualAddress } from "#fault.ts";
import type { GdbClient } from "./gdb/client.ts";

/** In the first page, which is never mapped (`vm.mmap_min_addr`). */
const returnAddress = 0x10n;
const deadStackBytes = 512n;
const stackAlignment = 16n;
const pointerBytes = 8n;

/** The address of a function of the C library of this program. @throws GdbError "gdb.refused" where it has none of that name */
export function theFunction(map: CodeMap, name: string): VirtualAddress {
  const at = functionAt(map, name);
  if (at === null) throw new GdbError("gdb.refused", `the program has no function ${name}`);
  return at;
}

export function functionAt(map: CodeMap, name: string): VirtualAddress | null {
  for (const { image, bias } of map.modules) {
    const offset = image.functionNamed(name);
    if (offset !== null) return address(bias + BigInt(offset));
  }
  return null;
}

/** @throws GdbError "gdb.refused" where it did not come back by itself; the thread is as it was in that case too */
export async function callFunction(
  { tid, at, argument }: { tid: number; at: VirtualAddress; argument: bigint },
  client: GdbClient,
  isThere: (place: { sp: VirtualAddress; pc: VirtualAddress }) => boolean,
  write: (at: VirtualAddress, bytes: Uint8Array) => Promise<void>,
): Promise<bigint> {
  if (client.isStopped(tid)) throw new GdbError("gdb.refused", `thread ${tid} is stopped already`);
  const before = await client.stopThread(tid);
  if (before.signal !== "SIGSTOP") throw new GdbError("gdb.refused", `thread ${tid} has stopped by ${before.signal}`);
  const { architecture } = client;
  const { pc, sp, link, firstArgument, returnValue } = callingConvention[architecture];
  const stack = before.registers[sp] ?? 0n;
  if (!isThere({ sp: address(stack), pc: address(before.registers[pc] ?? 0n) })) {
    await client.control(tid).resume();
    throw new GdbError("gdb.refused", `thread ${tid} does not wait for work any more`);
  }
  try {
    let top = (stack - deadStackBytes) & ~(stackAlignment - 1n);
    if (link === null) {
      top -= pointerBytes;
      const word = new Uint8Array(Number(pointerBytes));
      new DataView(word.buffer).setBigUint64(0, returnAddress, true);
      await write(address(top), word);
    }
    const changes = new Map([
      [pc, at],
      [sp, address(top)],
      [firstArgument, argument],
    ] as [number, bigint][]);
    if (link !== null) changes.set(link, returnAddress);
    const after = await client.runToStop(tid, changes);
    if (after.signal === "SIGSEGV" && after.registers[pc] === returnAddress)
      return BigInt.asIntN(32, after.registers[returnValue] ?? -1n);
    throw new GdbError("gdb.refused", `the function ended in ${after.signal}`, { pc: after.registers[pc] ?? null });
  } finally {
    await client.resumeAs(tid, before.raw);
  }
}
