// SPDX-License-Identifier: Apache-2.0
/**
 * A thread that waits, told as if it had faulted there: what a rehearsal of the fault path works on.
 */
import { callingConvention } from "#binary/callingConvention.ts";
import type { Clock } from "#clock.ts";
import type { Architecture, FaultId, Registers } from "#fault.ts";
import type { StopFacts } from "./faultDecoder.ts";
import type { BlockedThread } from "./processes.ts";

/** What is known of the registers of a thread that is blocked in the kernel. */
function registersOf(blocked: BlockedThread, architecture: Architecture): Registers {
  const { pc, sp, names } = callingConvention[architecture];
  return names.map((_, register) => (register === pc ? blocked.pc : register === sp ? blocked.sp : null));
}

/** A blocked thread as if it had faulted where it waits. */
export function rehearsalOf(
  tid: number,
  blocked: BlockedThread,
  { clock, architecture }: { readonly clock: Clock; readonly architecture: Architecture },
): StopFacts {
  return {
    id: "rehearsal" as FaultId,
    atMs: clock.wallMs(),
    tid,
    threadName: "",
    threads: 1,
    signal: "SIGSEGV",
    registers: registersOf(blocked, architecture),
    cause: null,
    caught: false,
    deliveredBefore: null,
    blockedSince: null,
    connections: { sockets: [], shared: false, multiplexers: null },
    loop: null,
  };
}
