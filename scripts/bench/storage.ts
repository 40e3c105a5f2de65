// SPDX-License-Identifier: Apache-2.0
/**
 * Storage against the disk it stands on: durable events one at a time and in groups, the time of a stopped thread in it, and
 * the start on a full journal. Every figure but the last is a ratio to a control of the same round, or stands beside one.
 *
 *     bun scripts/bench/storage.ts [--json FILE] [--rounds 12] [--seed 1] [--journal 64] [--faults 60]
 *
 * Controls: `fdatasync` = pwrite of one WAL frame (4,120 bytes) into blocks that are there, then fdatasync, on a file beside
 * the journal; `asked` = the same in another thread, asked for it and answering by messages; `NORMAL` = the same batches
 * through the same code into a journal that is not flushed. Controls take turns with what they are for, call by call, and
 * rates are over the sum of times. Before intents that come at once their code is warmed, as a guard does at each stop
 * while the stub's answer is awaited; that is not counted. As root it runs under SCHED_FIFO, so that no other program's
 * work is counted as ours.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { seededRandom, systemClock } from "#clock.ts";
import { silentLog } from "#log.ts";
import { setSynchronous } from "#storage/database.ts";
import { Journal } from "#storage/journal.ts";
import { eventRow } from "#storage/rows.ts";
import { Storage } from "#storage/storage.ts";
import { checkpointWal, growWal } from "#storage/storedFile.ts";
import { controlResult, publish, readFlags } from "./benchReport.ts";
import { median, quantile } from "./statistics.ts";
import { type Figure, p99Of, plain, ratioOf, tableOf } from "./storageFigures.ts";
import { guardedIntents } from "./storageGuard.ts";
import {
  type Arrivals,
  arrivals,
  Control,
  coldIntents,
  groups,
  type IntentTimes,
  intents,
  nowUs,
  saturated,
  singles,
} from "./storageLoad.ts";

const flags = readFlags(process.argv.slice(2), { rounds: 12, seed: 1, journal: 64, faults: 60 });
const { rounds = 12, seed = 1, journal: journalMebibytes = 64, faults = 60 } = flags.numbers;
const batchRows = [16, 100, 256] as const;
/** Rounds of single events before the first idle moment: 12 MiB of WAL. */
const warmUps = 20;
const walBytes = 32 * 1024 * 1024;
/** An idle moment, long enough for upkeep. */
const idleMs = 800;
const stoppedUsMax = 5;
const bootMsMax = 2_000;
/** Set for the run under SCHED_FIFO. */
const aloneVariable = "HOLDFAST_BENCH_ALONE";

const conditions = { atMs: systemClock.wallMs(), freeBytes: Number.MAX_SAFE_INTEGER, afterError: false, damage: null };

/** Start to the first guarded program on a journal of the size at which rows begin to go. */
async function bootOnFullJournal(scratch: string): Promise<Figure> {
  {
    using journal = Journal.open(join(scratch, "full"), conditions, systemClock);
    const rows = 256;
    const padding = "x".repeat(1024);
    const total = (journalMebibytes * 1024) / 1.2;
    for (let written = 0; written < total; written += rows) {
      const batch = Array.from({ length: rows }, (_, index) =>
        eventRow(`e-${written + index}`, { event: "bench", workload: "w", facts: { padding } }, conditions.atMs),
      );
      journal.write(batch);
    }
  }
  const start = nowUs();
  await using storage = await open(scratch, "full");
  const more = { mebibytes: journalMebibytes, rows: storage.durableCursor };
  return plain((nowUs() - start) / 1000, "ms", { atMost: bootMsMax }, more);
}

const open = (scratch: string, name: string): Promise<Storage> =>
  Storage.open({
    directory: join(scratch, name),
    runDirectory: join(scratch, "run"),
    clock: systemClock,
    log: silentLog,
  });

