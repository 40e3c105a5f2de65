// SPDX-License-Identifier: Apache-2.0
/**
 * A process that stands by where it could be in the way, on the real Cloud Hypervisor with the tiny guest: where memory gets
 * short, and where the guest has a network card on a bridge and Cloud Hypervisor runs as another user.
 *
 * Memory is short for a supervisor in a mount namespace of its own, whose /proc/meminfo is a file of the test's.
 */
import { describe, expect } from "bun:test";
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { ControlClient } from "#appliance/controlClient.ts";
import type { StandbyReport } from "#appliance/guests/standby.ts";
import { systemClock } from "#clock.ts";
import { GuestRun, Playground } from "#tests/peers/guestRun.ts";
import { snapshotHypervisor } from "#tests/peers/snapshotHypervisor.ts";
import { realGuest, tinyGuest, tinyGuestToml } from "#tests/peers/tinyGuest.ts";
import { device, file, long, type Need, need, root } from "#tests/skip.ts";

/** Who may open /dev/kvm by its group, and is not root. */
const kvmUser = ((): string | null => {
  const names = Bun.spawnSync(["getent", "group", "kvm"]).stdout.toString().trim().split(":")[3] ?? "";
  return names.split(",").find((name) => name !== "" && name !== "root") ?? null;
})();
const inFull: Need = () => (long("real") ? null : "the long form: ./scripts/test real");
const someUser: Need = () => (kvmUser === null ? "a user in the group kvm: useradd --system --groups kvm NAME" : null);
const short = need(...realGuest, root, inFull, "unshare");
const memoryGroups = "/sys/fs/cgroup/memory";
const confined = need(
  ...realGuest,
  root,
  inFull,
  file(join(memoryGroups, "cgroup.procs"), "control groups, version 1"),
);
const carded = need(...realGuest, root, inFull, someUser, device("/dev/net/tun"), "ip", "setpriv");

const cli = join(import.meta.dir, "../../src/cli/main.ts");
const bridge = "hf-standby0";
const restart = "restart = { attemptsMax = 1000, windowMs = 1000, backoffMs = 100, backoffMsMax = 500 }";
const keys = ['memory = "96M"', restart, "probes = ['cmd:true']", "probeEveryMs = 100", "stopMs = 200"];
const stored = ["automatic = false", "healthyMs = 1000", "pauseMsMax = 20000", "eagerMsMax = 0"];

async function until<Value>(found: () => Value | null | false | Promise<Value | null | false>, what: string) {
  for (let look = 0; look < 3_000; look += 1) {
    const value = await found();
    if (value !== null && value !== false) return value;
    await systemClock.sleep(10);
  }
  throw new RangeError(`never: ${what}`);
}

const standbyIn = (control: ControlClient, state: StandbyReport["state"]): Promise<StandbyReport> =>
  until(async () => {
    const { standby } = await control.show("tiny");
    return standby.state === state && standby;
  }, `a standby that is ${state}`);

async function good(control: ControlClient): Promise<void> {
  const { id } = (await control.checkpoint("tiny", "create")) as { readonly id: string };
  const isGood = async () => (await control.checkpoints()).some((each) => each.id === id && each.state === "good");
  await until(isGood, `${id} is good`);
}

function linksOf(pid: number): string[] {
  const directory = `/proc/${pid}/fd`;
  try {
    return readdirSync(directory).flatMap((name) => linkOf(join(directory, name)));
  } catch {
    return [];
  }
}
function linkOf(path: string): string[] {
  try {
    return [readlinkSync(path)];
  } catch {
    // Closed since it was listed.
    return [];
  }
}
const memoryFiles = (pid: number): number => linksOf(pid).filter((to) => to.startsWith("/memfd:guest")).length;
const scoreOf = (pid: number): string => readFileSync(`/proc/${pid}/oom_score_adj`, "utf8").trim();
const run = (...words: string[]): void => expect(`${Bun.spawnSync(words).stderr}`).toBe("");

/** Puts what is in a group back where it came from, and removes it. */
function leave(group: string): boolean {
  const inside = readFileSync(join(group, "cgroup.procs"), "utf8").split("\n").filter(Boolean);
  try {
    for (const each of inside) writeFileSync(join(memoryGroups, "cgroup.procs"), each);
    rmdirSync(group);
    return true;
  } catch {
    // Something in it is still ending.
    return false;
  }
}

async function goesRound(ground: Playground): Promise<void> {
  const file = ground.directory("tiny").console;
  const before = statSync(file).size;
  await until(() => statSync(file).size >= before + 6, "the guest goes round");
  expect(readFileSync(file, "utf8")).not.toContain("X");
}

const ending = (supervisor: Bun.Subprocess): AsyncDisposable => ({
  async [Symbol.asyncDispose]() {
    supervisor.kill("SIGTERM");
    await supervisor.exited;
  },
});

