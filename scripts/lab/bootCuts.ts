// SPDX-License-Identifier: Apache-2.0
/**
 * Power cuts of a booted image, at moments that a seed chooses: the box runs on a disk that forgets what it was not told to
 * make durable, and must boot again after each cut.
 *
 * `ready`: cut at any moment of first boot, setup and service with a write load on the data partition; checked by the box's
 * own setup (nothing degraded), its record (`storage verify`) and the load's own rows: each that was told durable is there.
 * `slot`, `update` and `load`: slotCuts.ts, updateCuts.ts and loadCuts.ts.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Random, seededRandom, systemClock } from "#clock.ts";
import { explain } from "#errors.ts";
import type { ImageArchitecture } from "#image/packages.ts";
import { architectureOf, copyDisk, placeFiles } from "#image/run.ts";
import { BootedBox, bootMsMax } from "./bootedBox.ts";
import type { CutReport } from "./cutDisk.ts";
import { LabError } from "./labError.ts";
import { LoadCuts } from "./loadCuts.ts";
import { PoweredDisk } from "./poweredDisk.ts";
import { SlotCuts } from "./slotCuts.ts";
import { UpdateCuts } from "./updateCuts.ts";

export const cutKinds = ["slot", "ready", "update", "load"] as const;
export type CutRun = {
  readonly image: string;
  readonly kind: (typeof cutKinds)[number];
  readonly count: number;
  /** Number of the first cut: each has moments of its own, so that a run can be split. */
  readonly first: number;
  readonly seed: number;
  /** A folder in which machines are kept for the next run. */
  readonly scene?: string;
  readonly bundle?: string;
  /** The disk ignores flushes: this must fail. */
  readonly lies: boolean;
  readonly tell: (text: string) => void;
};

const gib = 1_073_741_824;
const diskGiB = 3;
/** A cut falls within this after the machine is started; the slowest boot on a busy machine fills it. */
const windowMs = 150_000;
/** The box may need this many starts: a slot has three tries. */
const startsMax = 3;
const rowsPath = "/data/rows";
/** Appends one number after the other, and tells each on the console when it is durable. */
const load = `i=$(wc -l <${rowsPath} 2>/dev/null || echo 0); while :; do i=$((i+1)); echo $i >>${rowsPath}; sync ${rowsPath} /data; echo ROW-$i-DURABLE; done`;

/** Each cut and what came after it; gives how many held. Ends at the first that did not, and keeps its disk. */
export async function runCuts(options: CutRun): Promise<number> {
  const { count, first, seed, tell } = options;
  const directory = options.scene ?? mkdtempSync(join(tmpdir(), "holdfast-cuts-"));
  mkdirSync(directory, { recursive: true });
  await using cuts = await opened(options, directory);
  let held = 0;
  for (let index = first; index < first + count; index += 1) {
    try {
      const facts = await cuts.cut(index, first + count - 1);
      held += 1;
      tell(`cut ${index}, seed ${seed}: held; ${JSON.stringify(facts)}`);
    } catch (error) {
      tell(`cut ${index}, seed ${seed}: FAILED: ${explain(error)}; kept in ${directory}`);
      return held;
    }
  }
  if (options.scene === undefined) rmSync(directory, { recursive: true });
  return held;
}

type Cuts = AsyncDisposable & {
  readonly cut: (index: number, last: number) => Promise<Record<string, unknown>>;
};

async function opened({ image, kind, seed, bundle, lies, tell }: CutRun, directory: string): Promise<Cuts> {
  if (kind === "load") return await LoadCuts.open(image, directory, seed, tell, lies);
  if (kind === "update") {
    if (bundle === undefined) throw new LabError("lab.missing", "--bundle FILE: what the box is updated with");
    const cuts = await UpdateCuts.open(image, bundle, directory, seed, tell);
    return { cut: (index) => cuts.cut(index), [Symbol.asyncDispose]: async () => {} };
  }
  if (kind === "slot") {
    const cuts = new SlotCuts(image, directory, seed);
    return { cut: (index) => cuts.cut(index), [Symbol.asyncDispose]: async () => {} };
  }
  return await readyCuts(image, seed, directory);
}

/** One box, cut and started again and again. */
async function readyCuts(image: string, seed: number, directory: string): Promise<Cuts> {
  const disk = join(directory, "box.img");
  await copyDisk(image, disk, diskGiB * gib);
  await placeFiles(disk, { shell: "yes\n" });
  const architecture = architectureOf(image);
  let durable = 0;
  const cut = async (index: number): Promise<Record<string, unknown>> => {
    const random = seededRandom(seed * 100_003 + index);
    const afterMs = Math.floor(random() * windowMs);
    const report = await cutOnce({ architecture, disk }, directory, afterMs, random);
    durable = Math.max(durable, report.rows);
    return { afterMs, ...report, ...(await bootsAgain({ architecture, disk }, durable)) };
  };
  return { cut, [Symbol.asyncDispose]: async () => {} };
}

type Machine = { readonly architecture: ImageArchitecture; readonly disk: string };

async function cutOnce(
  { architecture, disk }: Machine,
  directory: string,
  afterMs: number,
  random: Random,
): Promise<CutReport & { readonly rows: number }> {
  await using powered = await PoweredDisk.open(disk, directory, Math.floor(random() * 2 ** 31));
  await using box = new BootedBox({
    architecture,
    disk,
    forwards: [],
    drive: powered.drive("disk"),
  });
  const cutAt = systemClock.sleep(afterMs);
  const loading = box.says(/\n# /, windowMs).then(() => box.type(load));
  loading.catch(() => {});
  await cutAt;
  const report = await powered.cut();
  const rows = [...box.console.matchAll(/^ROW-(\d+)-DURABLE$/gm)].map(([, row]) => Number(row));
  return { ...report, rows: Math.max(0, ...rows) };
}

/** Starts it on what the cut left. @throws LabError lab.machine */
async function bootsAgain({ architecture, disk }: Machine, durable: number): Promise<Record<string, unknown>> {
  await using box = new BootedBox({ architecture, disk, forwards: [] });
  const beganNs = systemClock.monotonicNs();
  const [, slot] = await box.says(/Holdfast: slot ([AB]) on /, bootMsMax * startsMax);
  const facts = { slot, seconds: Math.round((systemClock.monotonicNs() - beganNs) / 1e9) };
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
