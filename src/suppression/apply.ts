// SPDX-License-Identifier: Apache-2.0
/**
 * Does one decided edit to the one stopped thread. Gets the report, the decision and the right to the thread; the thread
 * runs on when this returns. One register write and one resume; the system calls of rung 2 come before.
 *
 * An abandoned frame is left as an ordinary return would leave it: callee-saved registers, stack pointer and program
 * counter of its caller, the direction flag clear, and the chosen value in the return register. Where signal handlers are
 * left by it, their mask and alternate stack go as `rt_sigreturn` would have put them. Source: System V ABI AMD64
 * supplement 1.0, section 3.2; Linux `arch/x86/kernel/signal.c`, sigaltstack(2).
 */
import { callingConvention } from "#binary/callingConvention.ts";
import { skipWrites } from "#binary/instructionSet.ts";
import { savedContext } from "#binary/signalFrame.ts";
import { assert, unreachable } from "#errors.ts";
import {
  type Applied,
  address,
  type Decision,
  type Edit,
  type FaultReport,
  type ThreadControl,
  type VirtualAddress,
} from "#fault.ts";
import { quarantine } from "./quarantine.ts";

const pointerBytes = 8;
const signalSetBytes = 8n;
const setMask = 2n;
/** Below the stack pointer and the 128 bytes that leaf functions may use. */
const deadStackBytes = 512n;
/** DWARF number of rflags, and the flag that makes string instructions run backwards. */
const flagsRegister = 49;
const directionFlag = 0x400n;
const stackAlignment = 16n;
/** Functions that run at an exit get at least so much of an exhausted stack. */
const roomBytes = 262_144n;
/** The exit code of a process that ends for one client's sake: masters take 0 and 1 for an orderly end. */
const exitCode = 1n;

/** @throws GdbError where the stub refuses or is gone */
export async function apply(report: FaultReport, decision: Decision, control: ThreadControl): Promise<Applied> {
  const { edit } = decision;
  if (edit.kind === "deliver") {
    await control.deliver();
    return { rung: "abandon", cutFailure: null };
  }
  if (edit.kind === "mend") {
    await control.writeMemory(edit.at, new Uint8Array(pointerBytes));
    await control.resume();
    return { rung: "neutralise", cutFailure: null };
  }
  const { session } = decision;
  const cutFailure = decision.cut && session !== null ? await quarantine(report, session, control) : null;
  if (edit.kind === "park") {
    await park(report, control);
    return { rung: "park", cutFailure };
  }
  if (edit.kind === "abandon") await leaveHandlers(report, edit.point.frame, control);
  if (edit.kind === "leave") await control.writeMemory(outermostReturn(report), new Uint8Array(pointerBytes));
  await control.writeRegisters(registerChanges(report, edit));
  await control.resume();
  if (edit.kind === "neutralise") return { rung: "neutralise", cutFailure };
  if (edit.kind === "leave") return { rung: "park", cutFailure };
  return { rung: decision.cut && cutFailure === null ? "quarantine" : edit.rung, cutFailure };
}

/** The registers that make `edit` true, by DWARF number. Pure. */
export function registerChanges(
  report: FaultReport,
  edit: Exclude<Edit, { kind: "deliver" | "mend" | "park" }>,
): Map<number, bigint> {
  switch (edit.kind) {
    case "abandon":
      return abandonFrame(report, edit.point.frame, edit.point.returnValue);
    case "neutralise":
      return completeInstruction(report, edit);
    case "leave":
      return callExit(report, edit.at);
    default:
      return unreachable(edit);
  }
}

/** As if the thread had called `exit(1)` where it is, from code that nobody called. */
function callExit(report: FaultReport, at: bigint): Map<number, bigint> {
  const { pc, sp, link, firstArgument } = callingConvention[report.architecture];
  const changes = new Map<number, bigint>([
    [pc, at],
    [sp, outermostReturn(report)],
    [firstArgument, exitCode],
  ]);
  if (link === null) clearDirection(report, changes);
  else changes.set(link, 0n);
  return changes;
}

