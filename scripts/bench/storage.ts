// SPDX-License-Identifier: Apache-2.0
/**
 * Storage against the disk it stands on: durable events one at a time and in groups, the time of a stopped thread in it, and
 * the start on a full journal. Every figure is a ratio to a control of the same round, as disks differ by a factor of 100.
 *
 *     bun scripts/bench/storage.ts [--json FILE] [--rounds 12] [--seed 1] [--journal 64]
 *
 * Controls: `fdatasync` = pwrite of one WAL frame (4,120 bytes) into blocks that are there, then fdatasync, on a file beside
 * the journal; `NORMAL` = the same batches through the same code into a journal that is not flushed. Controls take turns
 * with what they are for, call by call.
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
import { controlResult, publish, readFlags, rounded } from "./benchReport.ts";
import { median, medianInterval, quantile } from "./statistics.ts";
import {
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

const flags = readFlags(process.argv.slice(2), { rounds: 12, seed: 1, journal: 64 });
const { rounds = 12, seed = 1, journal: journalMebibytes = 64 } = flags.numbers;
const batchRows = [16, 100, 256] as const;
/** Rounds of single events before the first idle moment: 12 MiB of WAL. */
const warmUps = 20;
const walBytes = 32 * 1024 * 1024;
/** An idle moment, long enough for upkeep. */
const idleMs = 800;

const scratch = mkdtempSync(join(process.env.TMPDIR ?? "/var/tmp", "holdfast-bench-"));
const conditions = { atMs: systemClock.wallMs(), freeBytes: Number.MAX_SAFE_INTEGER, afterError: false, damage: null };
const open = (name: string): Promise<Storage> =>
  Storage.open({
    directory: join(scratch, name),
    runDirectory: join(scratch, "run"),
    clock: systemClock,
    log: silentLog,
  });

const microseconds = ({ times, bare }: IntentTimes): Record<string, unknown> => {
  const p99 = quantile(times, 0.99);
  return {
    p50Us: rounded(quantile(times, 0.5), 2),
    p99Us: rounded(p99, 2),
    p999Us: rounded(quantile(times, 0.999), 2),
    bareWriteP50Us: rounded(quantile(bare, 0.5), 2),
    bareWriteP99Us: rounded(quantile(bare, 0.99), 2),
    targetUs: 5,
    met: p99 <= 5,
  };
};

const ratio = (values: readonly number[], target: number, atLeast: boolean): Record<string, unknown> => {
  const value = median(values);
  const { low, high } = medianInterval(values, seed);
  return {
    ratio: rounded(value, 3),
    low: rounded(low, 3),
    high: rounded(high, 3),
    target,
    met: atLeast ? value >= target : value <= target,
  };
};

/** Start to the first guarded program on a journal of the size at which rows begin to go. */
async function bootOnFullJournal(): Promise<Record<string, unknown>> {
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
  await using storage = await open("full");
  const ms = (nowUs() - start) / 1000;
  return { ms: rounded(ms), mebibytes: journalMebibytes, rows: storage.durableCursor, targetMs: 2000, met: ms <= 2000 };
}

type Figures = {
  controls: number[][];
  single: number[];
  endToEnd: number[];
  endToEndBare: number[];
  ackOverP99: number[];
  ackOverMedian: number[];
  group: Map<number, number[]>;
  rowsPerS: number[];
  rowsPerBatch: number[];
  well: IntentTimes;
  cold: IntentTimes;
  blind: IntentTimes;
  pages: IntentTimes;
};

/** The things that a round measures with, alive from the first round to the last. */
type Bench = { control: Control; storage: Storage; flushed: Journal; lazy: Journal; random: () => number };

