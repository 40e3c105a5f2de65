// SPDX-License-Identifier: Apache-2.0
/**
 * The tiny guest under supervision on the real Cloud Hypervisor: panics, hangs, resets, power-off and a killed process, each
 * provoked by a key on its serial console or a signal.
 */
import { describe, expect } from "bun:test";
import { chmodSync, existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { kitPatienceMs, stubPort } from "#appliance/guests/guestProgram.ts";
import { systemClock } from "#clock.ts";
import { GuestRun, Playground } from "#tests/peers/guestRun.ts";
import { realGuest, tinyGuest, tinyGuestToml } from "#tests/peers/tinyGuest.ts";
import { long, type Need, need, root } from "#tests/skip.ts";

const real = need(...realGuest);
const timeoutMs = 60_000;

/** Serves while its row of dots grows. */
function guest(ground: Playground, ...lines: string[]): string {
  const file = ground.directory("tiny").console;
  const grows = `a=$(stat -c %s ${file}); for i in 1 2 3 4 5 6 7 8; do sleep 0.1; b=$(stat -c %s ${file}); [ $b -ne $a ] && exit 0; done; exit 1`;
  const probes = [`probes = ['cmd:${grows}']`, "probeEveryMs = 200", "probeFailuresMax = 2"];
  return tinyGuestToml(['memory = "128M"', "stopMs = 500", ...probes, ...lines]);
}

/** Resolves once the file holds this text. */
async function grows(file: string, text: string): Promise<void> {
  for (let look = 0; look < 500 && !readFileSync(file, "utf8").includes(text); look += 1) await systemClock.sleep(10);
  expect(readFileSync(file, "utf8")).toContain(text);
}

const kvmUsers = (): string[] =>
  (/^kvm:[^:]*:\d+:(.+)$/m.exec(readFileSync("/etc/group", "utf8"))?.[1] ?? "")
    .split(",")
    .filter((user) => user !== "");
const kvmUser: Need = () => (kvmUsers().length > 0 ? null : "a user of the group kvm: useradd -r -G kvm NAME");

/** What each of its threads says of itself under this name. */
const statusOf = (pid: number, name: string): string[] =>
  readdirSync(`/proc/${pid}/task`).map((tid) => {
    const status = readFileSync(`/proc/${pid}/task/${tid}/status`, "utf8");
    return new RegExp(`^${name}:\\s*(.*)$`, "m").exec(status)?.[1] ?? "";
  });

const up = { event: "guest", phase: "up" };
const inFull: Need = () => (long("real") ? null : "the long form: ./scripts/test real");
const kitTimeoutMs = 120_000;

describe("the tiny guest, on the real Cloud Hypervisor", () => {
  real(
    "boots confined by Landlock, prints, echoes a key, ends by the power button's deadline",
    async () => {
      using ground = new Playground();
      await using run = new GuestRun(ground, guest(ground), { real: true });
      await run.next(up);
      await run.control.type("tiny", "?");
      await grows(ground.directory("tiny").console, "key ?");
      expect(await run.control.command("tiny", "stop")).toMatchObject({ phase: "down", pid: null });
      expect(existsSync(ground.directory("tiny").apiSocket)).toBe(false);
    },
    timeoutMs,
  );

  need(
    ...realGuest,
    root,
    kvmUser,
    "setpriv",
  )(
    "runs as another user, with no privilege of ours",
    async () => {
      using ground = new Playground();
      chmodSync(dirname(tinyGuest()), 0o755);
      const toml = `${guest(ground)}\n[hypervisor]\nuser = "${kvmUsers()[0]}"\n`;
      await using run = new GuestRun(ground, toml, { real: true, stopGuests: true });
      await run.next(up);
      const pid = ground.processOf("tiny")!;
      expect(statusOf(pid, "Uid").filter((ids) => ids.split("\t").includes("0"))).toEqual([]);
      expect(new Set(statusOf(pid, "CapEff"))).toEqual(new Set(["0000000000000000"]));
      expect(new Set(statusOf(pid, "NoNewPrivs"))).toEqual(new Set(["1"]));
    },
    timeoutMs,
  );

  real(
    "the example configuration boots",
    async () => {
      using ground = new Playground();
      const example = readFileSync(join(import.meta.dir, "../../vm/examples/tiny.toml"), "utf8");
      const toml = example.replace("/tmp/tiny/guest.elf", tinyGuest());
      expect(toml).not.toBe(example);
      await using run = new GuestRun(ground, toml, { real: true, stopGuests: true });
      await run.next(up);
      await grows(ground.directory("tiny").console, "tiny guest");
    },
    timeoutMs,
  );

  for (const [key, why] of [
    ["p", "kernel panic: asked for by a key"],
    ["v", "kernel panic, told through pvpanic"],
  ] as const) {
    real(
      `a panic (${why}) is reset in the same process`,
      async () => {
        using ground = new Playground();
        await using run = new GuestRun(ground, guest(ground), { real: true });
        await run.next(up);
        const pid = ground.processOf("tiny");
        await run.control.type("tiny", key);
        expect(await run.next({ event: "guestFault" })).toMatchObject({ kind: "panic", why, act: "reset" });
        expect(await run.next({ event: "guestOutcome" })).toMatchObject({ rung: "reset", verdict: "clean" });
        expect(ground.processOf("tiny")).toBe(pid);
      },
      timeoutMs,
    );
  }

  for (const [key, doing] of [
    ["s", "all its processors spin"],
    ["h", "its processors are idle"],
  ] as const) {
    real(
      `a hang (${doing}) is found by the probe and reset`,
      async () => {
        using ground = new Playground();
        await using run = new GuestRun(ground, guest(ground), { real: true });
        await run.next(up);
        await run.control.type("tiny", key);
        const fault = await run.next({ event: "guestFault" });
        expect(fault).toMatchObject({ kind: "hang", act: "reset", why: expect.stringContaining(doing) });
        expect(await run.next({ event: "guestOutcome" })).toMatchObject({ rung: "reset", verdict: "clean" });
      },
      timeoutMs,
    );
  }

  real(
    "it resets itself, and powers off",
    async () => {
      using ground = new Playground();
      await using run = new GuestRun(ground, guest(ground), { real: true });
      await run.next(up);
      await run.control.type("tiny", "r");
      expect(await run.next({ event: "guestFault" })).toMatchObject({ kind: "selfReset", act: "note" });
      await run.next(up);
      await run.control.type("tiny", "o");
      expect(await run.next({ event: "guestFault" })).toMatchObject({ kind: "powerOff", act: "stayDown" });
      expect(await run.control.show("tiny")).toMatchObject({ phase: "down" });
    },
    timeoutMs,
  );

  real(
    "a killed Cloud Hypervisor is booted cold, a stopped one is killed first",
    async () => {
      using ground = new Playground();
      await using run = new GuestRun(ground, guest(ground), { real: true });
      await run.next(up);
      process.kill(ground.processOf("tiny")!, "SIGKILL");
      expect(await run.next({ event: "guestFault" })).toMatchObject({ kind: "hypervisorEnded", act: "coldboot" });
      expect(await run.next({ event: "guestOutcome" })).toMatchObject({ rung: "coldboot", verdict: "clean" });
      await run.next(up);
      const pid = ground.processOf("tiny")!;
      process.kill(pid, "SIGSTOP");
      const fault = await run.next({ event: "guestFault" });
      expect(fault).toMatchObject({ kind: expect.stringMatching(/hang|hypervisorSilent/) });
      await run.next(up);
      expect(ground.processOf("tiny")).not.toBe(pid);
    },
    120_000,
  );

  need(inFull, ...realGuest)(
    "a guest without the kit is told what it lacks, and serves; so does its neighbour",
    async () => {
      using ground = new Playground();
      const keys = ['memory = "128M"', "stopMs = 500"];
      const program = '[[guest.program]]\nname = "redis"\nprocess = "redis-server"';
      const toml = [tinyGuestToml(keys), program, tinyGuestToml(keys, [], "beside")].join("\n");
      await using run = new GuestRun(ground, toml, { real: true, stopGuests: true });
      for (const workload of ["tiny", "beside"]) await run.next({ ...up, workload });
      await systemClock.sleep(kitPatienceMs);
      const { text } = (await run.next({ event: "warning", workload: "redis" })) as { text: string };
      expect(text).toContain(`nothing answers on vsock port ${stubPort} of guest tiny: install the guest kit in it`);
      for (const workload of ["tiny", "beside"]) {
        const before = statSync(ground.directory(workload).console).size;
        for (let look = 0; look < 500 && statSync(ground.directory(workload).console).size === before; look += 1) {
          await systemClock.sleep(10);
        }
        expect(statSync(ground.directory(workload).console).size).toBeGreaterThan(before);
        expect(await run.control.show(workload)).toMatchObject({ phase: "up" });
      }
    },
    kitTimeoutMs,
  );
});
