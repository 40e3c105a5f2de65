// SPDX-License-Identifier: Apache-2.0
/**
 * A program that runs storage on a disk that fails at one chosen operation, again and again in new directories. It is
 * started with diskShim.c and prints one JSON object a line: `operations` of an undisturbed life, or the `broken` promises of
 * a disturbed one.
 *
 * Arguments: scratch directory (watched by the shim), control file, then the lives as JSON: `[[mishap, from, count], …]`;
 * a life with `from` 0 is undisturbed.
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type Clock, deadline, systemClock } from "#clock.ts";
import { StorageError } from "#errors.ts";
import { silentLog } from "#log.ts";
import { readEntries } from "#storage/cursorReader.ts";
import { openReadOnly } from "#storage/database.ts";
import { Storage } from "#storage/storage.ts";
import { checkContent, pathOf } from "#storage/storedFile.ts";
import { sampleDecision, sampleOutcome, samplePlan, sampleReport } from "#tests/unit/storage/sampleFault.ts";
import { everyOperation, heal, type Mishap, met, plan } from "./diskShim.ts";

const [scratch = "", control = "", lives = "[]"] = process.argv.slice(2);
/** Probes and upkeep come this much sooner than in life. */
const hurry = 500;
const faultsWritten = 4;
const eventsWritten = 12;
const patienceMs = 20_000;

const hastyClock: Clock = {
  ...systemClock,
  sleep: (delayMs, signal) => systemClock.sleep(delayMs / hurry, signal),
};
const limits = {
  walIdleBytes: 4096,
  walAgeMs: 0,
  truncateIntervalMs: 20,
  ballastBytes: 4096,
  tightFreeBytes: 0,
  tightFreeRatio: 0,
  criticalFreeBytes: 0,
};

const print = (value: unknown): void => void process.stdout.write(`${JSON.stringify(value)}\n`);

/** What must be in the journal in the end: ids of faults, trials and outcomes in order, and the number of events. */
type Written = { ids: string[]; events: number };

async function writeAll(storage: Storage, written: Written): Promise<void> {
  for (let fault = 0; fault < faultsWritten; fault += 1) {
    const id = storage.nextFaultId();
    const report = sampleReport(id, { atMs: systemClock.wallMs() });
    storage.intent(report, sampleDecision(id));
    storage.report(report, samplePlan, sampleDecision(id));
    written.ids.push(id, sampleDecision(id).trial);
    for (let event = 0; event < eventsWritten / faultsWritten; event += 1) {
      storage.event("count", "w", { number: written.events });
      written.events += 1;
      // Long enough for the batch, its failure and a probe; the next event comes in any case.
      await hastyClock.sleep(1_500);
    }
    storage.outcome(sampleOutcome(id));
    storage.sample("requests", "w", fault);
    storage.outbox({ kind: "cursor", name: "journal", n: fault });
    written.ids.push(`${sampleDecision(id).trial}=`);
  }
}

async function liveOnce(
  directory: string,
  mishap: Mishap,
  from: number,
  count: number,
): Promise<{ broken: string[]; struck: number }> {
  const broken: string[] = [];
  let struck = 0;
  const written: Written = { ids: [], events: 0 };
  plan(control, { mishap: from === 0 ? "count" : mishap, operations: everyOperation, from: Math.max(1, from), count });
  {
    await using storage = await Storage.open({
      directory,
      runDirectory: join(scratch, "run"),
      clock: hastyClock,
      log: silentLog,
      limits,
    });
    await writeAll(storage, written);
    struck = met(control).struck;
    // Nothing may be acknowledged while every operation fails; a stall is no failure.
    if (count === 0 && from > 0 && struck > 0 && mishap !== "stall")
      broken.push(...(await acknowledges(storage, written)));
    if (from === 0) print({ operations: met(control).seen });
    heal(control);
    const late = (): Error => new StorageError("storage.io", "not well again after the disk was healed");
    using patience = deadline(patienceMs, late);
    await storage
      .flush(patience.signal)
      .catch((error: Error) => broken.push(`${error.message}: ${storage.state().why}`));
  }
  return { broken: [...broken, ...compare(directory, written)], struck };
}

async function acknowledges(storage: Storage, written: Written): Promise<string[]> {
  storage.event("count", "w", { number: written.events });
  written.events += 1;
  const before = storage.durableCursor;
  while (storage.state().kind !== "blind") {
    if (storage.durableCursor !== before && storage.state().queuedRows === 0)
      return ["acknowledged on a disk that fails"];
    await systemClock.sleep(1);
  }
  return [];
}

function compare(directory: string, written: Written): string[] {
  const entries = readEntries(directory, 0, 10_000);
  const ids = entries.filter(({ kind }) => kind !== "event").map(({ id }) => id);
  const numbers = entries.flatMap(({ kind, head }) => {
    if (kind !== "event") return [];
    const { event, facts } = head as { event: string; facts: { number: number } };
    return event === "count" ? [facts.number] : [];
  });
  const broken: string[] = [];
  if (ids.join() !== written.ids.join()) broken.push(`rows ${ids.join()} instead of ${written.ids.join()}`);
  if (numbers.some((number, index) => number !== index) || numbers.length !== written.events) {
    broken.push(`events ${numbers.join()} instead of 0..${written.events - 1}`);
  }
  using database = openReadOnly(pathOf(directory, "journal"));
  return [...broken, ...checkContent(database, "integrity_check")];
}

for (const [mishap, from, count] of JSON.parse(lives) as [Mishap, number, number][]) {
  const directory = join(scratch, "state");
  rmSync(scratch, { recursive: true, force: true });
  mkdirSync(scratch, { recursive: true });
  const threw = (error: unknown) => ({ broken: [`threw ${String(error)}`], struck: 0 });
  print({ mishap, from, count, ...(await liveOnce(directory, mishap, from, count).catch(threw)) });
}
