// SPDX-License-Identifier: Apache-2.0
/**
 * The loads of scripts/bench/storage.ts, each with the bare call that it is measured against taking turns with it. Gets a
 * storage or a journal; gives times in µs.
 */
import { closeSync, fdatasyncSync, fsyncSync, openSync, rmSync, writeSync } from "node:fs";
import { systemClock } from "#clock.ts";
import type { Journal } from "#storage/journal.ts";
import { eventRow, type JournalRow } from "#storage/rows.ts";
import type { Storage } from "#storage/storage.ts";
import { sampleDecision, samplePlan, sampleReport } from "#tests/unit/storage/sampleFault.ts";

const frameBytes = 4120;
const controlBytes = 4 * 1024 * 1024;
const controlFrames = 900;
const singlesPerRound = 160;
const batchesPerRound = 30;
const slicesPerRound = 10;
const arrivalsPerSlice = 100;
const flushesPerSlice = 20;
const groupRowsMax = 8;
/** Below the limit of the queue, or rows would be dropped. */
const saturatedRows = 3_500;
/** Below the slots of the ring: while blind none is freed. */
const intentsPerRound = 800;
const coldPerRound = 60;
/** Intents of which the report follows at once, so that the ring never fills. */
const intentsAtOnce = 200;

export const nowUs = (): number => systemClock.monotonicNs() / 1000;

/** The bare calls that storage is measured against. */
export class Control implements Disposable {
  readonly #memoryPath = `/dev/shm/holdfast-bench-${process.pid}`;
  readonly #disk: number;
  readonly #memory: number;
  readonly #frame = new Uint8Array(frameBytes).fill(7);
  readonly #slot = new Uint8Array(256);
  readonly #thread = new Worker(new URL("./storageFlush.ts", import.meta.url).href);
  #frames = 0;

