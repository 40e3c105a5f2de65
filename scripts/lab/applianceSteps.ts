// SPDX-License-Identifier: Apache-2.0
/**
 * The steps of the appliance's lab. Each starts a box, does one thing to it, and throws where the promise is not kept.
 */
import { partitionOf } from "#image/layout.ts";
import { type ApplianceStep, claimBox, configuration, replaceOnEsp, type Scene, spoil } from "./appliance.ts";
import type { BootedBox } from "./bootedBox.ts";
import { Surroundings, telemetryTo } from "./boxWorld.ts";
import { holds, must, pageReady } from "./holds.ts";
import { RedisClient } from "./redisClient.ts";

const readyMsMax = 600_000;
const slotMsMax = 900_000;
/** As the boot loader counts them. */
const slotTries = 3;
const spoiltBytes = 4 * 1_048_576;

async function ready(box: BootedBox, scene: Scene): Promise<void> {
  await box.shellReady();
  await pageReady(scene.pagePort, readyMsMax);
}

/** With a broker, which hears why the box was started. */
const heard = (scene: Scene): Promise<Surroundings> =>
  Surroundings.open(scene, (port) => `${configuration}\n${telemetryTo(port)}`);

/** First boot: claimed, healthy, nothing failed, read-only, grown, with an identity that stays. */
async function firstBoot(scene: Scene): Promise<Record<string, unknown>> {
  await using around = await heard(scene);
  await using box = scene.boot();
  await ready(box, scene);
  const failed = await box.shell(
    "systemctl --failed --no-legend --plain | wc -l; systemctl --failed --no-legend --plain",
  );
  must(failed.startsWith("0"), `units failed: ${failed}`);
  const cycles = await box.shell("journalctl -b --no-pager | grep -c 'ordering cycle' || true");
  must(cycles === "0", "systemd found an ordering cycle");
  const writable = await box.shell("touch /etc/x /usr/x /x 2>&1 | grep -c 'Read-only' || true");
  must(writable === "3", `the root can be written: ${writable}`);
  const tainted = await box.shell("cat /proc/sys/kernel/tainted");
  must(tainted === "0", `the kernel is tainted: ${tainted}`);
  const grownMiB = Number(await box.shell("df -BM --output=size /data | tail -1 | tr -dc 0-9"));
  must(grownMiB > 2 * partitionOf("data").sizeMiB, `data has ${grownMiB} MiB: it did not grow`);
  must((await box.shell("cat /run/holdfast-degraded 2>/dev/null || echo none")) === "none", "the box is degraded");
  const fault = await takeFault(scene);
  const claimed = await claimBox(scene.pagePort);
  must(claimed === 200, `the page answers its admin with ${claimed}`);
  const { reason, slot, sw, workloads } = await around.bornFor("first");
  must(slot === "A", `the birth names slot ${slot}`);
  return { slot: await slotOf(box), grownMiB, failed: 0, fault, claimed, birth: { reason, slot, sw, workloads } };
}

const slotOf = async (box: BootedBox): Promise<string> =>
  await box.shell("sed 's/.*holdfast.slot=\\(.\\).*/\\1/' /proc/cmdline");

/** A native server takes a crash and goes on, with its data. */
async function takeFault(scene: Scene): Promise<string> {
  const connect = async (): Promise<RedisClient> => await RedisClient.connect("127.0.0.1", scene.redisPort);
  const answering = async (): Promise<RedisClient | null> => {
    const client = await connect();
    return (await client.ask("PING")).includes("PONG") ? client : null;
  };
  const client = await holds("redis answers", answering, readyMsMax);
  await client.ask("SET kept yes");
  const answer = await client.ask("DEBUG SEGFAULT").catch((error: unknown) => String(error));
  using again = await holds("redis answers after its fault", answering, readyMsMax);
  const kept = await again.ask("GET kept");
  client[Symbol.dispose]();
  must(kept.includes("yes"), `redis lost its data: ${kept}`);
  return answer.trim().slice(0, 80);
}

