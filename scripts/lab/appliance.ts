// SPDX-License-Identifier: Apache-2.0
/**
 * What a booted image must hold, step by step: first boot, slots that cannot start, a lost boot environment, what hangs,
 * a factory reset. Gets an image; gives the steps as they end. Each step has a box of its own.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import { explain } from "#errors.ts";
import { mib, type PartitionName, partitionOf } from "#image/layout.ts";
import { architectureOf, copyDisk, placeFiles } from "#image/run.ts";
import { BootedBox } from "./bootedBox.ts";
import { LabError, run } from "./commands.ts";
import type { Step } from "./scenario.ts";

export type Scene = {
  readonly image: string;
  readonly disk: string;
  /** Port of this machine on which the page answers. */
  readonly pagePort: number;
  readonly redisPort: number;
  /** Starts the box on the disk as it is now. */
  readonly boot: (more?: { readonly memoryMiB?: number; readonly more?: readonly string[] }) => BootedBox;
};
export type ApplianceStep = {
  readonly name: string;
  readonly run: (scene: Scene) => Promise<Record<string, unknown>>;
};

const diskGiB = 4;
const gib = 1_073_741_824;
export const claimCode = "H0LDFAST-77";
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

/** Runs these steps on an image, each on a disk of its own. A step that fails keeps its disk and console. */
export async function runAppliance(
  image: string,
  steps: readonly ApplianceStep[],
  tell: (step: Step) => void,
): Promise<Step[]> {
  const done: Step[] = [];
  for (const step of steps) {
    const beganNs = systemClock.monotonicNs();
    const directory = mkdtempSync(join(tmpdir(), "holdfast-box-"));
    const disk = join(directory, "box.img");
    const facts = await onFreshBox(image, disk, step).catch((error: unknown) => ({
      error: explain(error),
      kept: directory,
    }));
    const ok = !("error" in facts);
    if (ok) rmSync(directory, { recursive: true });
    const result = { step: step.name, ok, ms: (systemClock.monotonicNs() - beganNs) / 1e6, ...facts };
    done.push(result);
    tell(result);
  }
  return done;
}

async function onFreshBox(image: string, disk: string, step: ApplianceStep): Promise<Record<string, unknown>> {
  const architecture = architectureOf(image);
  await copyDisk(image, disk, diskGiB * gib);
  await placeFiles(disk, files);
  const [pagePort, redisPort] = [freePort(), freePort()];
  const forwards = [
    [pagePort, 8443],
    [redisPort, 7000],
  ] as const;
  const boot: Scene["boot"] = (more = {}) => new BootedBox({ architecture, disk, forwards, ...more });
  return await step.run({ image, disk, pagePort, redisPort, boot });
}

/** One that nobody listens on now. */
function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
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

const waitEachMs = 1_000;

/** Asks until it holds. @throws LabError lab.machine with the last answer */
export async function holds<T>(
  what: string,
  ask: () => Promise<T | null>,
  withinMs: number,
  everyMs = waitEachMs,
): Promise<T> {
  const endNs = systemClock.monotonicNs() + withinMs * 1e6;
  let last = "nothing";
  while (systemClock.monotonicNs() < endNs) {
    const answer = await ask().catch((error: unknown) => {
      last = explain(error);
      return null;
    });
    if (answer !== null) return answer;
    await systemClock.sleep(everyMs);
  }
  throw new LabError("lab.machine", `${what} does not hold after ${withinMs} ms: ${last}`);
}

/** The page's own answer; a TLS certificate of the box's own is what it should have. */
export async function page(port: number, path: string, init: RequestInit = {}): Promise<Response> {
  return await fetch(`https://127.0.0.1:${port}${path}`, {
    ...init,
    redirect: "manual",
    tls: { rejectUnauthorized: false },
  });
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
