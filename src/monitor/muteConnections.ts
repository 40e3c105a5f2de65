// SPDX-License-Identifier: Apache-2.0
/**
 * Connections whose requests were read and are never answered: a server that has lost its answers, or the timer that would
 * have sent them, looks idle and well. Gets the connections at the first of some stops, and now; gives those.
 *
 * One counts where its last request had been answered then, and where now, beside that the last thing that came is a request,
 * more segments came and fewer went than then: an acknowledgement of something that was sent to it is no request. TCP only.
 */
import type { ForeignSocket } from "#board/native/foreignSockets.ts";

type NameOf = (socket: ForeignSocket) => string;
type Rest = { readonly balance: number; readonly received: bigint };
export type AtRest = ReadonlyMap<string, Rest>;

/** A server that leaves more than this part of its connections without an answer does so by its nature. */
const restShareMin = 0.8;
/** So many are no accident. */
const mutesMin = 2;
const none: AtRest = new Map();

const isAsking = ({ lastReceivedMs, lastSentMs }: NonNullable<ForeignSocket["tcp"]>): boolean =>
  lastReceivedMs < lastSentMs;

/** Connections that had their answer, by name; none where that is not usual. */
export function restOf(sockets: readonly ForeignSocket[], nameOf: NameOf): AtRest {
  const counted = sockets.filter(({ tcp }) => tcp !== null);
  const rest = counted.filter(({ tcp }) => !isAsking(tcp!));
  if (rest.length < restShareMin * counted.length) return none;
  return new Map(
    rest.map((socket) => [nameOf(socket), { balance: socket.tcp!.balance, received: socket.tcp!.bytesReceived }]),
  );
}

/**
 * Their names, each with what it has been sent so far: an answer makes another name of it. None where more were answered
 * than not: then it is their requests that take long.
 */
export function mutesAmong(sockets: readonly ForeignSocket[], rest: AtRest, nameOf: NameOf): string[] {
  const asked = sockets.flatMap((socket) => {
    const before = rest.get(nameOf(socket));
    const { tcp } = socket;
    return before === undefined || tcp === null || tcp.bytesReceived <= before.received
      ? []
      : [{ socket, tcp, before }];
  });
  const mutes = asked.filter(
    ({ socket, tcp, before }) => socket.unreadBytes === 0 && isAsking(tcp) && tcp.balance > before.balance,
  );
  if (mutes.length < mutesMin || mutes.length * 2 <= asked.length) return [];
  return mutes.map(({ socket, tcp }) => `${tcp.bytesSent} ${nameOf(socket)}`);
}
