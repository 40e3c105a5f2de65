// SPDX-License-Identifier: Apache-2.0
/**
 * A redis guarded as a program inside a guest is: through a vsock socket and the guest kit's gdbserver, by nothing else.
 */
import { describe, expect, test as plain } from "bun:test";
import { join } from "node:path";
import { stubPort } from "#appliance/guests/guestProgram.ts";
import { systemClock } from "#clock.ts";
import { firstNamed } from "#monitor/guest/findProgram.ts";
import { readStatus } from "#monitor/processes.ts";
import { VsockPeer } from "#tests/peers/vsockPeer.ts";
import { need } from "#tests/skip.ts";
import { answerOf, ask, connectTo, Guarded, guardOwn, hurriedClock, startRedis, top } from "./guestProgramScene.ts";

describe("a program in a guest", () => {
  const test = need("gdbserver", "redis-server");
  test("takes fatal signals and goes on; a new supervisor guards it again; a new process is found", async () => {
    const socket = join(top, "redis.sock");
    await using redis = await startRedis(socket);
    using vsock = new VsockPeer(join(top, "vsock.sock"));
    {
      await using guarded = new Guarded();
      await guarded.start(vsock.path);
      expect(await guarded.next({ event: "guarding" })).toMatchObject({ pid: redis.pid, serving: true });
      expect(await ask(socket, "SET key kept")).toBe("+OK");
      const stops: number[] = [];
      for (const command of ["DEBUG SEGFAULT", "DEBUG SEGFAULT", "DEBUG ASSERT", "DEBUG PANIC"]) {
        void ask(socket, command).catch(() => "");
        const fault = await guarded.next({ event: "fault" });
        stops.push(fault.stopUs as number);
        const outcome = await guarded.next({ event: "outcome" });
        expect(outcome.verdict).toBeOneOf(["clean", "degraded"]);
        expect(outcome.rung).toBe("abandon");
        expect((await ask(socket, "GET key")).split("\r\n")[1]).toBe("kept");
      }
      expect(redis.exitCode).toBeNull();
      console.log(`stops through the stub: ${stops.join(", ")} µs`);
    }
    // Let go: the stub has let go too, and nobody traces it.
    while (readStatus(redis.pid)?.tracerPid !== 0) await systemClock.sleep(10);
    await using again = new Guarded();
    await again.start(vsock.path);
    expect(await again.next({ event: "guarding" })).toMatchObject({ pid: redis.pid });
    redis.kill("SIGKILL");
    await again.next({ event: "exit" });
    await using other = await startRedis(socket);
    expect(await again.next({ event: "guarding" })).toMatchObject({ pid: other.pid });
    other.kill("SIGKILL");
  }, 90_000);

  test("a guest without the kit is told what it lacks, once; its neighbour's program is guarded meanwhile", async () => {
    await using redis = await startRedis(join(top, "beside.sock"));
    using vsock = new VsockPeer(join(top, "beside-vsock.sock"));
    using bare = new VsockPeer(join(top, "bare-vsock.sock"), []);
    await using unguarded = new Guarded();
    await unguarded.start(bare.path, hurriedClock, "bare");
    await using beside = new Guarded();
    await beside.start(vsock.path, systemClock, "beside");
    const text = `nothing answers on vsock port ${stubPort} of guest g: install the guest kit in it (vm/guest-kit/README.md)`;
    expect(await unguarded.next({ event: "warning" })).toMatchObject({ workload: "redis", text });
    expect(await beside.next({ event: "guarding" })).toMatchObject({ pid: redis.pid, serving: true });
    while (bare.refused < 3) await systemClock.sleep(10);
    expect(unguarded.told).toEqual([]);
    redis.kill("SIGKILL");
  }, 90_000);

  need("gdbserver", "gcc")(
    "a thread that goes round for ever is brought back; long work is left alone",
    async () => {
      const hang = { waitedMs: 1_000, unwaitedMs: 60_000 };
      await using own = await guardOwn("programs/loops.c", ["epoll"], { hang });
      const { server, port, guarded } = own;
      expect(await guarded.next({ event: "guarding" })).toMatchObject({ pid: server.pid, serving: true });
      const [worker, guilty, bystander] = [await connectTo(port), await connectTo(port), await connectTo(port)];
      bystander.write("p0");
      expect(await answerOf(bystander)).toBe("ok\n");
      const session = { peer: `127.0.0.1:${guilty.localPort}` };
      guilty.write("l0");
      await systemClock.sleep(20);
      const answered = answerOf(bystander);
      bystander.write("p0");
      expect(await answered).toBe("ok\n");
      const { id } = await guarded.next({ event: "fault", signal: "SIGSTOP" });
      expect(await guarded.next({ event: "outcome", id })).toMatchObject({
        rung: "quarantine",
        verdict: "clean",
        session,
      });
      expect(server.exitCode).toBeNull();
      for (const socket of [worker, guilty, bystander]) socket.destroy();
    },
    90_000,
  );

  need("gdbserver", "gcc")(
    "locks that abandoned work has left are released when another waits for them",
    async () => {
      await using own = await guardOwn("programs/locks.c", []);
      const { server, port, guarded } = own;
      expect(await guarded.next({ event: "guarding" })).toMatchObject({ pid: server.pid });
      // A plain mutex is freed by a write, a robust one by its holder, a stream's by its thread pointer.
      for (const kind of ["0", "4", "8"]) {
        const [killer, bystander] = [await connectTo(port), await connectTo(port)];
        killer.write("p0");
        expect(await answerOf(killer)).toBe("ok\n");
        killer.write(`x${kind}`);
        await guarded.next({ event: "fault" });
        const answered = answerOf(bystander);
        bystander.write(`l${kind}`);
        expect(await answered).toBe("ok\n");
        await guarded.next({ event: "released" });
        for (const socket of [killer, bystander]) socket.destroy();
      }
      expect(server.exitCode).toBeNull();
    },
    90_000,
  );

  plain("is found by its own name", () => {
    const processes = [
      { pid: 9, command: "/usr/sbin/nginx: worker" },
      { pid: 4, command: "nginx: master process /usr/sbin/nginx" },
      { pid: 7, command: "nginx: worker process" },
      { pid: 8, command: "nginx: worker process" },
      { pid: 3, command: "/usr/bin/redis-server 127.0.0.1:6379" },
      { pid: 2, command: "redis-server-helper" },
    ];
    expect(firstNamed("nginx: worker", processes)).toBe(7);
    expect(firstNamed("nginx", processes)).toBe(4);
    expect(firstNamed("redis-server", processes)).toBe(3);
    expect(firstNamed("redis", processes)).toBeNull();
  });
});
