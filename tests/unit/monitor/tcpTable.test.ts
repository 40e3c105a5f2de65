// SPDX-License-Identifier: Apache-2.0
/** The kernel's own tables of TCP sockets, compared with what its system calls say of the same sockets; and texts that are none. */
import { expect, test } from "bun:test";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { type ForeignSocket, ForeignSockets } from "#board/native/foreignSockets.ts";
import { tcpRowsIn } from "#monitor/guest/tcpTable.ts";

const message = "seven b";

function linkOf(fd: number): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return ""; // It was that of the listing.
  }
}

/** Of each of our connections, what system calls say, and what the tables say. */
function bothViews(): { called: ForeignSocket; told: ReturnType<typeof tcpRowsIn>[number] | undefined }[] {
  using sockets = new ForeignSockets(process.pid);
  const rows = ["tcp", "tcp6"].flatMap((name) => tcpRowsIn(readFileSync(`/proc/self/net/${name}`, "latin1")));
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    const called = sockets.look(Number(fd));
    const told = rows.find(({ inode }) => linkOf(Number(fd)) === `socket:[${inode}]`);
    return called === null || called.family === "unix" ? [] : [{ called, told }];
  });
}

test.each(["127.0.0.1", "::1"])("connections by %s, and what waits in them unread", async (host) => {
  const server = createServer({ pauseOnConnect: true });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  const { port } = server.address() as { port: number };
  const accepted = new Promise<Socket>((resolve) => server.once("connection", resolve));
  const client = connect(port, host);
  const peer = await accepted;
  await new Promise<void>((resolve) => client.write(message, () => resolve()));
  const both = bothViews();
  for (const { called, told } of both) expect(told).toMatchObject({ family: called.family, peer: called.peer });
  const ours = both.find(({ told }) => told?.peer.endsWith(`:${client.localPort}`) === true);
  expect(ours?.told).toMatchObject({ listens: false, unreadBytes: message.length });
  expect(ours?.called.unreadBytes).toBe(message.length);
  client.destroy();
  peer.destroy();
  server.close();
});

test("a socket that listens is told as such; what is no row is left out", () => {
  const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
  const row = (state: string, inode: string, remote = "0100007F:C4D2"): string =>
    `   0: 0100007F:1F90 ${remote} ${state} 00000000:0000001F 00:00000000 00000000     0        0 ${inode} 1 0000000000000000 20 4 30 10 -1`;
  expect(tcpRowsIn([head, row("0A", "501", "00000000:0000"), row("01", "502")].join("\n"))).toEqual([
    { inode: "501", family: "inet", peer: "0.0.0.0:0", listens: true, unreadBytes: 31 },
    { inode: "502", family: "inet", peer: "127.0.0.1:50386", listens: false, unreadBytes: 31 },
  ]);
  for (const text of ["", head, row("01", "x"), row("01", "502", "7F:1"), row("01", "502").slice(0, 40)]) {
    expect(tcpRowsIn(text)).toEqual([]);
  }
});
