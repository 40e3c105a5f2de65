// SPDX-License-Identifier: Apache-2.0
/**
 * Sockets of another process, and addresses in words. Gets socket addresses as the kernel writes them, and a child with real
 * connections; gives what is said of them.
 */
import { expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describePeer, ForeignSockets } from "#board/native/foreignSockets.ts";
import { NativeError } from "#errors.ts";

const bytes = (...values: number[]): Uint8Array => new Uint8Array(values);

test("socket addresses in words", () => {
  expect(describePeer(bytes(2, 0, 0x1f, 0x90, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 0, 0))).toEqual({
    family: "inet",
    peer: "192.0.2.7:8080",
  });
  const six = (...groups: number[]): Uint8Array =>
    bytes(10, 0, 0, 80, 0, 0, 0, 0, ...groups.flatMap((group) => [group >> 8, group & 255]), 0, 0, 0, 0);
  expect(describePeer(six(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))?.peer).toBe("[2001:db8::1]:80");
  expect(describePeer(six(0, 0, 0, 0, 0, 0, 0, 1))?.peer).toBe("[::1]:80");
  expect(describePeer(six(0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0207))?.peer).toBe("[::ffff:192.0.2.7]:80");
  expect(describePeer(bytes(1, 0, ...Buffer.from("/run/x\0\0")))).toEqual({ family: "unix", peer: "unix:/run/x" });
  for (const short of [bytes(), bytes(2), bytes(2, 0, 1), bytes(10, 0, 1, 2, 3), bytes(99, 0, 1, 2, 3, 4)]) {
    expect(describePeer(short)).toBeNull();
  }
});

test("our own connections seen as if they were another's", async () => {
  const server: Server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const accepted = new Promise<Socket>((resolve) => server.once("connection", resolve));
  const client = connect(port, "127.0.0.1");
  await new Promise<void>((resolve) => client.once("connect", resolve));
  const peer = await accepted;
  peer.pause();
  using sockets = new ForeignSockets(process.pid);
  const all = Array.from({ length: 256 }, (_, fd) => sockets.look(fd)).filter((socket) => socket !== null);
  const seen = all.filter(
    (socket) => socket.peer === `127.0.0.1:${client.localPort}` || socket.peer === `127.0.0.1:${port}`,
  );
  expect(seen.length).toBeGreaterThanOrEqual(2);
  expect(seen.every((socket) => socket.family === "inet" && socket.tcp !== null)).toBe(true);
  client.destroy();
  peer.destroy();
  server.close();
});

test("a process that is not there is an error with its errno", () => {
  expect(() => new ForeignSockets(2 ** 22 + 1)).toThrow(NativeError);
});

function unixConnections(): number {
  using sockets = new ForeignSockets(process.pid);
  const seen = readdirSync("/proc/self/fd").map((fd) => sockets.look(Number(fd)));
  return seen.filter((socket) => socket?.family === "unix").length;
}

test("an accepted unix connection is a client's; our own call and a pair are nobody's", async () => {
  const directory = mkdtempSync(join(tmpdir(), "holdfast-sockets-"));
  const path = join(directory, "socket");
  const before = unixConnections();
  const accepted = Promise.withResolvers<void>();
  const listener = Bun.listen({ unix: path, socket: { open: () => accepted.resolve(), data() {} } });
  const client = await Bun.connect({ unix: path, socket: { data() {} } });
  const child = Bun.spawn(["cat"], { stdin: "pipe", stdout: "pipe" });
  await accepted.promise;
  expect(unixConnections()).toBe(before + 1);
  child.kill();
  await child.exited;
  client.end();
  listener.stop(true);
  rmSync(directory, { recursive: true });
});
