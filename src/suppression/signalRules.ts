// SPDX-License-Identifier: Apache-2.0
/**
 * A fatal signal is not always a fault. Gets a report; says whether the signal belongs to the program (deliver it) or is
 * a fault of the program (suppress it).
 *
 * Source: siginfo codes from `asm-generic/siginfo.h`; runtimes that live by signals: Go nil checks, WebAssembly traps,
 * JVM safepoints, all of which install a handler and fault in code of their own making.
 */
import type { DeliverReason, FaultReport } from "#fault.ts";

/** Why the signal must reach the program as if nobody watched; null where it is a fault. Pure. */
export function whyDeliver(report: FaultReport): DeliverReason | null {
  if (sentByOther(report)) return "sentByProcess";
  if (raisedByHandler(report)) return "raisedByHandler";
  if (report.caught && ownedByRuntime(report)) return "runtimeOwnsSignal";
  if (!report.serving) return "notServing";
  return null;
}

/**
 * si_code > 0 is the kernel's own word; else the sender counts, and only the program itself raises faults. How it does that
 * is no matter: by raise or abort (tgkill), or by kill to its own process id, as crash handlers do, and `kill $$` in a shell.
 */
function sentByOther(report: FaultReport): boolean {
  const cause = report.cause;
  if (cause === null || report.signal === "SIGSTOP" || cause.code > 0) return false;
  return cause.senderPid !== report.pid;
}

/**
 * A fatal signal inside the handler of one that the program was given: the handler has said its last words and ends the
 * program by itself (redis does), and to suppress it would keep a program alive that somebody wanted to end.
 */
function raisedByHandler({ deliveredBefore, frames, spine }: FaultReport): boolean {
  if (deliveredBefore === null) return false;
  return frames.slice(0, spine ?? frames.length).some(({ enteredBy }) => enteredBy === "signal");
}

/** Faulting code that was made at run time, or that belongs to a runtime with handlers of its own. */
function ownedByRuntime(report: FaultReport): boolean {
  if (report.codeAt === "anonymous") return true;
  const innermost = report.frames[0]?.module;
  return innermost !== undefined && innermost !== null && report.modules[innermost]?.ownsSignals === true;
}