class Measured {
  readonly controls: number[][] = [];
  readonly inWriter: number[] = [];
  readonly overAsked: number[] = [];
  readonly endToEnd: number[] = [];
  readonly askedOverBare: number[] = [];
  readonly arrivals: Arrivals = { waits: [], flushes: [] };
  readonly group = new Map<number, number[]>(batchRows.map((rows) => [rows, []]));
  readonly rowsPerS: number[] = [];
  readonly rowsPerBatch: number[] = [];
  readonly well: IntentTimes = { times: [], bare: [] };
  readonly cold: IntentTimes = { times: [], bare: [] };
  readonly blind: IntentTimes = { times: [], bare: [] };
  readonly pages: IntentTimes = { times: [], bare: [] };
}

/** The things that a round measures with, alive from the first round to the last. */
type Bench = { scratch: string; control: Control; storage: Storage; flushed: Journal; lazy: Journal };

async function measure({ scratch, control, storage, flushed, lazy }: Bench, measured: Measured): Promise<void> {
  const random = seededRandom(seed + measured.controls.length);
  const times = await singles(storage, flushed, control);
  measured.controls.push(times.flush);
  measured.inWriter.push(sum(times.flush) / sum(times.inWriter));
  measured.overAsked.push(sum(times.asked) / sum(times.endToEnd));
  measured.endToEnd.push(sum(times.flush) / sum(times.endToEnd));
  measured.askedOverBare.push(sum(times.flush) / sum(times.asked));
  const { waits, flushes } = await arrivals(storage, control, random);
  measured.arrivals.waits.push(...waits);
  measured.arrivals.flushes.push(...flushes);
  const { rowsPerS, rowsPerBatch } = await saturated(storage);
  measured.rowsPerS.push(rowsPerS);
  measured.rowsPerBatch.push(rowsPerBatch);
  // As upkeep does in idle; nobody else keeps these two journals in order.
  for (const journal of [flushed, lazy]) checkpointWal(journal.opened.database, "PASSIVE");
  for (const rows of batchRows) measured.group.get(rows)!.push(groups(flushed, lazy, rows));
  add(measured.well, await intents(storage, control, true));
  add(measured.cold, await coldIntents(storage, control));
  {
    // A ring of its own for each round: while blind no slot is freed.
    const name = `blind-${measured.controls.length}`;
    writeFileSync(join(scratch, name), "a file where the directory should be");
    await using blind = await open(scratch, name);
    add(measured.blind, await intents(blind, control, false));
  }
  const pages = new Worker(new URL("./storagePages.ts", import.meta.url).href);
  pages.postMessage(join(scratch, "pages"));
  add(measured.pages, await intents(storage, control, true));
  pages.terminate();
  await systemClock.sleep(idleMs);
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
const add = (to: IntentTimes, more: IntentTimes): void => {
  to.times.push(...more.times);
  to.bare.push(...more.bare);
};

async function measureAll(scratch: string): Promise<Measured> {
  using control = new Control(join(scratch, "control"));
  await using storage = await open(scratch, "events");
  for (const name of ["full-flush", "no-flush", "full", "pages"]) mkdirSync(join(scratch, name));
  using flushed = Journal.open(join(scratch, "full-flush"), conditions, systemClock);
  using lazy = Journal.open(join(scratch, "no-flush"), conditions, systemClock);
  setSynchronous(lazy.opened.database, 1);
  // A WAL gets the size of the longest one in the first idle moment after it; from then on commits overwrite.
  for (let load = 0; load < warmUps; load += 1) await singles(storage, flushed, control);
  for (const journal of [flushed, lazy]) {
    growWal(journal.opened, walBytes, Number.MAX_SAFE_INTEGER);
    checkpointWal(journal.opened.database, "PASSIVE");
  }
  await systemClock.sleep(idleMs);
  const measured = new Measured();
  for (let round = 0; round < rounds; round += 1) await measure({ scratch, control, storage, flushed, lazy }, measured);
  return measured;
}

/** The two acknowledgements that are no target are there to be read beside the one that is. */
function figuresOf(measured: Measured, guarded: { well: number[]; blind: number[] }): Record<string, Figure> {
  const flushes = measured.controls.flat();
  const { waits, flushes: between } = measured.arrivals;
  const ack = quantile(waits, 0.99);
  const stopped = { atMost: stoppedUsMax };
  // The target is for batches as large as they become when events outrun the flush (`saturated`); a smaller batch takes less
  // time than one flush, so its ratio tells of the disk.
  const group = [...measured.group].map(([rows, values]) => {
    const target = rows === batchRows.at(-1) ? { atLeast: 0.5 } : {};
    return [`groupOf${rows}OverNormal`, ratioOf(values, seed, target)] as const;
  });
  return {
    fdatasync: p99Of(flushes, []),
    singleInWriterOverFdatasync: ratioOf(measured.inWriter, seed, { atLeast: 0.75 }),
    singleEndToEndOverAsked: ratioOf(measured.overAsked, seed, { atLeast: 0.75 }),
    singleEndToEndOverFdatasync: ratioOf(measured.endToEnd, seed, { atLeast: 0.75 }),
    askedOverFdatasync: ratioOf(measured.askedOverBare, seed),
    ...Object.fromEntries(group),
    saturated: plain(
      median(measured.rowsPerS),
      "rows/s",
      {},
      { rowsPerBatch: Math.round(median(measured.rowsPerBatch)) },
    ),
    ackP99OverFdatasyncP99: plain(ack / quantile(between, 0.99), "ratio", { atMost: 3 }, { ackUs: Math.round(ack) }),
    ackMedianOverFdatasyncMedian: plain(median(waits) / median(between), "ratio"),
    stoppedThread: p99Of(measured.well.times, measured.well.bare, stopped),
    stoppedThreadBlind: p99Of(measured.blind.times, measured.blind.bare, stopped),
    stoppedThreadPagesWritten: p99Of(measured.pages.times, measured.pages.bare, stopped),
    stoppedThreadAfterIdle: p99Of(measured.cold.times, measured.cold.bare),
    stoppedThreadInGuard: p99Of(guarded.well, [], stopped),
    stoppedThreadInGuardBlind: p99Of(guarded.blind, [], stopped),
  };
}

async function main(scratch: string): Promise<void> {
  const measured = await measureAll(scratch);
  writeFileSync(join(scratch, "no-state"), "a file where the directory should be");
  const guarded = {
    well: await guardedIntents(scratch, join(scratch, "guarded"), faults),
    blind: await guardedIntents(scratch, join(scratch, "no-state"), faults),
  };
  const results = { ...figuresOf(measured, guarded), bootOnFullJournal: await bootOnFullJournal(scratch) };
  const control = controlResult(measured.controls.map(median));
  const scheduling = process.env[aloneVariable] === undefined ? "as others" : "SCHED_FIFO";
  const shown = `${tableOf(results)}  ${scheduling}; ${control.warning ?? "the machine was quiet"}`;
  const report = { name: "storage", seed, rounds, results: { ...results, control, scheduling }, failed_runs: [] };
  await publish(report, flags.json, shown);
}

/** Runs this file again under SCHED_FIFO, where that is allowed. @returns its exit code, or null where it is not */
function runAlone(): number | null {
  const chrt = Bun.which("chrt");
  if (process.env[aloneVariable] !== undefined || process.getuid?.() !== 0 || chrt === null) return null;
  const words = [chrt, "-f", "20", process.execPath, ...process.argv.slice(1)];
  return Bun.spawnSync(words, {
    env: { ...process.env, [aloneVariable]: "1" },
    stdio: ["inherit", "inherit", "inherit"],
  }).exitCode;
}

const ended = runAlone();
if (ended !== null) process.exit(ended);
const scratch = mkdtempSync(join(process.env.TMPDIR ?? "/var/tmp", "holdfast-bench-"));
try {
  await main(scratch);
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
