// SPDX-License-Identifier: Apache-2.0
/**
 * Storage against the disk it stands on: durable events one at a time and in groups, the time of a stopped thread in it, and
 * the start on a full journal. Every figure is a ratio to a control of the same round, as disks differ by a factor of 100.
 *
 *     bun scripts/bench/storage.ts [--json FILE] [--rounds 12] [--seed 1] [--journal 64]
 *
 * Controls: `fdatasync` = pwrite of one WAL frame (4,120 bytes) into blocks that are there, then fdatasync, on a file beside
 * the journal; `NORMAL` = the same batches through the same code into a journal that is not flushed.
 */
import {
  closeSync,
  fdatasyncSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { seededRandom, systemClock } from "#clock.ts";
import { silentLog } from "#log.ts";
import { setSynchronous } from "#storage/database.ts";
import { Journal } from "#storage/journal.ts";
import { eventRow, type JournalRow } from "#storage/rows.ts";
import { Storage } from "#storage/storage.ts";
import { sampleDecision, samplePlan, sampleReport } from "#tests/unit/storage/sampleFault.ts";
import { controlResult, publish, readFlags, rounded } from "./benchReport.ts";
import { median, medianInterval, quantile } from "./statistics.ts";

const flags = readFlags(process.argv.slice(2), { rounds: 12, seed: 1, journal: 64 });
const { rounds = 12, seed = 1, journal: journalMebibytes = 64 } = flags.numbers;
const frameBytes = 4120;
const controlBytes = 4 * 1024 * 1024;
const singlesPerRound = 150;
const controlsPerRound = 150;
const batchRows = [16, 100, 256] as const;
const batchesPerRound = 30;
const arrivalsPerRound = 1_500;
const arrivalGapUs = 60;
/** Below the limit of the queue, or rows would be dropped. */
const saturatedRows = 3_500;
/** Below the slots of the ring: while blind none is freed. */
const intentsPerRound = 800;
/** Intents of which the report follows at once, so that the ring never fills. */
const intentsAtOnce = 200;

/** Longer than the time between two thoughts of upkeep. */
const firstIdleMs = 6_000;

const scratch = mkdtempSync(join(process.env.TMPDIR ?? "/var/tmp", "holdfast-bench-"));
const conditions = { atMs: systemClock.wallMs(), freeBytes: Number.MAX_SAFE_INTEGER, afterError: false, damage: null };
const nowUs = (): number => systemClock.monotonicNs() / 1000;
const open = (name: string): Promise<Storage> =>
  Storage.open({
    directory: join(scratch, name),
    runDirectory: join(scratch, "run"),
    clock: systemClock,
    log: silentLog,
  });

/** Times of single flushes of the disk, µs. */
class FlushControl implements Disposable {
  readonly #descriptor = openSync(join(scratch, "control"), "w+");
  readonly #frame = new Uint8Array(frameBytes).fill(7);

  constructor() {
    writeSync(this.#descriptor, new Uint8Array(controlBytes));
    fsyncSync(this.#descriptor);
  }

  round(): number[] {
    return Array.from({ length: controlsPerRound }, (_, index) => {
      const start = nowUs();
      writeSync(this.#descriptor, this.#frame, 0, frameBytes, 32 + index * frameBytes);
      fdatasyncSync(this.#descriptor);
      return nowUs() - start;
    });
  }

  [Symbol.dispose](): void {
    closeSync(this.#descriptor);
  }
}

/** Lets messages of Workers in. A timer would be too coarse for arrivals some 60 µs apart. */
const turn = (): Promise<void> =>
  new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = (): void => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Durable events one at a time, through the Worker and back; the mean time of one, µs. */
async function singles(storage: Storage): Promise<number> {
  const start = nowUs();
  for (let count = 0; count < singlesPerRound; count += 1) {
    storage.event("bench", "w", { count, padding: "x".repeat(120) });
    await storage.flush();
  }
  return (nowUs() - start) / singlesPerRound;
}

/** Events that arrive at random; the time of each until it is durable, µs. */
async function arrivals(storage: Storage, random: () => number): Promise<number[]> {
  const pushedUs: number[] = [];
  const waits: number[] = [];
  const first = storage.durableCursor;
  const stop = new AbortController();
  const watching = (async () => {
    for await (const cursor of storage.commits(stop.signal)) {
      const atUs = nowUs();
      while (waits.length < cursor - first && waits.length < pushedUs.length)
        waits.push(atUs - pushedUs[waits.length]!);
      if (waits.length === arrivalsPerRound) return;
    }
  })();
  for (let dueUs = nowUs(); pushedUs.length < arrivalsPerRound; ) {
    dueUs += -Math.log(1 - random()) * arrivalGapUs;
    while (nowUs() < dueUs) await turn();
    pushedUs.push(nowUs());
    storage.event("bench", "w", { count: pushedUs.length, padding: "x".repeat(120) });
  }
  await watching;
  return waits;
}

/** Many more events than one flush takes: rows a second, and how large the batches become by themselves. */
async function saturated(storage: Storage): Promise<{ rowsPerS: number; rowsPerBatch: number }> {
  const stop = new AbortController();
  let batchCount = 0;
  const first = storage.durableCursor;
  const watching = (async () => {
    for await (const cursor of storage.commits(stop.signal)) {
      if (cursor === first) continue;
      batchCount += 1;
      if (cursor - first >= saturatedRows) return;
    }
  })();
  const start = nowUs();
  for (let count = 0; count < saturatedRows; count += 1)
    storage.event("bench", "w", { count, padding: "x".repeat(120) });
  await watching;
  return { rowsPerS: (saturatedRows * 1e6) / (nowUs() - start), rowsPerBatch: saturatedRows / batchCount };
}

/** Rows a second of batches of `rows` in one journal. */
function batches(journal: Journal, rows: number): number {
  const start = nowUs();
  for (let batch = 0; batch < batchesPerRound; batch += 1) journal.write(batchOf(journal.cursor, rows));
  return (rows * batchesPerRound * 1e6) / (nowUs() - start);
}

const batchOf = (from: number, rows: number): JournalRow[] =>
  Array.from({ length: rows }, (_, index) =>
    eventRow(
      `e-${from + index}`,
      { event: "bench", workload: "w", facts: { padding: "x".repeat(120) } },
      conditions.atMs,
    ),
  );

/** Time of each intent, µs. With `report`, the rows follow as they do in life, so that slots are freed. */
async function intents(storage: Storage, report: boolean): Promise<number[]> {
  const times: number[] = [];
  while (times.length < intentsPerRound) {
    const made = Array.from({ length: intentsAtOnce }, () => {
      const id = storage.nextFaultId();
      return { report: sampleReport(id), decision: sampleDecision(id) };
    });
    for (const { report: fault, decision } of made) {
      const start = nowUs();
      storage.intent(fault, decision);
      times.push(nowUs() - start);
    }
    if (!report) continue;
    for (const { report: fault, decision } of made) storage.report(fault, samplePlan, decision);
    await storage.flush();
  }
  return times;
}

const microseconds = (times: readonly number[]): Record<string, number> => ({
  p50Us: rounded(quantile(times, 0.5), 2),
  p99Us: rounded(quantile(times, 0.99), 2),
  p999Us: rounded(quantile(times, 0.999), 2),
  target: 5,
});

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
  ackOverP99: number[];
  ackOverMedian: number[];
  group: Map<number, number[]>;
  rowsPerS: number[];
  rowsPerBatch: number[];
  well: number[];
  blind: number[];
  pages: number[];
};

/** The things that a round measures with, alive from the first round to the last. */
type Bench = { control: FlushControl; storage: Storage; flushed: Journal; lazy: Journal; random: () => number };

async function measure({ control, storage, flushed, lazy, random }: Bench, figures: Figures): Promise<void> {
  const flush = control.round();
  figures.controls.push(flush);
  figures.single.push(mean(flush) / (await singles(storage)));
  const waits = await arrivals(storage, random);
  figures.ackOverMedian.push(quantile(waits, 0.99) / median(flush));
  figures.ackOverP99.push(quantile(waits, 0.99) / quantile(flush, 0.99));
  const { rowsPerS, rowsPerBatch } = await saturated(storage);
  figures.rowsPerS.push(rowsPerS);
  figures.rowsPerBatch.push(rowsPerBatch);
  for (const rows of batchRows) figures.group.get(rows)!.push(batches(flushed, rows) / batches(lazy, rows));
  figures.well.push(...(await intents(storage, true)));
  {
    // A ring of its own for each round: while blind no slot is freed.
    const name = `blind-${figures.controls.length}`;
    writeFileSync(join(scratch, name), "a file where the directory should be");
    await using blind = await open(name);
    figures.blind.push(...(await intents(blind, false)));
  }
  const pages = new Worker(new URL("./storagePages.ts", import.meta.url).href);
  pages.postMessage(join(scratch, "pages"));
  figures.pages.push(...(await intents(storage, true)));
  pages.terminate();
}

async function measureAll(): Promise<Figures> {
  using control = new FlushControl();
  await using storage = await open("events");
  for (const name of ["full-flush", "no-flush", "full", "pages"]) mkdirSync(join(scratch, name));
  using flushed = Journal.open(join(scratch, "full-flush"), conditions, systemClock);
  using lazy = Journal.open(join(scratch, "no-flush"), conditions, systemClock);
  setSynchronous(lazy.opened.database, 1);
  // The WAL gets its full size in the first idle moment of a supervisor's life; from then on commits overwrite.
  await singles(storage);
  await systemClock.sleep(firstIdleMs);
  const group = new Map<number, number[]>(batchRows.map((rows) => [rows, []]));
  const figures: Figures = {
    controls: [],
    single: [],
    ackOverP99: [],
    ackOverMedian: [],
    group,
    rowsPerS: [],
    rowsPerBatch: [],
    well: [],
    blind: [],
    pages: [],
  };
  for (let round = 0; round < rounds; round += 1) {
    await measure({ control, storage, flushed, lazy, random: seededRandom(seed + round) }, figures);
  }
  return figures;
}

async function main(): Promise<void> {
  const figures = await measureAll();
  const flushes = figures.controls.flat();
  const groups = [...figures.group].map(
    ([rows, values]) => [`groupOf${rows}OverNormal`, ratio(values, 0.5, true)] as const,
  );
  const results = {
    fdatasync: { p50Us: rounded(median(flushes)), p99Us: rounded(quantile(flushes, 0.99)) },
    control: controlResult(figures.controls.map(median)),
    singleDurableOverFdatasync: ratio(figures.single, 0.75, true),
    ...Object.fromEntries(groups),
    saturated: { rowsPerS: rounded(median(figures.rowsPerS), 0), rowsPerBatch: rounded(median(figures.rowsPerBatch)) },
    ackP99OverFdatasyncP99: ratio(figures.ackOverP99, 3, false),
    ackP99OverFdatasyncMedian: ratio(figures.ackOverMedian, 3, false),
    stoppedThread: microseconds(figures.well),
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
