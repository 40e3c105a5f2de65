// SPDX-License-Identifier: Apache-2.0
/**
 * What the exit code of `holdfast` means; the only place that decides it, and README.md shows the same table.
 *
 * `guard` gives the guarded program's own code, or 128 + N where signal N ended it. Its own troubles use 126 and 127 as
 * env(1) and timeout(1) do, else the codes of sysexits.h.
 */
import { HoldfastError } from "#errors.ts";

export const exitCodes = {
  ok: 0,
  /** The verb did its work and the answer is no: doctor found that nothing can be guarded, demo saw a client harmed. */
  no: 1,
  usage: 2,
  /** What was named is not there: a fault, a file, a process. */
  notFound: 66,
  /** Something is missing on this machine: gdbserver, a kernel facility. */
  unavailable: 69,
  /** A bug of Holdfast. */
  bug: 70,
  /** The state directory or its disk. */
  storage: 74,
  /** In use by another: the process is traced already, the state directory has an owner. May work later. */
  busy: 75,
  /** The debugger stub or another peer broke its protocol, or went away. */
  protocol: 76,
  permission: 77,
  config: 78,
  programNotExecutable: 126,
  programNotFound: 127,
} as const;

/** The base of the exit code for a program that a signal ended. */
export const signalExitFrom = 128;

/** By error code; a family (`gdb`) stands for all its codes that are not listed. */
const byErrorCode: Readonly<Record<string, number>> = {
  bug: exitCodes.bug,
  binary: exitCodes.unavailable,
  "config.argument": exitCodes.usage,
  config: exitCodes.config,
  "gdb.start": exitCodes.unavailable,
  "gdb.version": exitCodes.unavailable,
  "gdb.busy": exitCodes.busy,
  "gdb.gone": exitCodes.notFound,
  "gdb.permission": exitCodes.permission,
  "gdb.attach": exitCodes.permission,
  gdb: exitCodes.protocol,
  "hypervisor.notFound": exitCodes.unavailable,
  "hypervisor.kvm": exitCodes.unavailable,
  "hypervisor.unsupported": exitCodes.unavailable,
  "hypervisor.unsupervised": exitCodes.unavailable,
  "hypervisor.socket": exitCodes.busy,
  hypervisor: exitCodes.protocol,
  native: exitCodes.unavailable,
  "program.notFound": exitCodes.programNotFound,
  "program.notExecutable": exitCodes.programNotExecutable,
  "program.unsupported": exitCodes.programNotExecutable,
  "program.gone": exitCodes.notFound,
  "program.permission": exitCodes.permission,
  "program.busy": exitCodes.busy,
  "program.state": exitCodes.busy,
  status: exitCodes.unavailable,
  "storage.locked": exitCodes.busy,
  "storage.notFound": exitCodes.notFound,
  "storage.owner": exitCodes.permission,
  storage: exitCodes.storage,
  "update.bundle": exitCodes.usage,
  "update.state": exitCodes.busy,
  "update.noSlots": exitCodes.unavailable,
  "update.tool": exitCodes.unavailable,
  "update.fetch": exitCodes.unavailable,
  "update.environment": exitCodes.storage,
  update: exitCodes.no,
  "telemetry.settings": exitCodes.usage,
  "telemetry.payload": exitCodes.usage,
  "telemetry.key": exitCodes.usage,
  "telemetry.refused": exitCodes.permission,
  "telemetry.connect": exitCodes.unavailable,
  "telemetry.timeout": exitCodes.unavailable,
  telemetry: exitCodes.protocol,
};

export function exitCodeOf(error: unknown): number {
  if (!(error instanceof HoldfastError)) return exitCodes.bug;
  const family = error.code.split(".")[0]!;
  return byErrorCode[error.code] ?? byErrorCode[family] ?? exitCodes.bug;
}