describe("a process that stands by", () => {
  short(
    "is given up where memory gets short, with all that it held, and is there again afterwards",
    async () => {
      using ground = new Playground();
      const [config, figures] = [join(ground.path, "holdfast.toml"), join(ground.path, "meminfo")];
      const say = (mebibytes: number): void => writeFileSync(figures, `MemAvailable: ${mebibytes * 1_024} kB\n`);
      writeFileSync(config, `${tinyGuestToml(keys, stored)}\n[hypervisor]\nprogram = "${snapshotHypervisor()}"\n`);
      say(4_096);
      const words = [cli, "run", "--config", config, "--state", ground.stateDirectory, "--run", ground.runDirectory];
      const script = 'mount --bind "$0" /proc/meminfo && exec "$@"';
      const supervisor = Bun.spawn(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, figures, process.execPath, ...words],
        { stdio: ["ignore", "ignore", "ignore"] },
      );
      await using end = ending(supervisor);
      const control = new ControlClient(ground.runDirectory);
      ground.directory("tiny");
      await until(async () => (await control.show("tiny").catch(() => null))?.phase === "up", "the guest is up");
      expect(await control.show("tiny")).toMatchObject({
        standby: { state: "none", why: "there is no good checkpoint" },
      });
      await good(control);
      const { pid } = await standbyIn(control, "ready");
      expect(ground.standbyOf("tiny")).toBe(pid!);
      // Where memory runs out before anybody looks, the kernel ends it and not a guest.
      expect(scoreOf(pid!)).toBe("1000");
      expect(scoreOf(ground.processOf("tiny")!)).toBe("0");
      const held = memoryFiles(supervisor.pid);
      expect(held).toBe(1);

      say(96);
      expect(await standbyIn(control, "none")).toMatchObject({ why: "only 96 MiB of memory are available", pid: null });
      await until(() => ground.standbyOf("tiny") === null, "its end");
      await until(() => memoryFiles(supervisor.pid) === 0, "its memory is given back");
      say(4_096);
      const { pid: next } = await standbyIn(control, "ready");
      process.kill(ground.processOf("tiny")!, "SIGKILL");
      await until(() => ground.processOf("tiny") === next, "it becomes the guest");
      expect(scoreOf(next!)).toBe("0");
      await goesRound(ground);
      await standbyIn(control, "ready");
      await end[Symbol.asyncDispose]();
      expect(ground.standbyOf("tiny")).toBeNull();
    },
    120_000,
  );

  confined(
    "is the first to go where memory runs out before anybody looks, and the guest is not",
    async () => {
      using ground = new Playground();
      const toml = tinyGuestToml(keys, stored);
      await using guests = new GuestRun(ground, toml, { real: snapshotHypervisor(), stopGuests: true });
      await guests.next({ event: "guest", phase: "up" });
      await good(guests.control);
      const { pid } = await standbyIn(guests.control, "ready");
      const guest = ground.processOf("tiny")!;
      const group = join(memoryGroups, `hf-${process.pid}`);
      mkdirSync(group);
      try {
        for (const each of [guest, pid!]) writeFileSync(join(group, "cgroup.procs"), String(each));
        writeFileSync(join(group, "memory.limit_in_bytes"), String(256 << 20));
        // More than the guest has, so that the one who asks for it is the next to go.
        const greedy = `echo $$ > ${group}/cgroup.procs; exec tail /dev/zero`;
        await Bun.spawn(["sh", "-c", greedy], { stdio: ["ignore", "ignore", "ignore"] }).exited;
        await until(() => linksOf(pid!).length === 0, "its end");
        expect(ground.processOf("tiny")).toBe(guest);
        await goesRound(ground);
        // Another one is not raised at once: what ended the first may be there still.
        expect(await standbyIn(guests.control, "resting")).toMatchObject({ why: expect.stringContaining("it died") });
      } finally {
        await until(() => leave(group), "the group is empty");
      }
    },
    120_000,
  );

  carded(
    "of another user takes the guest over with its card on the bridge",
    async () => {
      using ground = new Playground();
      for (const path of [ground.path, dirname(tinyGuest())]) chmodSync(path, 0o755);
      const toml = tinyGuestToml([...keys, `net = [{ bridge = "${bridge}" }]`], stored);
      run("ip", "link", "add", bridge, "type", "bridge");
      try {
        const how = { real: snapshotHypervisor(), user: kvmUser!, stopGuests: true };
        await using guests = new GuestRun(ground, toml, how);
        await guests.next({ event: "guest", phase: "up" });
        await good(guests.control);
        for (let round = 0; round < 3; round += 1) {
          const { pid } = await standbyIn(guests.control, "ready");
          const uid = Bun.spawnSync(["id", "-u", kvmUser!]).stdout.toString().trim();
          expect(readFileSync(`/proc/${pid}/status`, "utf8")).toContain(`Uid:\t${uid}\t`);
          expect(linksOf(pid!).filter((to) => /tun$/.test(to))).toEqual([]);
          process.kill(ground.processOf("tiny")!, "SIGKILL");
          await guests.next({ event: "restored" });
          expect(ground.processOf("tiny")).toBe(pid);
          expect(linksOf(pid!).filter((to) => /tun$/.test(to))).toHaveLength(1);
          expect(Bun.spawnSync(["ip", "-o", "link", "show", "master", bridge]).stdout.toString()).toContain("hf-");
          await goesRound(ground);
        }
      } finally {
        run("ip", "link", "delete", bridge);
      }
    },
    120_000,
  );
});
