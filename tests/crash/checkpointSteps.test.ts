// SPDX-License-Identifier: Apache-2.0
/**
 * kill -9 at each step of a checkpoint, of a restore, and of a process that is to stand by: of Cloud Hypervisor, and of the
 * supervisor.
 *
 * The steps are Cloud Hypervisor's own events, as it tells them; on the real one, with the tiny guest, which prints X where a
 * byte of its memory is wrong. Afterwards the guest serves, the store is consistent, and what is listed verifies. Usually one
 * step of each kind, which a seed chooses; at length all of them, with a process that stands by and without.
 */
import { describe, expect } from "bun:test";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { storedCheckpoints, verifyStored } from "#appliance/checkpointFiles.ts";
import { ControlClient } from "#appliance/controlClient.ts";
import { seededRandom, systemClock } from "#clock.ts";
import { GuestRun, Playground } from "#tests/peers/guestRun.ts";
import { snapshotHypervisor } from "#tests/peers/snapshotHypervisor.ts";
import { realGuest, tinyGuestToml } from "#tests/peers/tinyGuest.ts";
import { long, need } from "#tests/skip.ts";
import { findStandbys } from "#vm/foundProcess.ts";
import { MonitorFrames } from "#vm/monitorEvent.ts";

const test = need(...realGuest);
const seed = Number(process.env.SEED ?? Math.floor(systemClock.wallMs() / 1000));
const random = seededRandom(seed);
const cli = join(import.meta.dir, "../../src/cli/main.ts");
const lookMs = 1;
const looksMax = 20_000;
const usualSteps = 1;

const steps = {
  checkpoint: [
    "vm.migration-started",
    "vm.migration-memory-iteration",
    "vm.pausing",
    "vm.paused",
    "vm.snapshotting",
    "vm.snapshotted",
    "vm.migration-failed",
    "vm.resumed",
  ],
  restore: [
    "vmm.starting",
    "vm.migration-receive-ready",
    "vm.migration-receive-started",
    "vm.restoring",
    "vm.restored",
    "vm.resumed",
  ],
  standby: ["vmm.starting", "vm.migration-receive-ready", "vm.migration-receive-started"],
} as const;
type Act = keyof typeof steps;

function chosen(act: Act): readonly string[] {
  const all: string[] = [...steps[act]];
  if (long("crash")) return all;
  return Array.from({ length: usualSteps }, () => all.splice(Math.floor(random() * all.length), 1)[0]!);
}

const restart = "restart = { attemptsMax = 1000, windowMs = 1000, backoffMs = 100, backoffMsMax = 500 }";
const kept = ["automatic = false", "healthyMs = 1000", "pauseMsMax = 20000", "eagerMsMax = 0"];
const toml = (standby: boolean): string =>
  tinyGuestToml(['memory = "96M"', "stopMs = 200", restart], [...kept, `standby = ${standby}`]);
const ways = long("crash") ? [true, false] : [random() < 0.5];
const actsOf = (standby: boolean): readonly Act[] =>
  standby && long("crash") ? ["checkpoint", "restore", "standby"] : ["checkpoint", "restore"];

function eventsOf(ground: Playground, seat = 0): readonly string[] {
  try {
    return new MonitorFrames().push(readFileSync(ground.directory("tiny").at(seat).events)).map(({ kind }) => kind);
  } catch {
    return [];
  }
}

/** Resolves at this event: the first one of another process than `pid`, or the first after `from` of the same. */
async function comes(ground: Playground, kind: string, act: Act, pid: number, from: number): Promise<void> {
  for (let look = 0; look < looksMax; look += 1) {
    const now = ground.processOf("tiny");
    const fresh =
      act === "checkpoint" ? eventsOf(ground).slice(from) : now === null || now === pid ? [] : eventsOf(ground);
    if (fresh.includes(kind)) return;
    await systemClock.sleep(lookMs);
  }
  expect(`${kind} in ${eventsOf(ground).join(" ")}`).toBe("there");
}

/** Resolves at this event of a process that stands by, another one than `pid`; gives the process. */
async function raises(ground: Playground, kind: string, pid: number | null): Promise<number> {
  for (let look = 0; look < looksMax; look += 1) {
    const [standby] = findStandbys(ground.directory("tiny"));
    if (standby !== undefined && standby.pid !== pid && eventsOf(ground, standby.seat).includes(kind))
      return standby.pid;
    await systemClock.sleep(lookMs);
  }
  throw new RangeError(`no process that stands by came to ${kind}`);
}

async function until(done: () => Promise<boolean>): Promise<void> {
  for (let look = 0; look < looksMax / 10; look += 1) {
    if (await done().catch(() => false)) return;
    await systemClock.sleep(10);
  }
  expect(`${done}`).toBe("so");
}

async function goesRound(ground: Playground): Promise<void> {
  const file = ground.directory("tiny").console;
  const before = statSync(file).size;
  await until(async () => statSync(file).size > before + 6);
  expect(readFileSync(file, "utf8")).not.toContain("X");
}

