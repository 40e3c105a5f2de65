// SPDX-License-Identifier: Apache-2.0
/**
 * Connections whose requests were read and are never answered: a server that has lost its answers, or the timer that would
 * have sent them, looks idle and well. Gets the connections at the first of some stops, and now; gives those.
 *
 * One counts where its last request had been answered then, and where now, beside that the last thing that came is a request,
 * more segments came and fewer went than then: an acknowledgement of something that was sent to it is no request. TCP only.
 */
import type { ForeignSocket } from "#board/native/foreignSockets.ts";

type AtRest = ReadonlyMap<string, number>;

const isAsking = ({ lastReceivedMs, lastSentMs }: NonNullable<ForeignSocket["tcp"]>): boolean =>
  lastReceivedMs < lastSentMs;

/** The balance of each connection that had its answer, by name. */
export function restOf(sockets: readonly ForeignSocket[], nameOf: (socket: ForeignSocket) => string): AtRest {
  return new Map(
    sockets.flatMap((socket) =>
      socket.tcp !== null && !isAsking(socket.tcp) ? [[nameOf(socket), socket.tcp.balance] as const] : [],
    ),
  );
}

/** Their names, each with what it has been sent so far: an answer makes another name of it. */
export function mutesAmong(
  sockets: readonly ForeignSocket[],
  rest: AtRest,
  nameOf: (socket: ForeignSocket) => string,
): string[] {
  return sockets.flatMap((socket) => {
    const before = rest.get(nameOf(socket));
    const { tcp, unreadBytes } = socket;
    if (before === undefined || tcp === null || unreadBytes > 0 || !isAsking(tcp) || tcp.balance <= before) return [];
    return [`${tcp.bytesSent} ${nameOf(socket)}`];
  });
}
