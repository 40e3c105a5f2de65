// SPDX-License-Identifier: Apache-2.0
/**
 * A program that is attached to in the middle of its execve(2) gets a SIGTRAP of the kernel's at its end, because its tracer
 * has not asked for exec events yet. Passed on, it would kill the program; it says nothing.
 *
 * Gets a stop and how long the stub has held the program; says whether it is that one. The kernel marks it as sent by the
 * process to itself. Source: `ptrace_event` in `include/linux/ptrace.h`; seen with programs started on a busy machine.
 */
import type { GdbClient } from "#monitor/gdb/client.ts";
import type { StopEvent } from "#monitor/gdb/stopEvent.ts";

/** No execve takes longer. */
const execMsMax = 10_000;
/** SI_USER of sigaction(2). */
const sentByProcess = 0;

export async function isExecTrap(
  stop: Extract<StopEvent, { kind: "signal" }>,
  heldMs: number,
  client: GdbClient,
): Promise<boolean> {
  if (stop.signal !== "SIGTRAP" || stop.tid !== stop.pid || heldMs > execMsMax) return false;
  const { cause } = await client.inspect(stop.tid);
  return cause?.code === sentByProcess && cause.senderPid === stop.pid;
}