  /** Makes its file in `path`, on the disk to be measured. */
  constructor(path: string) {
    this.#disk = openSync(path, "w+");
    this.#memory = openSync(this.#memoryPath, "w+");
    writeSync(this.#disk, new Uint8Array(controlBytes));
    fsyncSync(this.#disk);
    writeSync(this.#memory, new Uint8Array(controlBytes));
    this.#thread.postMessage(`${path}-thread`);
  }

  /** One flush of the disk, µs. */
  flush(): number {
    const start = nowUs();
    writeSync(this.#disk, this.#frame, 0, frameBytes, 32 + (this.#frames % controlFrames) * frameBytes);
    fdatasyncSync(this.#disk);
    this.#frames += 1;
    return nowUs() - start;
  }

  /** One flush asked of another thread, with a message as large as an event's, µs. */
  async askedFlush(): Promise<number> {
    const answered = Promise.withResolvers<void>();
    this.#thread.onmessage = (): void => answered.resolve();
    const start = nowUs();
    this.#thread.postMessage({ padding: "x".repeat(250) });
    await answered.promise;
    return nowUs() - start;
  }

  /** One write of a slot into memory, µs. */
  slot(index: number): number {
    const start = nowUs();
    writeSync(this.#memory, this.#slot, 0, this.#slot.length, index * this.#slot.length);
    return nowUs() - start;
  }

  [Symbol.dispose](): void {
    this.#thread.terminate();
    closeSync(this.#disk);
    closeSync(this.#memory);
    rmSync(this.#memoryPath);
  }
}

export type SingleTimes = Record<"flush" | "asked" | "inWriter" | "endToEnd", number[]>;

/**
 * Durable events one at a time, in turn: a bare flush, an event in the thread that writes, a bare flush asked of another
 * thread, and an event through the Worker and back; times, µs. Each comes after each of the others equally often.
 */
export async function singles(storage: Storage, writer: Journal, control: Control): Promise<SingleTimes> {
  const times: SingleTimes = { flush: [], asked: [], inWriter: [], endToEnd: [] };
  const acts: Record<keyof SingleTimes, (count: number) => number | Promise<number>> = {
    flush: () => control.flush(),
    asked: () => control.askedFlush(),
    inWriter: (count) => {
      const row = batchOf(count, 1);
      const start = nowUs();
      writer.write(row);
      return nowUs() - start;
    },
    endToEnd: async (count) => {
      const start = nowUs();
      storage.event("bench", "w", { count, padding: "x".repeat(120) });
      await storage.flush();
      return nowUs() - start;
    },
  };
  for (let count = 0; count < singlesPerRound; count += 1) {
    for (const kind of turns[count % turns.length]!) times[kind].push(await acts[kind](count));
  }
  return times;
}

/** Four orders in which each kind follows each other kind once. */
const turns: readonly (readonly (keyof SingleTimes)[])[] = [
  ["flush", "asked", "endToEnd", "inWriter"],
  ["asked", "inWriter", "flush", "endToEnd"],
  ["inWriter", "endToEnd", "asked", "flush"],
  ["endToEnd", "flush", "inWriter", "asked"],
];

export type Arrivals = { readonly waits: number[]; readonly flushes: number[] };

/**
 * Events that arrive in small groups of random size, as the loop of a program wakes: the time of each until it is durable,
 * and of bare flushes in the pauses between; µs.
 */
export async function arrivals(storage: Storage, control: Control, random: () => number): Promise<Arrivals> {
  const waits: number[] = [];
  const flushes: number[] = [];
  for (let slice = 0; slice < slicesPerRound; slice += 1) {
    waits.push(...(await arrive(storage, random)));
    for (let count = 0; count < flushesPerSlice; count += 1) flushes.push(control.flush());
  }
  return { waits, flushes };
}

async function arrive(storage: Storage, random: () => number): Promise<number[]> {
  const pushedUs: number[] = [];
  const waits: number[] = [];
  const first = storage.durableCursor;
  const stop = new AbortController();
  const watching = (async () => {
    for await (const cursor of storage.commits(stop.signal)) {
      const atUs = nowUs();
      while (waits.length < cursor - first && waits.length < pushedUs.length)
        waits.push(atUs - pushedUs[waits.length]!);
      if (waits.length === arrivalsPerSlice) return;
    }
  })();
  while (pushedUs.length < arrivalsPerSlice) {
    await systemClock.sleep(1);
    const group = Math.min(1 + Math.floor(random() * groupRowsMax), arrivalsPerSlice - pushedUs.length);
    for (let row = 0; row < group; row += 1) {
      pushedUs.push(nowUs());
      storage.event("bench", "w", { count: pushedUs.length, padding: "x".repeat(120) });
    }
  }
  await watching;
  return waits;
}

/** As a guard does in its rehearsal, and from then on at each stop while the stub is asked. */
function warmUp(storage: Storage): void {
  const id = storage.nextFaultId();
  storage.rehearse(sampleReport(id), sampleDecision(id));
}

/** One intent after each pause, as faults come in life: caches cold. Each goes first every other time. */
export async function coldIntents(storage: Storage, control: Control): Promise<IntentTimes> {
  const times: number[] = [];
  const bare: number[] = [];
  warmUp(storage);
  for (let count = 0; count < coldPerRound; count += 1) {
    const id = storage.nextFaultId();
    const [report, decision] = [sampleReport(id), sampleDecision(id)];
    storage.warm();
    if (count % 2 === 0) bare.push(control.slot(count));
    else {
      const start = nowUs();
      storage.intent(report, decision);
      times.push(nowUs() - start);
    }
    storage.report(report, samplePlan, decision);
    await storage.flush();
    await systemClock.sleep(1);
  }
  return { times, bare };
}

/** Many more events than one flush takes: rows a second, and how large the batches become by themselves. */
export async function saturated(storage: Storage): Promise<{ rowsPerS: number; rowsPerBatch: number }> {
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

/** Time of batches in a journal that is not flushed, over that of the same batches in one that is, in turn. */
export function groups(flushed: Journal, lazy: Journal, rows: number): number {
  let lazyUs = 0;
  let flushedUs = 0;
  for (let batch = 0; batch < batchesPerRound; batch += 1) {
    const made = batchOf(flushed.cursor, rows);
    const start = nowUs();
    lazy.write(made);
    const middle = nowUs();
    flushed.write(made);
    lazyUs += middle - start;
    flushedUs += nowUs() - middle;
  }
  return lazyUs / flushedUs;
}

const batchOf = (from: number, rows: number): JournalRow[] =>
  Array.from({ length: rows }, (_, index) =>
    eventRow(
      `e-${from + index}`,
      { event: "bench", workload: "w", facts: { padding: "x".repeat(120) } },
      systemClock.wallMs(),
    ),
  );

export type IntentTimes = { times: number[]; bare: number[] };

/** Time of each intent, and of a bare write of as many bytes beside it, µs. With `report`, the rows follow as they do in life, so that slots are freed. */
export async function intents(storage: Storage, control: Control, report: boolean): Promise<IntentTimes> {
  const times: number[] = [];
  const bare: number[] = [];
  let bursts = 0;
  warmUp(storage);
  while (times.length < intentsPerRound) {
    const made = Array.from({ length: intentsAtOnce }, () => {
      const id = storage.nextFaultId();
      return { report: sampleReport(id), decision: sampleDecision(id) };
    });
    storage.warm();
    made.forEach(({ report: fault, decision }, index) => {
      // Each goes first every other time: whoever does finds the caches cold.
      if (index % 2 === bursts % 2) bare.push(control.slot(index));
      const start = nowUs();
      storage.intent(fault, decision);
      times.push(nowUs() - start);
      if (index % 2 !== bursts % 2) bare.push(control.slot(index));
    });
    bursts += 1;
    if (!report) continue;
    for (const { report: fault, decision } of made) storage.report(fault, samplePlan, decision);
    await storage.flush();
  }
  return { times, bare };
}
