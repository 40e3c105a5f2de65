// SPDX-License-Identifier: Apache-2.0
/**
 * Clients of a busy server that was answering them one after the other until one of its threads stopped, and answers nobody
 * any more: each has read what it read, its threads wait for each other. Gets the connections at the stop, and now; gives the
 * names of those that ask in vain. Pure. Whether anybody was sent anything meanwhile is the caller's to know.
 *
 * They are silenced only together: at least `togetherMin`, and nearly all who were being answered. TCP only.
 */
import type { ForeignSocket } from "#board/native/foreignSockets.ts";

type NameOf = (socket: ForeignSocket) => string;
type Told = { readonly received: bigint; readonly sent: bigint };
/** Those that were being answered at a stop, by name. */
export type Flow = ReadonlyMap<string, Told>;

/** Who was sent something so lately is being answered. */
const flowMs = 250;
const togetherMin = 2;
const togetherShare = 0.8;

export function flowOf(sockets: readonly ForeignSocket[], nameOf: NameOf): Flow {
  return new Map(
    sockets.flatMap((socket) => {
      const { tcp } = socket;
      if (tcp === null || tcp.bytesSent === 0n || tcp.lastSentMs >= flowMs) return [];
      return [[nameOf(socket), { received: tcp.bytesReceived, sent: tcp.bytesSent }]];
    }),
  );
}

export function silencedAmong(sockets: readonly ForeignSocket[], flow: Flow, nameOf: NameOf): string[] {
  const there = sockets.filter((socket) => flow.has(nameOf(socket)));
  const asking = there.filter((socket) => isAsking(socket, flow.get(nameOf(socket))!)).map(nameOf);
  return asking.length >= togetherMin && asking.length >= togetherShare * there.length ? asking : [];
}

/** The ticks of the kernel's clock do not always tell what came last; the segments, or what has come since, may. */
function isAsking({ tcp, unreadBytes }: ForeignSocket, before: Told): boolean {
  if (tcp === null) return false;
  const { lastReceivedMs, lastSentMs, bytesReceived, bytesSent, balance } = tcp;
  if (unreadBytes > 0 || lastReceivedMs < lastSentMs) return true;
  if (bytesSent === before.sent && bytesReceived > before.received) return true;
  return lastReceivedMs === lastSentMs && balance > 0;
}
