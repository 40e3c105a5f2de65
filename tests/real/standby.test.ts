// SPDX-License-Identifier: Apache-2.0
/**
 * A process that stands by for a guest, on the real Cloud Hypervisor with the tiny guest: it holds nothing of the guest's, it
 * becomes the guest, it is replaced and ended when it should be, and where it is gone a restore does without.
 */
import { describe, expect } from "bun:test";
import { readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import { GuestRun, Playground } from "#tests/peers/guestRun.ts";
import { snapshotHypervisor } from "#tests/peers/snapshotHypervisor.ts";
import { realGuest, tinyGuestToml } from "#tests/peers/tinyGuest.ts";
import { long, type Need, need } from "#tests/skip.ts";

const test = need(...realGuest);
const inFull: Need = () => (long("real") ? null : "the long form: ./scripts/test real");
const atLength = need(...realGuest, inFull);
const cli = join(import.meta.dir, "../../src/cli/main.ts");
const residentKilobytesMax = 24 << 10;
const restart = "restart = { attemptsMax = 1000, windowMs = 1000, backoffMs = 100, backoffMsMax = 500 }";
const settled = ["probes = ['cmd:true']", "probeEveryMs = 100", "stopMs = 200"];
const tomlOf = (...checkpoint: string[]): string =>
  tinyGuestToml(
    ['memory = "96M"', restart, ...settled],
    ["automatic = false", "healthyMs = 1000", "pauseMsMax = 20000", "eagerMsMax = 0", ...checkpoint],
  );

async function until<Value>(found: () => Value | null | false, what: string): Promise<Value> {
  for (let look = 0; look < 3_000; look += 1) {
    const value = found();
    if (value !== null && value !== false) return value;
    await systemClock.sleep(10);
  }
  throw new RangeError(`never: ${what}`);
}

const standbyOf = (ground: Playground, other: number | null = null): Promise<number> =>
  until(() => {
    const pid = ground.standbyOf("tiny");
    return pid === other || pid === null || !isInPlace(pid) ? null : pid;
  }, "a process that stands by");

/** It has its memory, so it has been offered all that it gets before it is wanted. */
const isInPlace = (pid: number): boolean => linksOf(pid).some((to) => to.includes("kvm-vm"));

function linksOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).map((name) => readlinkSync(`/proc/${pid}/fd/${name}`));
  } catch {
    return [];
  }
}

async function good(run: GuestRun): Promise<string> {
  const { id } = (await run.control.checkpoint("tiny", "create")) as { readonly id: string };
  for (let look = 0; look < 1_000; look += 1) {
    if ((await run.control.checkpoints()).some((each) => each.id === id && each.state === "good")) return id;
    await systemClock.sleep(10);
  }
  throw new RangeError(`never good: ${id}`);
}

async function goesRound(ground: Playground): Promise<void> {
  const file = ground.directory("tiny").console;
  const before = statSync(file).size;
  await until(() => statSync(file).size >= before + 6, "the guest goes round");
  expect(readFileSync(file, "utf8")).not.toContain("X");
}

async function lost(ground: Playground, run: GuestRun): Promise<number> {
  process.kill(ground.processOf("tiny")!, "SIGKILL");
  expect(await run.next({ event: "restore" })).toMatchObject({ mode: "lazy" });
  await run.next({ event: "restored" });
  await goesRound(ground);
  await run.next({ event: "guestOutcome", rung: "restore", verdict: "clean" });
  return ground.processOf("tiny")!;
}

describe("a process that stands by", () => {
  test("becomes the guest, is followed by another, and nothing is lost where it dies", async () => {
    using ground = new Playground();
    await using run = new GuestRun(ground, tomlOf(), { real: snapshotHypervisor(), stopGuests: true });
    await run.next({ event: "guest", phase: "up" });
    expect(ground.standbyOf("tiny")).toBeNull();
    await good(run);
    const first = await standbyOf(ground);
    const status = readFileSync(`/proc/${first}/status`, "utf8");
    expect(Number(/VmRSS:\s+(\d+)/.exec(status)![1])).toBeLessThan(residentKilobytesMax);
    expect(linksOf(first).filter((to) => /tun$|vsock|vhost/.test(to))).toEqual([]);
    const vsock = ground.directory("tiny").vsockSocket;
    const { ino } = statSync(vsock);
    expect(await lost(ground, run)).toBe(first);
    expect(statSync(vsock).ino).not.toBe(ino);
    // Whoever kept it would keep the guest's memory registered for faults that nobody serves any more.
    expect([first, process.pid].flatMap(linksOf).filter((to) => to.includes("userfaultfd"))).toEqual([]);
    // The one that is the guest now is followed by another, and ended with it.
    const second = await standbyOf(ground, first);
    if (long("real")) {
      expect(await lost(ground, run)).toBe(second);
      await good(run);
      const replaced = await standbyOf(ground, second);
      await good(run);
      const third = await standbyOf(ground, replaced);
      expect(linksOf(replaced)).toEqual([]);
      process.kill(third, "SIGKILL");
      expect([first, second, replaced, third]).not.toContain(await lost(ground, run));
    }
    expect(readFileSync(ground.directory("tiny").console, "utf8").match(/tiny guest/g)).toHaveLength(1);
    await run.control.command("tiny", "stop");
    await until(() => ground.standbyOf("tiny") === null, "its end");
    const { path } = ground.directory("tiny");
    await until(() => !readdirSync(path).some((name) => name.endsWith(".sock")), "no socket is left");
  }, 120_000);

  atLength(
    "ends with its supervisor; one that a killed supervisor has left is ended by the next",
    async () => {
      using ground = new Playground();
      const config = join(ground.path, "holdfast.toml");
      writeFileSync(config, `${tomlOf("keep = 2")}\n[hypervisor]\nprogram = "${snapshotHypervisor()}"\n`);
      {
        await using run = new GuestRun(ground, tomlOf("keep = 2"), { real: snapshotHypervisor() });
        await run.next({ event: "guest", phase: "up" });
        await good(run);
        await standbyOf(ground);
      }
      // An orderly end of the supervisor ends it, and leaves the guest.
      expect(ground.standbyOf("tiny")).toBeNull();
      const guest = ground.processOf("tiny")!;
      const words = [cli, "run", "--config", config, "--state", ground.stateDirectory, "--run", ground.runDirectory];
      const killed = Bun.spawn([process.execPath, ...words], { stdio: ["ignore", "ignore", "ignore"] });
      const left = await standbyOf(ground);
      killed.kill("SIGKILL");
      await killed.exited;
      expect(ground.standbyOf("tiny")).toBe(left);

      await using run = new GuestRun(ground, tomlOf("keep = 2"), { real: snapshotHypervisor(), stopGuests: true });
      const next = await standbyOf(ground, left);
      expect(linksOf(left)).toEqual([]);
      expect(ground.processOf("tiny")).toBe(guest);
      expect(await lost(ground, run)).toBe(next);
    },
    120_000,
  );

  atLength(
    "is not there where it is switched off",
    async () => {
      using ground = new Playground();
      await using run = new GuestRun(ground, tomlOf("standby = false"), {
        real: snapshotHypervisor(),
        stopGuests: true,
      });
      await run.next({ event: "guest", phase: "up" });
      await good(run);
      const before = ground.processOf("tiny")!;
      expect(await lost(ground, run)).not.toBe(before);
      expect(ground.standbyOf("tiny")).toBeNull();
      expect(readdirSync(ground.directory("tiny").path).filter((name) => /-\d+\./.test(name))).toEqual([]);
    },
    120_000,
  );
});
