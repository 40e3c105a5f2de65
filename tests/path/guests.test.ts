// SPDX-License-Identifier: Apache-2.0
/**
 * Guests under supervision on the scripted hypervisor: every fault ends in its rung, commands do what they say, a new
 * supervisor takes over, and one guest's trouble is nobody else's.
 */
import { describe, expect, test } from "bun:test";
import { existsSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { GuestRun, Playground } from "#tests/peers/guestRun.ts";

const kernel = import.meta.path;
const guest = (name: string, ...lines: string[]): string =>
  [
    "[[guest]]",
    `name = "${name}"`,
    `kernel = "${kernel}"`,
    'memory = "16M"',
    "landlock = false",
    "stopMs = 100",
    ...(lines.some((line) => line.startsWith("probes")) ? [] : [served]),
    ...lines,
  ].join("\n");
/** Settles at once. */
const served = 'probes = ["cmd:true"]\nprobeEveryMs = 100';
const quick = "restart = { attemptsMax = 3, backoffMs = 10, backoffMsMax = 20 }";
const up = (workload: string) => ({ event: "guest", workload, phase: "up" });

describe("guests under supervision", () => {
  test("start, pause, resume, reset, stop, start", async () => {
    using ground = new Playground();
    await using run = new GuestRun(ground, guest("web"));
    await run.next(up("web"));
    const first = ground.processOf("web");
    expect(await run.control.command("web", "pause")).toMatchObject({ phase: "paused", pid: first });
    await expect(run.control.command("web", "pause")).rejects.toThrow("it cannot pause now: the guest is paused");
    expect(await run.control.command("web", "resume")).toMatchObject({ phase: "booting" });
    expect(await run.control.command("web", "reset")).toMatchObject({ pid: first });
    expect(await run.control.command("web", "stop")).toMatchObject({
      phase: "down",
      pid: null,
      why: "stopped on request",
    });
    expect(ground.processOf("web")).toBeNull();
    expect(await run.control.command("web", "start")).toMatchObject({ phase: "booting" });
    await expect(run.control.show("wbe")).rejects.toMatchObject({ code: "config.argument" });
    expect((await run.control.list()).map(({ name }) => name)).toEqual(["web"]);
  });

  test("a killed process is booted cold; once the budget is spent it is held", async () => {
    using ground = new Playground();
    await using run = new GuestRun(ground, guest("web", quick));
    for (let round = 0; round < 3; round += 1) {
      await run.next(up("web"));
      process.kill(ground.processOf("web")!, "SIGKILL");
      expect(await run.next({ event: "guestFault" })).toMatchObject({ kind: "hypervisorEnded", act: "coldboot" });
    }
    await run.next(up("web"));
    process.kill(ground.processOf("web")!, "SIGKILL");
    expect(await run.next({ event: "guestFault" })).toMatchObject({ act: "hold" });
    await run.next({ event: "guest", phase: "error" });
    expect(await run.control.command("web", "start")).toMatchObject({ attempts: 0 });
  });

  test("a panic told by pvpanic or on the console is answered by a reset, in the same process", async () => {
    using ground = new Playground();
    ground.script("event", { afterBoot: [{ source: "guest", event: "panic", properties: { event: "panic" } }] });
    ground.script("serial", { prints: "[ 1.0] Kernel panic - not syncing: VFS: Unable to mount root fs\n" });
    await using run = new GuestRun(ground, `${guest("event")}\n${guest("serial", "restart = { attemptsMax = 1 }")}`);
    expect(await run.next({ event: "guestFault", workload: "event" })).toMatchObject({ kind: "panic", act: "reset" });
    expect(await run.next({ event: "guestOutcome", workload: "event" })).toMatchObject({
      rung: "reset",
      verdict: "clean",
    });
    const fault = await run.next({ event: "guestFault", workload: "serial" });
    expect(fault).toMatchObject({ act: "reset", why: "kernel panic: VFS: Unable to mount root fs" });
    // It panics again at once: the reset did not help, and the budget of one is spent.
    expect(await run.next({ event: "guestFault", workload: "serial" })).toMatchObject({ act: "hold" });
  });

  test("a guest that serves nobody hangs: reset; until it has settled, probes do not judge", async () => {
    using ground = new Playground();
    const serves = join(ground.path, "serves");
    const probes = `probes = ["cmd:test -e ${serves}"]\nprobeEveryMs = 100\nprobeFailuresMax = 2`;
    await using run = new GuestRun(ground, guest("web", probes, quick));
    await run.next({ event: "guest", phase: "starting" });
    writeFileSync(serves, "");
    await run.next(up("web"));
    rmSync(serves);
    const fault = await run.next({ event: "guestFault" });
    expect(fault).toMatchObject({ kind: "hang", act: "reset" });
    writeFileSync(serves, "");
    expect(await run.next({ event: "guestOutcome" })).toMatchObject({ rung: "reset", verdict: "clean" });
  });

  test("out of memory in the guest is on record, and nothing is done", async () => {
    using ground = new Playground();
    ground.script("web", { prints: "Out of memory: Killed process 7 (redis-server) total-vm:1kB\n" });
    await using run = new GuestRun(ground, guest("web"));
    expect(await run.next({ event: "guestFault" })).toMatchObject({ kind: "outOfMemory", act: "note" });
    await run.next(up("web"));
  });

  test("a new supervisor takes over what runs, and leaves down what was stopped", async () => {
    using ground = new Playground();
    const toml = `${guest("kept")}\n${guest("stopped")}\n${guest("paused")}\n${guest("never", "start = false")}`;
    const before = new GuestRun(ground, toml);
    await before.next(up("kept"));
    await before.next(up("paused"));
    await before.next(up("stopped"));
    await before.control.command("stopped", "stop");
    await before.control.command("paused", "pause");
    const pid = ground.processOf("kept");
    await before[Symbol.asyncDispose]();
    expect(ground.processOf("kept")).toBe(pid);

    await using after = new GuestRun(ground, toml);
    expect(await after.next({ phase: "found running", workload: "kept" })).toMatchObject({ pid });
    await after.next(up("kept"));
    await after.next({ event: "guest", workload: "paused", phase: "paused" });
    const phases = (await after.control.list()).map(({ name, phase }) => `${name} ${phase}`);
    expect(phases).toEqual(["kept up", "stopped down", "paused paused", "never down"]);
  });

  test("what ended while nobody watched is a fault like any other", async () => {
    using ground = new Playground();
    const before = new GuestRun(ground, guest("web"));
    await before.next(up("web"));
    await before[Symbol.asyncDispose]();
    process.kill(ground.processOf("web")!, "SIGKILL");
    await using after = new GuestRun(ground, guest("web"));
    expect(await after.next({ event: "guestFault" })).toMatchObject({ kind: "hypervisorEnded", act: "coldboot" });
    await after.next(up("web"));
  });

  test("guests that cannot start are held or tried again, and the others do not care", async () => {
    using ground = new Playground();
    ground.script("old", { version: "40.0.0", buildVersion: "v40.0" });
    ground.script("broken", { failAtStart: "Bad argument" });
    const toml = [
      guest("good"),
      guest("old"),
      guest("broken", quick),
      guest("bridgeless", 'net = [{ bridge = "no-such-bridge" }]'),
      guest("imageless").replace(kernel, "/nowhere/vmlinuz"),
    ].join("\n");
    await using run = new GuestRun(ground, toml);
    await run.next(up("good"));
    expect(await run.next({ event: "guest", workload: "old", phase: "error" })).toMatchObject({
      why: "Cloud Hypervisor v40.0 is too old: install v52.0 or later (version=40.0.0)",
    });
    const broken = await run.next({ event: "guest", workload: "broken", phase: "error" });
    expect(broken).toMatchObject({ why: expect.stringContaining("Bad argument") });
    const bridgeless = await run.next({ event: "guest", workload: "bridgeless", phase: "error" });
    expect(bridgeless).toMatchObject({ why: expect.stringContaining("there is no network device no-such-bridge") });
    const imageless = await run.next({ event: "guestFault", workload: "imageless" });
    expect(imageless).toMatchObject({ why: expect.stringContaining("Cannot open the kernel image") });
    expect(await run.control.show("good")).toMatchObject({ phase: "up" });
  });

  test("start order: a guest waits for those it names", async () => {
    using ground = new Playground();
    await using run = new GuestRun(ground, `${guest("second", 'after = ["first"]')}\n${guest("first")}`);
    await run.next(up("second"));
    const order = run.notices
      .filter((notice) => notice.event === "guest")
      .map(({ workload, phase }) => `${workload} ${phase}`);
    expect(order.indexOf("first up")).toBeLessThan(order.indexOf("second starting"));
  });

  test("with stopGuests nothing is left: no process, no socket, no door", async () => {
    using ground = new Playground();
    const run = new GuestRun(ground, `${guest("one")}\n${guest("two", 'after = ["one"]')}`, { stopGuests: true });
    await run.next(up("two"));
    await run[Symbol.asyncDispose]();
    for (const name of ["one", "two"]) {
      expect(ground.processOf(name)).toBeNull();
      expect(existsSync(ground.directory(name).apiSocket)).toBe(false);
    }
    expect(existsSync(join(ground.runDirectory, "control.sock"))).toBe(false);
    await expect(run.control.list()).rejects.toMatchObject({ code: "hypervisor.unsupervised" });
  });

  test("a verb that takes longer than a stranger may still gets its answer", async () => {
    using ground = new Playground();
    await using run = new GuestRun(ground, guest("web").replace("stopMs = 100", "stopMs = 11000"));
    await run.next(up("web"));
    expect(await run.control.command("web", "stop")).toMatchObject({ phase: "down" });
  }, 30_000);

  test("directories and sockets are private", async () => {
    using ground = new Playground();
    await using run = new GuestRun(ground, guest("web"));
    await run.next(up("web"));
    const mode = (path: string): number => statSync(path).mode & 0o777;
    expect(mode(ground.runDirectory)).toBe(0o700);
    expect(mode(ground.directory("web").path)).toBe(0o700);
    expect(mode(join(ground.runDirectory, "control.sock"))).toBe(0o600);
  });
});
