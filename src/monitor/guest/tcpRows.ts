// SPDX-License-Identifier: Apache-2.0
/**
 * TCP sockets as texts tell of them: the kernel's tables, `/proc/net/tcp` and `tcp6`; and the list of ss, which also has how
 * long ago each was last heard and answered. Gets the text; gives a row for each socket. Pure.
 *
 * Addresses of the tables are 32-bit words as the processor holds them, in hex: all ours are little-endian. ss is asked for
 * one line a socket, numbers, and what it is (`-HOtien`); what is zero it leaves out. Source: proc(5), `net/ipv4/tcp_ipv4.c`
 * and `net/ipv6/tcp_ipv6.c`, Linux 6.1; ss(8), `misc/ss.c` of iproute2 6.1.
 */
import { describePeer, type ForeignSocket } from "#board/native/foreignSockets.ts";

export type TcpRow = {
  /** In decimal; "0" for one that no process holds any more. */
  readonly inode: string;
  readonly family: "inet" | "inet6" | "unix";
  /** `ip:port` or `[ip]:port`. */
  readonly peer: string;
  readonly listens: boolean;
  /** Bytes received and not read; of one that listens, connections not accepted. */
  readonly unreadBytes: number;
  /** null where the text does not tell. */
  readonly tcp: ForeignSocket["tcp"];
};

const listening = "0A";
/** Families by how many hexadecimal digits their addresses have. */
const families: Readonly<Record<number, number>> = { 8: 2, 32: 10 };
/** Before the address of a `sockaddr_in` are family and port; of a `sockaddr_in6` the flow as well. */
const addressAt: Readonly<Record<number, number>> = { 2: 4, 10: 8 };
const nameBytes = 28;

/** Lines that are no row are left out. */
export function tcpRowsIn(table: string): TcpRow[] {
  return table.split("\n").flatMap((line) => {
    // sl, local, remote, state, tx:rx, timer, retransmits, uid, timeout, inode.
    const [, , remote, state, queues, , , , , inode] = line.trim().split(/\s+/);
    const peer = peerOf(remote ?? "");
    const unread = /^[\da-f]{8}:([\da-f]{8})$/i.exec(queues ?? "")?.[1];
    if (peer === null || unread === undefined || inode === undefined || !/^\d+$/.test(inode)) return [];
    return [{ inode, ...peer, listens: state === listening, unreadBytes: Number.parseInt(unread, 16), tcp: null }];
  });
}

/** Lines that are no connection are left out. */
export function connectionsIn(list: string): TcpRow[] {
  return list.split("\n").flatMap((line) => {
    // State, bytes received and not read, bytes not acknowledged, local, remote; then words with their values.
    const [, unread, , , peer] = line.trim().split(/\s+/);
    const numbers = new Map([...line.matchAll(/\b(\w+):(\d+)\b/g)].map(([, name, number]) => [name!, number!]));
    const inode = numbers.get("ino");
    if (peer === undefined || inode === undefined || !/^\d+$/.test(unread ?? "")) return [];
    const number = (name: string): number => Number(numbers.get(name) ?? 0);
    // A kernel without tcp_diag has no more for ss than its tables; with it, a congestion window is always there.
    const isTold = numbers.has("cwnd");
    const tcp = {
      lastSentMs: number("lastsnd"),
      lastReceivedMs: number("lastrcv"),
      bytesReceived: BigInt(numbers.get("bytes_received") ?? 0),
      bytesSent: BigInt(numbers.get("bytes_sent") ?? 0),
      balance: number("data_segs_in") - number("data_segs_out"),
    };
    const family = peer.startsWith("[") ? "inet6" : "inet";
    return [{ inode, family, peer, listens: false, unreadBytes: Number(unread), tcp: isTold ? tcp : null }];
  });
}

/** `0100007F:1F90` is 127.0.0.1:8080. */
function peerOf(text: string): Pick<TcpRow, "family" | "peer"> | null {
  const [, words = "", port = ""] = /^((?:[\da-f]{8})+):([\da-f]{4})$/i.exec(text) ?? [];
  const family = families[words.length];
  if (family === undefined) return null;
  const name = new DataView(new ArrayBuffer(nameBytes));
  name.setUint16(0, family, true);
  name.setUint16(2, Number.parseInt(port, 16));
  for (let digit = 0; digit < words.length; digit += 8) {
    name.setUint32(addressAt[family]! + digit / 2, Number.parseInt(words.slice(digit, digit + 8), 16), true);
  }
  return describePeer(new Uint8Array(name.buffer));
}
