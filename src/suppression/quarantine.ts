// SPDX-License-Identifier: Apache-2.0
/**
 * Rung 2: the session's socket is replaced in place by an inert descriptor, by system calls of the stopped thread itself.
 *
 * Inert: a timer that is never armed. It has no event, a read gives EAGAIN, a write EINVAL (measured; an eventfd is always
 * writable). The peer sees a close, no event ever fires for the session again, and its descriptor number is not given to
 * anybody else under the program. Gets the report, the session, the right to the thread; gives why it failed, or null.
 */
import { hex } from "#bytes.ts";
import { HoldfastError } from "#errors.ts";
import type { FaultReport, Session, ThreadControl } from "#fault.ts";

const clockMonotonic = 1n;
/** The same values on both architectures. */
const timerFlags = 0x80800n; // TFD_CLOEXEC | TFD_NONBLOCK
const closeOnExec = 0x80000n;
const epollDelete = 2n;
const shutBoth = 2n;

export async function quarantine(
  report: FaultReport,
  session: Session,
  control: ThreadControl,
): Promise<string | null> {
  try {
    const fd = BigInt(session.fd);
    // A connection that somebody else holds outlives our replacement. In a multiplexer it would go on to tell of events of a
    // session that the program has freed; where it is a child's too, it is also shut by hand.
    for (const multiplexer of report.multiplexers ?? []) {
      await control.systemCall("epoll_ctl", [BigInt(multiplexer), epollDelete, fd, 0n]);
    }
    if (report.connectionsShared) await control.systemCall("shutdown", [fd, shutBoth]);
    const inert = await control.systemCall("timerfd_create", [clockMonotonic, timerFlags]);
    if (inert < 0n) return `timerfd_create gave ${inert}`;
    const replaced = await control.systemCall("dup3", [inert, fd, closeOnExec]);
    await control.systemCall("close", [inert]);
    return replaced === fd ? null : `dup3 gave ${hex(replaced)}`;
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    // The request is still abandoned; the outcome says that its session was not cut.
    return error.message;
  }
}
