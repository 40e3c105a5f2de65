// SPDX-License-Identifier: Apache-2.0
/**
 * Power cuts of a booted image, at moments that a seed chooses: the box runs on a disk that forgets what it was not told to
 * make durable, and must boot again after each cut.
 *
 * `slot`: cut while firmware, boot loader and initial RAM disk run, checked as far as the slot's system is found. `ready`:
 * cut at any moment of first boot, setup and service with a write load on the data partition; checked by the box's own
 * setup (nothing degraded), its record (`storage verify`) and the load's own rows: each that was told durable is there.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Random, seededRandom, systemClock } from "#clock.ts";
import { explain } from "#errors.ts";
import { architectureOf, copyDisk, placeFiles } from "#image/run.ts";
import { BootedBox, bootMsMax } from "./bootedBox.ts";
import { LabError } from "./commands.ts";
import type { CutReport } from "./cutDisk.ts";

export type CutRun = {
  readonly image: string;
  readonly kind: "slot" | "ready";
  readonly count: number;
  readonly seed: number;
  readonly tell: (text: string) => void;
};

const gib = 1_073_741_824;
const diskGiB = 3;
/** A cut falls within this after the machine is started; the slowest boot on a busy machine fills it. */
const windowMs = { slot: 15_000, ready: 150_000 } as const;
/** The box may need this many starts: a slot has three tries. */
const startsMax = 3;
const rowsPath = "/data/rows";
/** Appends one number after the other, and tells each on the console when it is durable. */
const load = `i=$(wc -l <${rowsPath} 2>/dev/null || echo 0); while :; do i=$((i+1)); echo $i >>${rowsPath}; sync ${rowsPath} /data; echo ROW-$i-DURABLE; done`;

/** Each cut and what came after it; gives how many held. */
export async function runCuts({ image, kind, count, seed, tell }: CutRun): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), "holdfast-cuts-"));
  const disk = join(directory, "box.img");
  const random = seededRandom(seed);
  await copyDisk(image, disk, diskGiB * gib);
  await placeFiles(disk, { shell: "yes\n" });
  let held = 0;
  let durable = 0;
  for (let index = 1; index <= count; index += 1) {
    const afterMs = Math.floor(random() * windowMs[kind]);
    try {
      const cut = await cutOnce(disk, directory, afterMs, random, kind);
      durable = Math.max(durable, cut.rows);
      const after = await bootsAgain(disk, kind, durable);
      held += 1;
      tell(
        `cut ${index} of ${count}, seed ${seed}, after ${afterMs} ms: boots; ${JSON.stringify({ ...cut, ...after })}`,
      );
    } catch (error) {
      tell(
        `cut ${index} of ${count}, seed ${seed}, after ${afterMs} ms: FAILED: ${explain(error)}; kept in ${directory}`,
      );
      return held;
    }
  }
  rmSync(directory, { recursive: true });
  return held;
}

async function cutOnce(
  disk: string,
  directory: string,
  afterMs: number,
  random: Random,
  kind: CutRun["kind"],
): Promise<CutReport & { readonly rows: number }> {
  const socket = join(directory, "nbd");
  rmSync(socket, { force: true });
  const words = ["--socket", socket, "--image", disk, "--seed", String(Math.floor(random() * 2 ** 31))];
  const server = Bun.spawn([process.execPath, join(import.meta.dir, "cutDisk.ts"), ...words], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    await awaitSocket(socket);
    const drive = `file=nbd+unix:///?socket=${socket},format=raw,if=none,id=disk,cache=writeback`;
    await using box = new BootedBox({ architecture: architectureOf(disk), disk, forwards: [], drive });
    const cutAt = systemClock.sleep(afterMs);
    const loading = kind === "ready" ? box.says(/\n# /, windowMs.ready).then(() => box.type(load)) : Promise.resolve();
    loading.catch(() => {});
    await cutAt;
    server.kill("SIGUSR1");
    const report = JSON.parse(await server.stdout.text()) as CutReport;
    const rows = [...box.console.matchAll(/^ROW-(\d+)-DURABLE$/gm)].map(([, row]) => Number(row));
    return { ...report, rows: Math.max(0, ...rows) };
  } finally {
    server.kill("SIGKILL");
    await server.exited;
  }
}

async function awaitSocket(path: string): Promise<void> {
  for (let tries = 0; tries < 100; tries += 1) {
    if (
      await Bun.file(path)
        .stat()
        .then(
          () => true,
          () => false,
        )
    )
      return;
    await systemClock.sleep(50);
  }
  throw new LabError("lab.machine", `nothing serves ${path}`);
}

/** Starts it on what the cut left. @throws LabError lab.machine */
async function bootsAgain(disk: string, kind: CutRun["kind"], durable: number): Promise<Record<string, unknown>> {
  await using box = new BootedBox({ architecture: architectureOf(disk), disk, forwards: [] });
  const beganNs = systemClock.monotonicNs();
  const [, slot] = await box.says(/Holdfast: slot ([AB]) on /, bootMsMax * startsMax);
  const facts = { slot, seconds: Math.round((systemClock.monotonicNs() - beganNs) / 1e9) };
  if (kind === "slot") return facts;
  await box.shellReady();
  const degraded = await box.shell("cat /run/holdfast-degraded 2>/dev/null || echo none");
  if (degraded !== "none") throw new LabError("lab.machine", `the box is degraded: ${degraded}`);
  const rows = await box.shell(`cat ${rowsPath} 2>/dev/null | tail -n 1`);
  const whole = await box.shell(`awk '$1 != NR { print "row " NR " is " $1; exit }' ${rowsPath} 2>/dev/null || true`);
  // The last line may be one that was never told; all before it must be whole.
  if (Number(rows || 0) < durable)
    throw new LabError("lab.machine", `row ${durable} was durable, and ${rows || "none"} is there`);
  if (whole !== "") throw new LabError("lab.machine", `the rows are not whole: ${whole}`);
  await box.shell("systemctl is-system-running --wait >/dev/null; systemctl is-active holdfast", bootMsMax);
  await box.shell("systemctl stop holdfast && holdfast storage verify", bootMsMax);
  return { ...facts, rows: Number(rows || 0) };
}
