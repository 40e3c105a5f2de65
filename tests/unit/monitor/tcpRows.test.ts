// SPDX-License-Identifier: Apache-2.0
/**
 * TCP sockets in the kernel's own tables and in the list of ss, compared with what system calls say of the same sockets; and
 * texts that are none.
 */
import { describe, expect, test as plain } from "bun:test";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { type ForeignSocket, ForeignSockets } from "#board/native/foreignSockets.ts";
import { connectionsIn, type TcpRow, tcpRowsIn } from "#monitor/guest/tcpRows.ts";
import { need } from "#tests/skip.ts";

const message = "seven b";

function linkOf(fd: number): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return ""; // It was that of the listing.
  }
}

const tables = (): string => ["tcp", "tcp6"].map((name) => readFileSync(`/proc/self/net/${name}`, "latin1")).join("");

/** A connection of ours, with something in it that was not read; the kernel's view of both ends, and that of a text. */
async function bothViews(host: string, rowsNow: () => TcpRow[]): Promise<{ called: ForeignSocket; told?: TcpRow }[]> {
  const server = createServer({ pauseOnConnect: true });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  const { port } = server.address() as { port: number };
  const accepted = new Promise<Socket>((resolve) => server.once("connection", resolve));
  const client = connect(port, host);
  const peer = await accepted;
  await new Promise<void>((resolve) => client.write(message, () => resolve()));
  const ports = [port, client.localPort];
  const rows = rowsNow();
  using sockets = new ForeignSockets(process.pid);
  const both = readdirSync("/proc/self/fd").flatMap((fd) => {
    const called = sockets.look(Number(fd));
    if (called === null || !ports.some((each) => called.peer.endsWith(`:${each}`))) return [];
    const told = rows.find(({ inode }) => linkOf(Number(fd)) === `socket:[${inode}]`);
    return [told === undefined ? { called } : { called, told }];
  });
  client.destroy();
  peer.destroy();
  server.close();
  return both;
}

describe.each(["127.0.0.1", "::1"])("connections by %s", (host) => {
  plain("are in the tables, with what waits in them", async () => {
    const both = await bothViews(host, () => tcpRowsIn(tables()));
    expect(both).toHaveLength(2);
    for (const { called, told } of both) {
      const { family, peer, unreadBytes } = called;
      expect(told).toMatchObject({ family, peer, unreadBytes, listens: false, tcp: null });
    }
    expect(both.map(({ told }) => told!.unreadBytes).sort()).toEqual([0, message.length]);
  });

  need("ss")("are in the list of ss, with all that the kernel says of them", async () => {
    // As the guest kit asks.
    const words = ["ss", "-HOtien", "state", "established", "state", "close-wait"];
    const both = await bothViews(host, () => connectionsIn(Bun.spawnSync(words).stdout.toString()));
    expect(both).toHaveLength(2);
    for (const { called, told } of both) {
      const { family, peer, unreadBytes, tcp } = called;
      const { bytesReceived, bytesSent, balance } = tcp!;
      expect(told).toMatchObject({ family, peer, unreadBytes, tcp: { bytesReceived, bytesSent, balance } });
      // It was asked a moment before.
      expect(tcp!.lastReceivedMs - told!.tcp!.lastReceivedMs).toBeWithin(-100, 5_000);
      expect(tcp!.lastSentMs - told!.tcp!.lastSentMs).toBeWithin(-100, 5_000);
    }
  });
});

plain("ss on a kernel without tcp_diag: what is not told is not zero", () => {
  const line = "ESTAB 0 12 10.0.0.2:6379 10.0.0.1:51512 uid:110 ino:502 sk:1 <->";
  const row = { inode: "502", family: "inet", peer: "10.0.0.1:51512", listens: false, unreadBytes: 0 } as const;
  expect(connectionsIn(line)).toEqual([{ ...row, tcp: null }]);
  const tcp = { lastSentMs: 0, lastReceivedMs: 4, bytesReceived: 9n, bytesSent: 0n, balance: 1 };
  const told = `${line} ts sack rto:204 cwnd:10 bytes_received:9 segs_in:3 data_segs_in:1 lastrcv:4 pacing_rate 1Mbps`;
  expect(connectionsIn(told)).toEqual([{ ...row, tcp }]);
});

plain("a socket that listens is told as such; what is no row is left out", () => {
  const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
  const row = (state: string, inode: string, remote = "0100007F:C4D2"): string =>
    `   0: 0100007F:1F90 ${remote} ${state} 00000000:0000001F 00:00000000 00000000     0        0 ${inode} 1 0000000000000000 20 4 30 10 -1`;
  expect(tcpRowsIn([head, row("0A", "501", "00000000:0000"), row("01", "502")].join("\n"))).toEqual([
    { inode: "501", family: "inet", peer: "0.0.0.0:0", listens: true, unreadBytes: 31, tcp: null },
    { inode: "502", family: "inet", peer: "127.0.0.1:50386", listens: false, unreadBytes: 31, tcp: null },
  ]);
  for (const text of ["", head, row("01", "x"), row("01", "502", "7F:1"), row("01", "502").slice(0, 40)]) {
    expect(tcpRowsIn(text)).toEqual([]);
    expect(connectionsIn(text)).toEqual([]);
  }
});
