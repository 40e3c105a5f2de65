// SPDX-License-Identifier: Apache-2.0
/**
 * Whose request it was that killed a program inside a guest, and whether the others are served after it: seen by nothing but
 * the guest kit.
 */
import { describe, expect } from "bun:test";
import { join } from "node:path";
import { stubPort } from "#appliance/guests/guestProgram.ts";
import { systemClock } from "#clock.ts";
import { VsockPeer } from "#tests/peers/vsockPeer.ts";
import { need } from "#tests/skip.ts";
import {
  answerOf,
  connectTo,
  Guarded,
  guardOwn,
  idleLooksMs,
  startRedisByNetwork,
  type Told,
  top,
} from "./guestProgramScene.ts";

describe("connections of a program in a guest", () => {
  const test = need("gdbserver", "redis-server");
  /** Kills with each command from a connection of its own, beside others that go on; tells whose connection was closed. */
  async function killBeside(guarded: Guarded, port: number, commands: readonly string[]): Promise<string[]> {
    const bystanders = await Promise.all(Array.from({ length: 12 }, () => connectTo(port)));
    const closed: string[] = [];
    for (const command of commands) {
      const killer = await connectTo(port);
      const peer = `127.0.0.1:${killer.localPort}`;
      const end = new Promise((resolve) => killer.once("close", resolve));
      killer.write(`${command}\r\n`);
      const { id } = await guarded.next({ event: "fault" });
      const { rung, session } = (await guarded.next({ event: "outcome", id })) as Told & { session: { peer: string } };
      if (rung === "quarantine") {
        closed.push(session.peer === peer ? "killer" : "bystander");
        await end;
      }
      killer.destroy();
      for (const bystander of bystanders) {
        const answered = answerOf(bystander);
        bystander.write("PING\r\n");
        expect(await answered).toBe("+PONG\r\n");
      }
    }
    for (const bystander of bystanders) bystander.destroy();
    return closed;
  }

  const kills = ["DEBUG SEGFAULT", "DEBUG ASSERT", "DEBUG SEGFAULT"];
  need("gdbserver", "redis-server", "ss")(
    "the connection whose request kills is closed, and no other",
    async () => {
      const { server: redis, port } = await startRedisByNetwork();
      await using _redis = { [Symbol.asyncDispose]: async () => redis.kill("SIGKILL") };
      using vsock = new VsockPeer(join(top, "network-vsock.sock"));
      await using guarded = new Guarded();
      await guarded.start(vsock.path, systemClock, "network");
      expect(await guarded.next({ event: "guarding" })).toMatchObject({ pid: redis.pid, serving: true });
      expect(await killBeside(guarded, port, kills)).toEqual(kills.map(() => "killer"));
      expect(redis.exitCode).toBeNull();
    },
    90_000,
  );

  test("a kit that cannot list connections: the same, and rather nobody's is closed than another's", async () => {
    const { server: redis, port } = await startRedisByNetwork();
    await using _redis = { [Symbol.asyncDispose]: async () => redis.kill("SIGKILL") };
    using vsock = new VsockPeer(join(top, "older-vsock.sock"), [stubPort]);
    await using guarded = new Guarded();
    await guarded.start(vsock.path, systemClock, "older");
    expect(await guarded.next({ event: "guarding" })).toMatchObject({ pid: redis.pid, serving: true });
    expect(await killBeside(guarded, port, kills)).not.toContain("bystander");
    expect(redis.exitCode).toBeNull();
  }, 90_000);

  need("gdbserver", "gcc", "ss")(
    "a program that waits for events and does nothing about them was not saved",
    async () => {
      await using own = await guardOwn("real/zoo/programs/zombie.c", ["workers", "tcp:PORTFILE", "1"]);
      const { server, port, guarded } = own;
      expect(await guarded.next({ event: "guarding" })).toMatchObject({ pid: server.pid });
      const bystanders = await Promise.all(Array.from({ length: 4 }, () => connectTo(port)));
      for (const bystander of bystanders) {
        bystander.write("echo hello\n");
        expect(await answerOf(bystander)).toContain("hello");
      }
      const killer = await connectTo(port);
      killer.write("die mute\n");
      const { id } = await guarded.next({ event: "fault" });
      for (const bystander of bystanders) bystander.write("echo anybody\n");
      const outcome = await guarded.next({ event: "outcome", id });
      expect(outcome.verdict).toBe("failed");
      expect(String(outcome.evidence)).toContain("nobody was answered");
      for (const socket of [killer, ...bystanders]) socket.destroy();
    },
    90_000,
  );

  need("gdbserver", "gcc")(
    "where each connection has a thread, the one of the faulting thread is closed",
    async () => {
      await using own = await guardOwn("programs/loops.c", ["threads"]);
      const { server, port, guarded } = own;
      expect(await guarded.next({ event: "guarding" })).toMatchObject({ pid: server.pid });
      const bystanders = await Promise.all(Array.from({ length: 4 }, () => connectTo(port)));
      const killer = await connectTo(port);
      for (const socket of [...bystanders, killer]) {
        socket.write("p0");
        expect(await answerOf(socket)).toBe("ok\n");
      }
      // Each thread is seen waiting for its connection.
      await systemClock.sleep(idleLooksMs);
      const closed = new Promise((resolve) => killer.once("close", resolve));
      const peer = `127.0.0.1:${killer.localPort}`;
      killer.write("f0");
      const { id } = await guarded.next({ event: "fault" });
      expect(await guarded.next({ event: "outcome", id })).toMatchObject({ rung: "quarantine", session: { peer } });
      await closed;
      for (const socket of bystanders) {
        socket.write("p0");
        expect(await answerOf(socket)).toBe("ok\n");
        socket.destroy();
      }
    },
    90_000,
  );
});
