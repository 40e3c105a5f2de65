// SPDX-License-Identifier: Apache-2.0
/**
 * Checkpoints and restores when something dies in the middle: the supervisor at random moments, Cloud Hypervisor at each step.
 *
 * On the real Cloud Hypervisor with the tiny guest, which prints X where a byte of its memory is wrong. Afterwards the source
 * runs on, the store is consistent, and whatever is listed verifies. Prints its seed. KILLS and RESTORES set how often.
 */
import { describe, expect } from "bun:test";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { storedCheckpoints, verifyStored } from "#appliance/checkpointFiles.ts";
import { seededRandom, systemClock } from "#clock.ts";
import { GuestRun, Playground } from "#tests/peers/guestRun.ts";
import { snapshotHypervisor } from "#tests/peers/snapshotHypervisor.ts";
import { realGuest, tinyGuestToml } from "#tests/peers/tinyGuest.ts";
import { long, need } from "#tests/skip.ts";

const kills = Number(process.env.KILLS ?? (long("crash") ? 200 : 4));
const restores = Number(process.env.RESTORES ?? (long("crash") ? 1_000 : 2));
const seed = Number(process.env.SEED ?? 20261123);
const cli = join(import.meta.dir, "../../src/cli/main.ts");
const test = need(...realGuest);
const tellEvery = 50;
/** From before its guest is found to well after the checkpoint that it takes then. */
const [livesMsMin, livesMsMax] = [2_000, 5_500];
const up = { event: "guest", phase: "up" };

const restart = "restart = { attemptsMax = 1000, windowMs = 1000, backoffMs = 100, backoffMsMax = 500 }";
/** A guest with a probe is taken for settled as soon as that has passed, not after a while. */
const soonSettled = ["probes = ['cmd:true']", "probeEveryMs = 100"];
const configOf = (...checkpoint: string[]): string =>
  tinyGuestToml(
    ['memory = "96M"', "stopMs = 200", restart, ...soonSettled],
    ["pauseMsMax = 20000", "eagerMsMax = 0", ...checkpoint],
  );

async function goesRound(ground: Playground): Promise<void> {
  const file = ground.directory("tiny").console;
  const before = statSync(file).size;
  for (let look = 0; look < 3_000 && statSync(file).size < before + 6; look += 1) await systemClock.sleep(10);
  expect(statSync(file).size).toBeGreaterThanOrEqual(before + 6);
  expect(readFileSync(file, "utf8")).not.toContain("X");
}

function checkStore(ground: Playground): number {
  const all = storedCheckpoints(ground.stateDirectory);
  for (const { id } of all) expect(verifyStored(ground.stateDirectory, id)).toMatchObject({ problems: [] });
  return all.length;
}

describe("death in the middle", () => {
  test(`the supervisor, ${kills} times while it takes checkpoints: the guest runs on, what is listed is whole`, async () => {
    console.log(`seed ${seed} (SEED=${seed} repeats it)`);
    using ground = new Playground();
    const random = seededRandom(seed);
    const toml = configOf("healthyMs = 1000", "everyMs = 10000", "keep = 8");
    const config = join(ground.path, "holdfast.toml");
    writeFileSync(config, `${toml}\n[hypervisor]\nprogram = "${snapshotHypervisor()}"\n`);
    const words = [cli, "run", "--config", config, "--state", ground.stateDirectory, "--run", ground.runDirectory];
    const pids: (number | null)[] = [];
    for (let round = 0; round < kills; round += 1) {
      const supervisor = Bun.spawn([process.execPath, ...words], { stdio: ["ignore", "ignore", "ignore"] });
      await systemClock.sleep(livesMsMin + random() * (livesMsMax - livesMsMin));
      supervisor.kill("SIGKILL");
      await supervisor.exited;
      pids.push(ground.processOf("tiny"));
      if (storedCheckpoints(ground.stateDirectory).length > 0) checkStore(ground);
    }
    // A start that was cut off begins anew; from then on it is one process.
    const settled = pids.slice(Math.floor(kills / 2));
    expect(new Set(settled).size).toBe(1);
    await using run = new GuestRun(ground, toml, { real: snapshotHypervisor(), stopGuests: true });
    await run.next(up);
    await goesRound(ground);
    const listed = checkStore(ground);
    console.log(`${listed} checkpoints are listed`);
    if (long("crash")) expect(listed).toBeGreaterThan(0);
  }, 4_000_000);

  test("the supervisor while memory arrives: the guest never computes on nothing, and comes back", async () => {
    using ground = new Playground();
    const toml = configOf("healthyMs = 1000");
    {
      await using first = new GuestRun(ground, toml, { real: snapshotHypervisor() });
      await first.next(up);
      for (let look = 0; look < 2_000 && (await first.control.checkpoints())[0]?.state !== "good"; look += 1) {
        await systemClock.sleep(20);
      }
    }
    const config = join(ground.path, "holdfast.toml");
    writeFileSync(config, `${toml}\n[hypervisor]\nprogram = "${snapshotHypervisor()}"\n`);
    const words = [cli, "run", "--json", "--config", config, "--state", ground.stateDirectory];
    process.kill(ground.processOf("tiny")!, "SIGKILL");
    const second = Bun.spawn([process.execPath, ...words, "--run", ground.runDirectory], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    for await (const bytes of second.stdout) if (Buffer.from(bytes).includes('"event":"restore"')) break;
    second.kill("SIGKILL");
    await second.exited;
    await using third = new GuestRun(ground, toml, { real: snapshotHypervisor(), stopGuests: true });
    expect(await third.next({ event: "restore" })).toMatchObject({ mode: "lazy" });
    await third.next({ event: "restored" });
    await goesRound(ground);
    expect(readFileSync(ground.directory("tiny").console, "utf8").match(/tiny guest/g)).toHaveLength(1);
  }, 120_000);

  test(`Cloud Hypervisor, ${restores} times: its guest comes back every time, page by page, and nothing is wrong`, async () => {
    using ground = new Playground();
    const toml = configOf("healthyMs = 1000");
    await using run = new GuestRun(ground, toml, { real: snapshotHypervisor(), stopGuests: true });
    await run.next(up);
    for (let look = 0; look < 2_000 && (await run.control.checkpoints())[0]?.state !== "good"; look += 1) {
      await systemClock.sleep(20);
    }
    let stoodBy = 0;
    for (let round = 1; round <= restores; round += 1) {
      const standby = ground.standbyOf("tiny");
      process.kill(ground.processOf("tiny")!, "SIGKILL");
      await run.next({ event: "restore" });
      await run.next({ event: "restored" });
      if (standby !== null && ground.processOf("tiny") === standby) stoodBy += 1;
      await goesRound(ground);
      // Lost again before that, the restore would count as failed, and the next rung's turn would come.
      await run.next({ event: "guestOutcome", rung: "restore", verdict: "clean" });
      if (round % tellEvery === 0) console.log(`${round} restores, ${stoodBy} by a process that stood by`);
    }
    checkStore(ground);
    expect(readFileSync(ground.directory("tiny").console, "utf8").match(/tiny guest/g)).toHaveLength(1);
  }, 4_000_000);
});
