// SPDX-License-Identifier: Apache-2.0
/**
 * The supervisor of a guest is killed again and again at random moments; the guest runs on, and nothing is left over.
 *
 * On the real Cloud Hypervisor with the tiny guest, which counts its rounds and prints X where a byte of its memory is
 * wrong, with a tap on a bridge of its own. Prints its seed.
 */
import { describe, expect } from "bun:test";
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { tapName } from "#appliance/guests/guestNet.ts";
import { seededRandom, systemClock } from "#clock.ts";
import { GuestRun, Playground } from "#tests/peers/guestRun.ts";
import { realGuest, tinyGuestToml } from "#tests/peers/tinyGuest.ts";
import { device, long, need, root } from "#tests/skip.ts";

const kills = Number(process.env.KILLS ?? (long("crash") ? 400 : 25));
/** From the start of the runtime to well after take-over, ms. */
const livesMsMax = 1_200;
const seed = Number(process.env.SEED ?? 20261123);
const cli = join(import.meta.dir, "../../src/cli/main.ts");

const ip = (...words: string[]): number => Bun.spawnSync(["ip", ...words]).exitCode;

/** Processes of Cloud Hypervisor that work below this directory. */
function hypervisorsIn(path: string): string[] {
  return readdirSync("/proc").filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readlinkSync(`/proc/${pid}/cwd`).startsWith(path);
    } catch {
      return false;
    }
  });
}

const restart = "restart = { attemptsMax = 1000, windowMs = 1000 }";
const configOf = (bridge: string): string =>
  tinyGuestToml(['memory = "128M"', "stopMs = 200", `net = [{ bridge = "${bridge}" }]`, restart]);

/** Starts supervisors and kills them; gives the guest's process after each. */
async function killSupervisors(ground: Playground, toml: string): Promise<(number | null)[]> {
  const random = seededRandom(seed);
  const config = join(ground.path, "holdfast.toml");
  writeFileSync(config, toml);
  const words = [cli, "run", "--config", config, "--state", ground.stateDirectory, "--run", ground.runDirectory];
  const pids: (number | null)[] = [];
  for (let round = 0; round < kills; round += 1) {
    const supervisor = Bun.spawn([process.execPath, ...words], { stdio: ["ignore", "ignore", "ignore"] });
    await systemClock.sleep(random() * livesMsMax);
    supervisor.kill("SIGKILL");
    await supervisor.exited;
    expect(hypervisorsIn(ground.runDirectory).length).toBeLessThanOrEqual(1);
    pids.push(ground.processOf("tiny"));
  }
  return pids;
}

async function checkGuest(ground: Playground, toml: string): Promise<void> {
  const { console: file } = ground.directory("tiny");
  await using run = new GuestRun(ground, toml, { real: true, stopGuests: true });
  await run.next({ event: "guest", phase: "found running" });
  await run.next({ event: "guest", phase: "up" });
  const before = readFileSync(file, "utf8").length;
  while (readFileSync(file, "utf8").length <= before) await systemClock.sleep(20);
  expect(readFileSync(file, "utf8")).not.toContain("X");
  expect(ip("link", "show", tapName("tiny", 0))).toBe(0);
}

describe("a supervisor that is killed", () => {
  const test = need(...realGuest, root, device("/dev/net/tun"), "ip");
  const name = `${kills} times never stops, corrupts or leaks its guest`;
  test(name, async () => {
    console.log(`seed ${seed} (SEED=${seed} repeats it)`);
    using ground = new Playground();
    const bridge = `hft${process.pid}`;
    expect(ip("link", "add", bridge, "type", "bridge")).toBe(0);
    try {
      const pids = await killSupervisors(ground, configOf(bridge));
      console.log(`its process after each kill: ${pids.map((pid) => pid ?? "-").join(" ")}`);
      // A start that was cut off begins anew; one that was seen to its end is never touched again.
      const settled = pids.findIndex(
        (pid, round) => pid !== null && pid === pids[round + 1] && pid === pids[round + 2],
      );
      expect(settled).toBeWithin(0, kills / 2);
      expect([...new Set(pids.slice(settled))]).toEqual([pids[settled]!]);
      await checkGuest(ground, configOf(bridge));
    } finally {
      ip("link", "delete", bridge);
    }
    expect(hypervisorsIn(ground.runDirectory)).toEqual([]);
    expect(ip("link", "show", tapName("tiny", 0))).not.toBe(0);
    expect(readdirSync(ground.directory("tiny").path).filter((file) => file.endsWith(".sock"))).toEqual([]);
  }, 600_000);
});