async function measure({ control, storage, flushed, lazy, random }: Bench, figures: Figures): Promise<void> {
  const { flushes, asked, inWriter, endToEnd } = await singles(storage, flushed, control);
  figures.controls.push(flushes);
  figures.single.push(median(flushes) / median(inWriter));
  figures.endToEnd.push(median(asked) / median(endToEnd));
  figures.endToEndBare.push(median(flushes) / median(endToEnd));
  const waits = await arrivals(storage, random);
  figures.ackOverMedian.push(quantile(waits, 0.99) / median(flushes));
  figures.ackOverP99.push(quantile(waits, 0.99) / quantile(flushes, 0.99));
  const { rowsPerS, rowsPerBatch } = await saturated(storage);
  figures.rowsPerS.push(rowsPerS);
  figures.rowsPerBatch.push(rowsPerBatch);
  // As upkeep does in idle; nobody else keeps these two journals in order.
  for (const journal of [flushed, lazy]) checkpointWal(journal.opened.database, "PASSIVE");
  for (const rows of batchRows) figures.group.get(rows)!.push(groups(flushed, lazy, rows));
  add(figures.well, await intents(storage, control, true));
  add(figures.cold, await coldIntents(storage, control));
  {
    // A ring of its own for each round: while blind no slot is freed.
    const name = `blind-${figures.controls.length}`;
    writeFileSync(join(scratch, name), "a file where the directory should be");
    await using blind = await open(name);
    add(figures.blind, await intents(blind, control, false));
  }
  const pages = new Worker(new URL("./storagePages.ts", import.meta.url).href);
  pages.postMessage(join(scratch, "pages"));
  add(figures.pages, await intents(storage, control, true));
  pages.terminate();
  await systemClock.sleep(idleMs);
}

const none = (): IntentTimes => ({ times: [], bare: [] });
const add = (to: IntentTimes, more: IntentTimes): void => {
  to.times.push(...more.times);
  to.bare.push(...more.bare);
};

async function measureAll(): Promise<Figures> {
  using control = new Control(join(scratch, "control"));
  await using storage = await open("events");
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
  const group = new Map<number, number[]>(batchRows.map((rows) => [rows, []]));
  const figures: Figures = {
    controls: [],
    single: [],
    endToEnd: [],
    endToEndBare: [],
    ackOverP99: [],
    ackOverMedian: [],
    group,
    rowsPerS: [],
    rowsPerBatch: [],
    well: none(),
    cold: none(),
    blind: none(),
    pages: none(),
  };
  for (let round = 0; round < rounds; round += 1) {
    await measure({ control, storage, flushed, lazy, random: seededRandom(seed + round) }, figures);
  }
  return figures;
}

async function main(): Promise<void> {
  const figures = await measureAll();
  const flushes = figures.controls.flat();
  // The target is for batches as large as they become when events outrun the flush (`saturated`); a smaller batch takes less
  // time than one flush, so its ratio tells of the disk.
  const groups = [...figures.group].map(([rows, values]) => {
    const ratios = rows === batchRows.at(-1) ? ratio(values, 0.5, true) : { ratio: rounded(median(values), 3) };
    return [`groupOf${rows}OverNormal`, ratios] as const;
  });
  const results = {
    fdatasync: { p50Us: rounded(median(flushes)), p99Us: rounded(quantile(flushes, 0.99)) },
    control: controlResult(figures.controls.map(median)),
    singleDurableOverFdatasync: ratio(figures.single, 0.75, true),
    endToEndOverAskedFdatasync: ratio(figures.endToEnd, 0.75, true),
    endToEndOverBareFdatasync: { ratio: rounded(median(figures.endToEndBare), 3) },
    ...Object.fromEntries(groups),
    saturated: { rowsPerS: rounded(median(figures.rowsPerS), 0), rowsPerBatch: rounded(median(figures.rowsPerBatch)) },
    ackP99OverFdatasyncP99: ratio(figures.ackOverP99, 3, false),
    ackP99OverFdatasyncMedian: ratio(figures.ackOverMedian, 3, false),
    stoppedThread: microseconds(figures.well),
    stoppedThreadCold: microseconds(figures.cold),
    stoppedThreadBlind: microseconds(figures.blind),
    stoppedThreadPagesWritten: microseconds(figures.pages),
    bootOnFullJournal: await bootOnFullJournal(),
  };
  await publish({ name: "storage", seed, rounds, results, failed_runs: [] }, flags.json);
}

try {
  await main();
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
