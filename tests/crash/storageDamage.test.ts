// SPDX-License-Identifier: Apache-2.0
/**
 * Bit flips, holes, cuts and foreign bytes in every file of a state directory, as a dead supervisor left it: boot succeeds,
 * damage costs the damaged file's own content, the other files are intact, and what is written next can be read back.
 */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Random, seededRandom, systemClock, systemRandom } from "#clock.ts";
import { silentLog } from "#log.ts";
import { readCurve, readEntries, readMessages } from "#storage/cursorReader.ts";
import type { SampleRow } from "#storage/history.ts";
import { listFaults } from "#storage/journalReader.ts";
import { defaultLimits } from "#storage/limits.ts";
import type { OutboxRow } from "#storage/outbox.ts";
import { ringPath } from "#storage/ownership.ts";
import { PageFile } from "#storage/pageFile.ts";
import { eventRow, type JournalRow } from "#storage/rows.ts";
import { Storage } from "#storage/storage.ts";
import { Writer } from "#storage/writer.ts";
import { memoryScratch } from "#tests/memoryScratch.ts";
import { long } from "#tests/skip.ts";
import { sampleDecision, sampleOutcome, samplePlan, sampleReport } from "#tests/unit/storage/sampleFault.ts";

setDefaultTimeout(60_000);

const rounds = long("crash") ? 3_000 : 60;
const seed = Number(process.env.HOLDFAST_TEST_SEED ?? Math.floor(systemRandom() * 2 ** 31));
const rowsWritten = 1_500;
const batchRows = 50;
const conditions = { atMs: systemClock.wallMs(), freeBytes: Number.MAX_SAFE_INTEGER, afterError: false, damage: null };
const limits = { ...defaultLimits, ballastBytes: 65_536, tightFreeBytes: 0, tightFreeRatio: 0, criticalFreeBytes: 0 };

let scratch = "";
let memory = "";
let model = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "holdfast-damage-"));
  memory = memoryScratch("damage");
  model = join(scratch, "model");
  writeModel();
});
afterAll(() => {
  for (const directory of [scratch, memory]) rmSync(directory, { recursive: true, force: true });
});

/** A directory with all files, each with content in the database and in the WAL, as if the power had gone. */
function writeModel(): void {
  const live = join(scratch, "live");
  mkdirSync(live, { mode: 0o700 });
  const writer = new Writer(systemClock);
  writer.answer({ kind: "start", directory: live, limits });
  const pages = PageFile.open(live, conditions, limits);
  for (const half of [0, 1]) {
    for (let number = 0; number < rowsWritten / 2; number += batchRows)
      writeBatch(writer, half * (rowsWritten / 2) + number);
    writeCheckpoint(pages, half);
    // Twice: the second time the WAL is long enough to be grown.
    if (half === 0) for (const _ of [1, 2]) writer.answer({ kind: "upkeep" });
  }
  copyDirectory(live, model);
  pages[Symbol.dispose]();
  writer.answer({ kind: "close" });
}

function writeBatch(writer: Writer, first: number): void {
  const values = Array.from({ length: batchRows }, (_, index) => first + index);
  const atMs = systemClock.wallMs();
  const event = (value: number): JournalRow =>
    eventRow(`e-${value}`, { event: "count", workload: "w", facts: { number: value } }, atMs);
  const message = (value: number): OutboxRow => ({
    kind: "message",
    id: `m-${value}`,
    class: "info",
    topic: "t",
    retained: false,
    atMs,
    head: "{}",
    body: new Uint8Array(50),
  });
  const sample = (value: number): SampleRow => ({ kind: "sample", name: "n", workload: "w", unit: "", atMs, value });
  writer.answer({ kind: "write", file: "journal", again: false, rows: values.map(event) });
  writer.answer({ kind: "write", file: "outbox", again: false, rows: values.map(message) });
  writer.answer({ kind: "write", file: "history", again: false, rows: values.map(sample) });
}

function writeCheckpoint(pages: PageFile, number: number): void {
  const n = pages.nextExtent;
  const bytes = (length: number): Uint8Array => new Uint8Array(length).fill(7);
  pages.write(
    [{ n, codec: "raw", hashes: bytes(128), identities: bytes(512), body: bytes(60_000) }],
    [{ name: `k${number}`, body: bytes(9), extents: [n] }],
  );
  const seal = { id: `c${number}`, guest: "g", atMs: number, head: "{}", config: bytes(9), state: bytes(9) };
  pages.seal({ ...seal, chunks: [`k${number}`] });
}

test(
  `${rounds} damages, each boots (HOLDFAST_TEST_SEED=${seed})`,
  async () => {
    const random = seededRandom(seed);
    for (let round = 0; round < rounds; round += 1) {
      const directory = join(scratch, "hurt");
      const runDirectory = join(memory, "run");
      rmSync(directory, { recursive: true, force: true });
      rmSync(runDirectory, { recursive: true, force: true });
      copyDirectory(model, directory);
      const names = readdirSync(directory).filter((name) => name !== "owner.lock");
      const name = names[Math.floor(random() * names.length)]!;
      const done = damage(join(directory, name), random);
      const broken = await boot(directory, runDirectory, name.split(".")[0]!);
      expect({ seed, round, name, done, broken }).toEqual({ seed, round, name, done, broken: [] });
    }
  },
  rounds * 2_000,
);