/** A slot that cannot be started is tried three times, then the other one comes. Watched as far as its system is found. */
const badSlot =
  (spoilIt: (scene: Scene) => Promise<void>): ApplianceStep["run"] =>
  async (scene) => {
    await spoilIt(scene);
    await using box = scene.boot();
    await box.says(/Holdfast: slot B on \S+/, slotMsMax);
    const starts = [...box.console.matchAll(/BdsDxe: starting/g)].length;
    must(starts === slotTries + 1, `slot B came with start ${starts}, not ${slotTries + 1}`);
    return { starts };
  };

const lostEnvironment =
  (spoilIt: (scene: Scene) => Promise<void>): ApplianceStep["run"] =>
  async (scene) => {
    await spoilIt(scene);
    await using box = scene.boot();
    await box.shellReady();
    const environment = await box.shell("grub-editenv /esp/grub/grubenv list | tr '\\n' ' '");
    must(/ORDER=A B .*A_OK=1/.test(environment), `the environment was not mended: ${environment}`);
    must((await box.shell("cat /state/boots/environment-lost")) === "A", "the loss was not noted");
    return { environment };
  };

async function freezeService(scene: Scene): Promise<Record<string, unknown>> {
  const { box, around } = await scene.goOn();
  await using _around = around;
  await using _box = box;
  const before = await box.shell("systemctl show -P MainPID holdfast; pgrep -f 'redis-server .*7000'");
  await box.shell("kill -STOP $(systemctl show -P MainPID holdfast)");
  await holds(
    "another supervisor",
    async () => {
      const now = await box.shell("systemctl show -P MainPID holdfast; pgrep -f 'redis-server .*7000'");
      return now.split("\n")[0] !== before.split("\n")[0] && now.split("\n")[1] === before.split("\n")[1] ? now : null;
    },
    readyMsMax,
  );
  await pageReady(scene.pagePort, readyMsMax);
  const why = await box.shell("journalctl -b -o cat --no-pager | grep 'Watchdog timeout' | tail -n 1");
  must(why.includes("holdfast.service"), `no reason is on record: ${why}`);
  return { before: before.replace("\n", " "), why };
}

/** Init stands still: the hardware resets the box, and the next boot says so. */
async function freezeInit(scene: Scene): Promise<Record<string, unknown>> {
  const { box, around } = await scene.goOn();
  await using _around = around;
  await using _box = box;
  const watchdog = await box.shell(
    "cat /sys/class/watchdog/watchdog0/identity /sys/class/watchdog/watchdog0/state | tr '\\n' ' '",
  );
  // PID 1 cannot be stopped by a signal: a tracer holds it.
  await box.shell("(gdbserver --once --attach 127.0.0.1:1 1 >/dev/null 2>&1 &) ; sleep 1");
  await box.says(/holdfast-setup: the system is on/, slotMsMax);
  await box.shellReady();
  const { reason } = await around.bornFor("watchdog");
  const boots = await box.shell("tail -c 300 /state/boots/boots.json");
  must(/watchdog/.test(boots), `the boots on record: ${boots}`);
  return { watchdog, reason, boots };
}

export const applianceSteps: readonly ApplianceStep[] = [
  { name: "first boot, claimed and healthy", run: firstBoot },
  { name: "slot A empty", run: badSlot(({ disk }) => spoil(disk, "boot_A", spoiltBytes)) },
  { name: "root A corrupt", run: badSlot(({ disk }) => spoil(disk, "root_A", spoiltBytes, 0x5a)) },
  {
    name: "environment empty",
    run: lostEnvironment(({ disk }) => replaceOnEsp(disk, "grub/grubenv", new Uint8Array())),
  },
  {
    name: "environment and spare garbage",
    run: lostEnvironment(async ({ disk }) => {
      await replaceOnEsp(disk, "grub/grubenv", Buffer.alloc(1_024, 0x41));
      await replaceOnEsp(disk, "grub/grubenv.spare", null);
    }),
  },
  { name: "supervisor frozen", run: freezeService },
  { name: "init frozen", run: freezeInit },
];
