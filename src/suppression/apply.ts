// SPDX-License-Identifier: Apache-2.0
/**
 * Does one decided edit to the one stopped thread. Gets the report, the decision and the right to the thread; the thread
 * runs on when this returns. One register write and one resume; the system calls of rung 2 come before.
 *
 * An abandoned frame is left as an ordinary return would leave it: callee-saved registers, stack pointer and program
 * counter of its caller, and the chosen value in the return register.
 */
import { callingConvention } from "#binary/callingConvention.ts";
import { skipWrites } from "#binary/instructionSet.ts";
import { assert, unreachable } from "#errors.ts";
import type { Applied, Decision, Edit, FaultReport, ThreadControl } from "#fault.ts";
import { quarantine } from "./quarantine.ts";

const pointerBytes = 8;

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
  await control.writeRegisters(registerChanges(report, edit));
  await control.resume();
  if (edit.kind === "neutralise") return { rung: "neutralise", cutFailure };
  return { rung: decision.cut && cutFailure === null ? "quarantine" : edit.rung, cutFailure };
}

/** The registers that make `edit` true, by DWARF number. Pure. */
export function registerChanges(
  report: FaultReport,
  edit: Exclude<Edit, { kind: "deliver" | "mend" }>,
): Map<number, bigint> {
  switch (edit.kind) {
    case "abandon":
      return abandonFrame(report, edit.point.frame, edit.point.returnValue);
    case "neutralise":
      return completeInstruction(report, edit);
    default:
      return unreachable(edit);
  }
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
  changes.set(valueRegister, BigInt.asUintN(64, returnValue));
  changes.set(sp, cfa);
  changes.set(pc, caller.pc);
  return changes;
}

function completeInstruction(report: FaultReport, edit: Extract<Edit, { kind: "neutralise" }>): Map<number, bigint> {
  const { pc } = callingConvention[report.architecture];
  const at = report.registers[pc];
  assert(at != null, "a report without a program counter");
  return new Map([...skipWrites(edit.skip), [pc, at + BigInt(edit.lengthBytes)]]);
}