/** Where the return address of that call is, or would be: a null pointer, by which a stack ends. */
function outermostReturn(report: FaultReport): VirtualAddress {
  const { sp, link } = callingConvention[report.architecture];
  const top = (deadStack(report, sp) - deadStackBytes) & ~(stackAlignment - 1n);
  return address(link === null ? top - BigInt(pointerBytes) : top);
}

/** A place on the thread's own stack, below all that a frame outside of the fault may use, with room to run. */
function deadStack({ frames, registers, stackExhausted }: FaultReport, sp: number): bigint {
  const own = registers[sp];
  assert(own != null, "a report without a stack pointer");
  // Alternate stacks are small, and the frames of a handler are dead.
  const interrupted = frames.findLastIndex(({ foundBy }) => foundBy === "signal");
  const from = interrupted < 0 ? own : (frames[interrupted]!.registers[sp] ?? own);
  if (!stackExhausted) return from;
  const roomy =
    frames.find(({ cfa }) => cfa !== null && cfa - from > roomBytes) ?? frames.findLast(({ cfa }) => cfa !== null);
  return roomy?.cfa ?? from;
}

function abandonFrame(report: FaultReport, frame: number, returnValue: bigint): Map<number, bigint> {
  const { pc, sp, returnValue: valueRegister, calleeSaved } = callingConvention[report.architecture];
  const caller = report.frames[frame + 1];
  const cfa = report.frames[frame]?.cfa;
  assert(caller !== undefined && cfa != null, "the plan abandons a frame without a known caller", { frame });
  const changes = new Map<number, bigint>();
  for (const register of calleeSaved) {
    const value = caller.registers[register];
    if (value != null) changes.set(register, value);
  }
  for (const { register, value } of caller.vectors ?? []) changes.set(register, value);
  changes.set(valueRegister, BigInt.asUintN(64, returnValue));
  changes.set(sp, cfa);
  changes.set(pc, caller.pc);
  clearDirection(report, changes);
  return changes;
}

/** As the calling convention wants it at every call and return. */
function clearDirection({ architecture, registers }: FaultReport, changes: Map<number, bigint>): void {
  const flags = architecture === "x86_64" ? registers[flagsRegister] : null;
  if (flags != null && (flags & directionFlag) !== 0n) changes.set(flagsRegister, flags & ~directionFlag);
}

/** A handler that is abandoned itself returns through its trampoline; one that is jumped out of does not. */
async function leaveHandlers(report: FaultReport, abandoned: number, control: ThreadControl): Promise<void> {
  const { frames, architecture } = report;
  const trampoline = frames.findLastIndex((_, index) => index <= abandoned && frames[index + 1]?.foundBy === "signal");
  const context = frames[trampoline]?.registers[callingConvention[architecture].sp];
  if (context == null) return;
  const { alternateStack, mask } = savedContext[architecture];
  await control.systemCall("rt_sigprocmask", [setMask, context + mask, 0n, signalSetBytes]);
  // Refused while the thread still runs on that stack, which is when nothing of it was changed.
  await control.systemCall("sigaltstack", [context + alternateStack, 0n]);
}

/** Waits for nothing, without an end, with every signal blocked: the kernel runs this thread no more. Its stack is dead. */
async function park(report: FaultReport, control: ThreadControl): Promise<void> {
  const sp = report.registers[callingConvention[report.architecture].sp];
  assert(sp != null, "a report without a stack pointer");
  const mask = address((sp - deadStackBytes) & ~(signalSetBytes - 1n));
  await control.writeMemory(mask, new Uint8Array(Number(signalSetBytes)).fill(0xff));
  await control.systemCall("rt_sigprocmask", [setMask, mask, 0n, signalSetBytes]);
  await control.resumeInto("ppoll", [0n, 0n, 0n, 0n]);
}

function completeInstruction(report: FaultReport, edit: Extract<Edit, { kind: "neutralise" }>): Map<number, bigint> {
  const { pc } = callingConvention[report.architecture];
  const at = report.registers[pc];
  assert(at != null, "a report without a program counter");
  return new Map([...skipWrites(edit.skip), [pc, at + BigInt(edit.lengthBytes)]]);
}