function checkStore(ground: Playground): void {
  for (const { id } of storedCheckpoints(ground.stateDirectory))
    expect(verifyStored(ground.stateDirectory, id)).toMatchObject({ problems: [] });
}

const lastGood = async (control: ControlClient): Promise<string> =>
  (await control.checkpoints()).find(({ state }) => state === "good")!.id;
const isUp = async (control: ControlClient): Promise<boolean> => (await control.show("tiny")).phase === "up";
const isBack = async (control: ControlClient): Promise<boolean> =>
  (await isUp(control)) && !(await control.show("tiny")).arriving;

async function firstGood(control: ControlClient): Promise<void> {
  await until(() => isUp(control));
  await control.checkpoint("tiny", "create");
  await until(async () => (await control.checkpoints())[0]?.state === "good");
}

/** Asks for it and does not care for the answer; resolves at its step. */
async function begin(
  ground: Playground,
  control: ControlClient,
  act: Exclude<Act, "standby">,
  step: string,
): Promise<void> {
  const pid = ground.processOf("tiny")!;
  const from = eventsOf(ground).length;
  const id = act === "restore" ? await lastGood(control) : "tiny";
  void control.checkpoint(id, act === "restore" ? "restore" : "create").catch(() => {});
  await comes(ground, step, act, pid, from);
}

/** The last good checkpoint changes, so another process is to stand by. Resolves at its step, with that process. */
async function replaceStandby(ground: Playground, control: ControlClient, step: string): Promise<number> {
  const before = await raises(ground, "vm.migration-receive-started", null);
  void control.checkpoint("tiny", "create").catch(() => {});
  return await raises(ground, step, before);
}

/** That one dies is nothing to the guest; the next good checkpoint brings the next one. */
async function killStandby(ground: Playground, control: ControlClient, step: string): Promise<void> {
  const guest = ground.processOf("tiny");
  process.kill(await replaceStandby(ground, control, step), "SIGKILL");
  await goesRound(ground);
  expect(ground.processOf("tiny")).toBe(guest);
  await firstGood(control);
}

describe.each(ways)("kill -9 at each step, a process standing by: %p", (standby) => {
  test("of Cloud Hypervisor: its guest comes back, what is stored is whole", async () => {
    console.log(`seed ${seed} (SEED=${seed} repeats it)`);
    using ground = new Playground();
    await using run = new GuestRun(ground, toml(standby), { real: snapshotHypervisor(), stopGuests: true });
    await run.next({ event: "guest", phase: "up" });
    await firstGood(run.control);
    for (const act of actsOf(standby)) {
      for (const step of chosen(act)) {
        console.log(`${act}: ${step}`);
        if (act === "standby") {
          await killStandby(ground, run.control, step);
          continue;
        }
        if (standby && act === "restore") await raises(ground, "vm.migration-receive-started", null);
        await begin(ground, run.control, act, step);
        const pid = ground.processOf("tiny");
        if (pid !== null) process.kill(pid, "SIGKILL");
        await until(async () => (await isBack(run.control)) && ![null, pid].includes(ground.processOf("tiny")));
        await goesRound(ground);
        checkStore(ground);
      }
    }
  }, 900_000);

  test("of the supervisor: the guest runs on or comes back, what is stored is whole", async () => {
    using ground = new Playground();
    const config = join(ground.path, "holdfast.toml");
    writeFileSync(config, `${toml(standby)}\n[hypervisor]\nprogram = "${snapshotHypervisor()}"\n`);
    const words = [cli, "run", "--config", config, "--state", ground.stateDirectory, "--run", ground.runDirectory];
    const start = (): Bun.Subprocess =>
      Bun.spawn([process.execPath, ...words], { stdio: ["ignore", "ignore", "ignore"] });
    const control = new ControlClient(ground.runDirectory);
    let supervisor = start();
    try {
      await firstGood(control);
      for (const act of actsOf(standby)) {
        for (const step of chosen(act)) {
          console.log(`${act}: ${step}`);
          const pid = ground.processOf("tiny");
          if (standby && act === "restore") await raises(ground, "vm.migration-receive-started", null);
          const left = act === "standby" ? await replaceStandby(ground, control, step) : null;
          if (act !== "standby") await begin(ground, control, act, step);
          supervisor.kill("SIGKILL");
          await supervisor.exited;
          supervisor = start();
          await until(() => isBack(control));
          await goesRound(ground);
          // A checkpoint is nothing that its guest would notice, nor is a process beside it.
          if (act !== "restore") expect(ground.processOf("tiny")).toBe(pid);
          expect(findStandbys(ground.directory("tiny")).map((each) => each.pid)).not.toContain(left);
          checkStore(ground);
        }
      }
    } finally {
      supervisor.kill("SIGKILL");
      await supervisor.exited;
    }
  }, 900_000);
});