test("a damaged ring costs its own slots and nothing else", async () => {
  const random = seededRandom(seed);
  for (let round = 0; round < 10; round += 1) {
    const directory = join(scratch, `ring-${round}`);
    const runDirectory = join(memory, `run-${round}`);
    writeFileSync(directory, "in the way");
    {
      await using storage = await Storage.open({ directory, runDirectory, clock: systemClock, log: silentLog });
      for (let fault = 0; fault < 20; fault += 1) {
        const id = storage.nextFaultId();
        storage.intent(sampleReport(id), sampleDecision(id));
      }
    }
    rmSync(directory);
    damage(ringPath(runDirectory, directory), random);
    await using storage = await Storage.open({ directory, runDirectory, clock: systemClock, log: silentLog });
    expect(storage.state()).toMatchObject({ kind: expect.not.stringContaining("blind"), ringSlots: 0 });
    expect(storage.history.length).toBeLessThanOrEqual(20);
    expect(storage.history.every(({ verdict }) => verdict === "failed")).toBe(true);
  }
});

/** Everything that must hold after a boot with `hurt` damaged. */
async function boot(directory: string, runDirectory: string, hurt: string): Promise<string[]> {
  const broken: string[] = [];
  {
    await using storage = await Storage.open({ directory, runDirectory, clock: systemClock, log: silentLog, limits });
    if (storage.state().kind === "blind") broken.push(`blind: ${storage.state().why}`);
    const id = storage.nextFaultId();
    storage.intent(sampleReport(id), sampleDecision(id));
    storage.report(sampleReport(id), samplePlan, sampleDecision(id));
    storage.outcome(sampleOutcome(id));
    storage.sample("new", "w", 1);
    storage.outbox({ kind: "key", id: "new", atMs: 1, head: "{}" });
    for (const file of ["journal", "outbox", "history"] as const) await storage.flush(undefined, file);
    using pages = PageFile.open(directory, conditions, limits);
    if (hurt !== "pages" && pages.reader.checkpoints.length !== 2) broken.push("a checkpoint is gone");
    const { faults, problems } = listFaults({ stateDirectory: directory, limit: 10 });
    if (faults[0]?.id !== id) broken.push(`the new fault cannot be read: ${problems[0]?.why}`);
  }
  const expected = {
    journal: () =>
      readEntries(directory, 0, 10_000, "event").filter(
        ({ head }) => (head as { event?: string } | null)?.event === "count",
      ).length,
    outbox: () => readMessages(directory, 0, 10_000).length,
    history: () =>
      readCurve(directory, { name: "n", workload: "w" }, { fromMs: 0, toMs: Number.MAX_SAFE_INTEGER, limit: 10_000 })
        .points.length,
  };
  for (const [file, count] of Object.entries(expected)) {
    if (file !== hurt && count() !== rowsWritten) broken.push(`${file} has ${count()} rows of ${rowsWritten}`);
  }
  if (existsSync(join(directory, "quarantine"))) {
    for (const name of readdirSync(join(directory, "quarantine"))) {
      if (!name.startsWith(`${hurt}-`)) broken.push(`${name} was set aside, but ${hurt} was damaged`);
    }
  }
  return broken;
}

/** Damages one file. Gives what was done. */
function damage(path: string, random: Random): string {
  const bytes = readFileSync(path);
  const at = Math.floor(random() * bytes.length);
  const length = 1 + Math.floor(random() * 8192);
  const end = Math.min(bytes.length, at + length);
  const ways: readonly [string, () => Uint8Array][] = [
    ["a bit", () => flipBit(bytes, at, random)],
    ["a bit of the first page", () => flipBit(bytes, Math.floor(random() * Math.min(4096, bytes.length)), random)],
    ["a cut", () => bytes.subarray(0, at)],
    ["a hole", () => bytes.fill(0, at, end)],
    ["foreign bytes", () => bytes.fill(0xa5, at, end)],
    ["nothing left", () => new Uint8Array(0)],
    ["more than there was", () => Buffer.concat([bytes, Buffer.alloc(length, 0x5a)])],
  ];
  const [name, way] = ways[Math.floor(random() * ways.length)]!;
  writeFileSync(path, way());
  return `${name} at ${at}`;
}

function flipBit(bytes: Buffer, at: number, random: Random): Buffer {
  if (at < bytes.length) bytes.writeUInt8(bytes[at]! ^ (1 << Math.floor(random() * 8)), at);
  return bytes;
}

/** Copies files as they are; the sources may be open only where no lock of ours hangs on them. */
function copyDirectory(from: string, to: string): void {
  mkdirSync(to, { mode: 0o700 });
  const copied = Bun.spawnSync(["cp", "-a", ...readdirSync(from).map((name) => join(from, name)), to]);
  expect(copied.exitCode).toBe(0);
}
