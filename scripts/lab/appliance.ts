// SPDX-License-Identifier: Apache-2.0
/**
 * What a booted image must hold, step by step: first boot, slots that cannot start, a lost boot environment, what hangs,
 * a factory reset. Gets an image; gives the steps as they end. Each step has a box of its own.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import { explain } from "#errors.ts";
import { run } from "#image/commands.ts";
import { mib, type PartitionName, partitionOf } from "#image/layout.ts";
import { architectureOf, copyDisk, placeFiles } from "#image/run.ts";
import { BootedBox } from "./bootedBox.ts";
import { claimCode, Surroundings } from "./boxWorld.ts";
import { freePort, page } from "./holds.ts";
import { LabError } from "./labError.ts";
import { ReadyBox } from "./readyBox.ts";
import type { Step } from "./scenario.ts";

export type Scene = {
  readonly image: string;
  readonly disk: string;
  /** Port of this machine on which the page answers. */
  readonly pagePort: number;
  readonly redisPort: number;
  /** Starts the box on the disk as it is now. */
  readonly boot: (more?: { readonly memoryMiB?: number; readonly hasGuests?: boolean }) => BootedBox;
  /** One that is ready and has its broker, with these bundles in their places (readyBox.ts). */
  readonly goOn: (bundles?: readonly string[]) => Promise<{ readonly box: BootedBox; readonly around: Surroundings }>;
  /** How far it is, for whoever waits. */
  readonly note: (text: string) => void;
};
export type ApplianceStep = {
  readonly name: string;
  readonly run: (scene: Scene) => Promise<Record<string, unknown>>;
};

const diskGiB = 4;
const gib = 1_073_741_824;
export const configuration = `[status]
listen = "0.0.0.0:8443"
openHealth = true

[[program]]
name = "cache"
command = ["redis-server", "--port", "7000", "--bind", "0.0.0.0", "--protected-mode", "no", "--enable-debug-command", "yes", "--dir", "/tmp"]
user = "redis"
probes = ["tcp:7000"]
`;
/** On the boot partition of every box of the lab. */
const files = { shell: "yes\n", "holdfast.toml": configuration, "claim.txt": `${claimCode}\n` };

export type ApplianceRun = {
  readonly image: string;
  readonly steps: readonly ApplianceStep[];
  readonly tell: (step: Step) => void;
  readonly note: (text: string) => void;
  /** A folder in which the box that is ready is kept for the next run. */
  readonly scene?: string;
};

/** Runs these steps on an image, each on a disk of its own. A step that fails keeps its disk and console. */
export async function runAppliance({ image, steps, tell, note, scene }: ApplianceRun): Promise<Step[]> {
  const done: Step[] = [];
  const own = scene ?? mkdtempSync(join(tmpdir(), "holdfast-ready-"));
  mkdirSync(own, { recursive: true });
  for (const step of steps) {
    const beganNs = systemClock.monotonicNs();
    const directory = mkdtempSync(join(tmpdir(), "holdfast-box-"));
    const disk = join(directory, "box.img");
    const facts = await onFreshBox(image, disk, own, step, note).catch((error: unknown) => ({
      error: explain(error),
      kept: directory,
    }));
    const ok = !("error" in facts);
    if (ok) rmSync(directory, { recursive: true });
    const result = { step: step.name, ok, ms: (systemClock.monotonicNs() - beganNs) / 1e6, ...facts };
    done.push(result);
    tell(result);
  }
  if (scene === undefined) rmSync(own, { recursive: true });
  return done;
}

async function onFreshBox(
  image: string,
  disk: string,
  own: string,
  step: ApplianceStep,
  tell: (text: string) => void,
): Promise<Record<string, unknown>> {
  const architecture = architectureOf(image);
  await copyDisk(image, disk, diskGiB * gib);
  await placeFiles(disk, files);
  const [pagePort, redisPort] = [freePort(), freePort()];
  const forwards = [
    [pagePort, 8443],
    [redisPort, 7000],
  ] as const;
  const boot: Scene["boot"] = (more = {}) => new BootedBox({ architecture, disk, forwards, ...more });
  const beganNs = systemClock.monotonicNs();
  const note = (text: string): void =>
    tell(`${step.name}: ${Math.round((systemClock.monotonicNs() - beganNs) / 1e9)} s: ${text}`);
  const goOn: Scene["goOn"] = async (bundles = []) => {
    const ready = await ReadyBox.open(image, own, note);
    await ready.copyDisk(disk);
    const around = await Surroundings.at(ready.brokerPort);
    return { around, box: await ready.goOn({ disk, forwards, bundles }) };
  };
  return await step.run({ image, disk, pagePort, redisPort, boot, goOn, note });
}

/** Overwrites a partition's beginning, as a torn update or a bad card leaves it. */
export async function spoil(disk: string, name: PartitionName, bytes: number, value = 0): Promise<void> {
  await using file = await open(disk, "r+");
  await file.write(Buffer.alloc(bytes, value), 0, bytes, partitionOf(name).startMiB * mib);
}

/** Takes a file of the boot partition away, or puts another in its place. */
export async function replaceOnEsp(disk: string, path: string, bytes: Uint8Array | null): Promise<void> {
  const at = `${disk}@@${partitionOf("esp").startMiB * mib}`;
  await run(["mdel", "-i", at, `::${path}`]);
  if (bytes === null) return;
  const source = `${disk}.file`;
  await Bun.write(source, bytes);
  await run(["mcopy", "-o", "-i", at, source, `::${path}`]);
}

/** Claims the box with the code that the lab put on its boot partition; gives the answer of the page to its new admin. */
export async function claimBox(port: number): Promise<number> {
  const password = "lab-password-of-the-box";
  const form = new URLSearchParams({ code: claimCode, name: "admin", password, again: password });
  const origin = `https://127.0.0.1:${port}`;
  const claimed = await page(port, "/claim", {
    method: "POST",
    body: form.toString(),
    headers: { "content-type": "application/x-www-form-urlencoded", origin },
  });
  const cookie = claimed.headers.get("set-cookie")?.split(";")[0];
  if (claimed.status !== 303 || cookie === undefined) {
    throw new LabError(
      "lab.machine",
      `the box was not claimed: ${claimed.status} ${(await claimed.text()).slice(0, 200)}`,
    );
  }
  return (await page(port, "/", { headers: { cookie } })).status;
}
