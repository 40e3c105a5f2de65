// SPDX-License-Identifier: Apache-2.0
/**
 * Whether a process may be traced by us. Gets a pid; gives nothing, or throws with the reason in words.
 *
 * A program has one tracer, belongs to one user, and must not have ended. Source: ptrace(2), proc(5).
 */
import { ProgramError } from "#errors.ts";
import { readStatus } from "./processes.ts";

/** @throws ProgramError "program.busy" where somebody else traces the program, "program.gone", "program.permission" */
export function requireTraceable(pid: number): void {
  const status = readStatus(pid);
  if (status === null) throw new ProgramError("program.gone", `there is no process ${pid}`);
  if (status.state === "Z") throw new ProgramError("program.gone", `process ${pid} has ended and waits for its parent`);
  if (status.tracerPid !== 0) {
    const tracer = readStatus(status.tracerPid)?.name ?? "?";
    throw new ProgramError(
      "program.busy",
      `process ${pid} is already traced by process ${status.tracerPid} (${tracer}); a program has one tracer: end that one first`,
    );
  }
  const self = process.getuid?.() ?? 0;
  if (self !== 0 && status.uid !== self) {
    throw new ProgramError(
      "program.permission",
      `process ${pid} belongs to user ${status.uid}; run as that user or as root`,
    );
  }
}
