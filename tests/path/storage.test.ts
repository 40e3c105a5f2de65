// SPDX-License-Identifier: Apache-2.0
/**
 * Storage from the main thread to the file and back, with the real Worker and real files.
 */
import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import type { FaultId, PastTrial } from "#fault.ts";
import { silentLog } from "#log.ts";
import { exportFault, listFaults, readExport, readFault } from "#storage/journalReader.ts";
import { guardDirectory } from "#storage/ownership.ts";
import { Storage } from "#storage/storage.ts";
import { memoryScratch } from "#tests/memoryScratch.ts";
import { sampleDecision, sampleOutcome, samplePlan, sampleReport } from "#tests/unit/storage/sampleFault.ts";

setDefaultTimeout(60_000);

let scratch = "";
let memory = "";
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "holdfast-storage-"));
  memory = memoryScratch("storage");
});
afterEach(() => {
  chmodSync(scratch, 0o700);
  for (const directory of [scratch, memory]) rmSync(directory, { recursive: true, force: true });
});

const open = (name = "redis"): Promise<Storage> =>
  Storage.open({
    directory: guardDirectory(scratch, name),
    runDirectory: join(memory, "run"),
    clock: systemClock,
    log: silentLog,
  });

/** One fault from intent to verdict. */
function writeFault(storage: Storage, verdict = true): FaultId {
  const id = storage.nextFaultId();
  const report = sampleReport(id, { atMs: systemClock.wallMs() });
  storage.intent(report, sampleDecision(id));
  storage.report(report, samplePlan, sampleDecision(id));
  if (verdict) storage.outcome(sampleOutcome(id));
  return id;
}

test("a fault is listed, shown, exported and read back whole", async () => {
  await using storage = await open();
  const id = writeFault(storage);
  await storage.flush();
  expect(storage.state()).toMatchObject({ kind: "normal", why: "", queuedRows: 0, ringSlots: 0 });
  expect(storage.durableCursor).toBe(3);

  const { faults, problems } = listFaults({ stateDirectory: scratch, limit: 10 });
  expect(problems).toEqual([]);
  expect(faults).toMatchObject([
    { id, guard: "redis", whole: true, symbol: "debugCommand", trials: [{ rung: "abandon", verdict: "clean" }] },
  ]);
  for (const name of [id, id.slice(0, 15), id.slice(-5)]) {
    const record = readFault(scratch, name);
    expect(record.report).toEqual(sampleReport(id, { atMs: record.atMs }));
    expect(record.plan).toEqual(samplePlan);
    expect(record.trials).toMatchObject([{ decision: sampleDecision(id), outcome: sampleOutcome(id) }]);
    expect(readExport(exportFault(record))).toEqual(record);
  }
  expect(() => readFault(scratch, "zzzzz")).toThrow("no fault");
});

test("the history comes back, and an open intent is settled as interrupted", async () => {
  const ids: FaultId[] = [];
  {
    await using first = await open();
    ids.push(writeFault(first), writeFault(first, false));
  }
  await using second = await open();
  expect(second.settled).toEqual([sampleDecision(ids[1]!).trial]);
  expect(second.history.map((trial) => trial.verdict)).toEqual(["clean", "failed"]);
  expect(second.history[0]!.site).toEqual(sampleReport(ids[0]!).site);
  expect(second.history[0]).toMatchObject({ key: sampleDecision(ids[0]!).key, rung: "abandon", tid: 4243 });
  expect(readFault(scratch, ids[1]!).trials[0]!.outcome?.evidence[0]).toStartWith("interrupted");
});

test("what a decision looked at comes back with it", async () => {
  await using storage = await open();
  const id = storage.nextFaultId();
  const earlier = sampleDecision(storage.nextFaultId());
  const { site, tid } = sampleReport(id);
  const past: PastTrial[] = [
    {
      trial: earlier.trial,
      site,
      tid,
      key: earlier.key,
      rung: "abandon",
      atMs: 1,
      verdict: null,
      session: null,
      veteran: true,
    },
  ];
  storage.report(sampleReport(id), samplePlan, { ...sampleDecision(id), past });
  await storage.flush();
  expect(readFault(scratch, id).trials[0]?.decision.past).toEqual(past);
  expect(listFaults({ stateDirectory: scratch, limit: 1 }).faults[0]?.trials).toHaveLength(1);
});

test("several trials of one fault are one record", async () => {
  await using storage = await open();
  const id = storage.nextFaultId();
  for (const number of [1, 2]) {
    storage.intent(sampleReport(id), sampleDecision(id, number));
    storage.report(sampleReport(id), samplePlan, sampleDecision(id, number));
    storage.outcome(sampleOutcome(id, number, number === 1 ? "failed" : "degraded"));
  }
  await storage.flush();
  expect(readFault(scratch, id).trials.map((trial) => trial.outcome?.verdict)).toEqual(["failed", "degraded"]);
  expect(listFaults({ stateDirectory: scratch, limit: 10 }).faults).toHaveLength(1);
});

test("a second supervisor on the same directory is refused, and the first goes on", async () => {
  await using storage = await open();
  await expect(open()).rejects.toMatchObject({ code: "storage.locked" });
  await using other = await open("memcached");
  expect(other.state().kind).toBe("normal");
  const id = writeFault(storage);
  await storage.flush();
  expect(readFault(scratch, id).guard).toBe("redis");
});

test("with no usable directory faults are kept in the ring, and written down once there is one", async () => {
  writeFileSync(join(scratch, "guards"), "a file where the directory should be");
  let id: FaultId;
  {
    await using storage = await open();
    expect(storage.state().kind).toBe("blind");
    // Nothing is known of the room there; that is no full disk.
    expect(storage.state()).toMatchObject({ freeBytes: null, why: expect.not.stringContaining("full") });
    id = writeFault(storage, false);
    expect(storage.state()).toMatchObject({ ringSlots: 1, queuedRows: 2 });
  }
  rmSync(join(scratch, "guards"));
  await using storage = await open();
  expect(storage.state()).toMatchObject({ kind: "normal", ringSlots: 0 });
  const record = readFault(scratch, id);
  expect(record.report).toBeNull();
  expect(record.trials[0]).toMatchObject({
    decision: { trial: sampleDecision(id).trial },
    outcome: { verdict: "failed" },
  });
});

test("a ring that nobody will come back for is removed once it is a day old; one whose directory is there is not", async () => {
  const rings = join(memory, "run/rings");
  for (const name of ["gone", "here"]) {
    // A lock on a disk that cannot be written keeps the ring in use: its intents are all there is.
    mkdirSync(join(scratch, "guards"), { recursive: true });
    writeFileSync(guardDirectory(scratch, name), "in the way");
    await using storage = await open(name);
    storage.intent(sampleReport(storage.nextFaultId()), sampleDecision(storage.nextFaultId()));
  }
  rmSync(guardDirectory(scratch, "gone"));
  const left = (): number => readdirSync(rings).filter((name) => name.endsWith(".ring")).length;
  await (await open("first"))[Symbol.asyncDispose]();
  expect(left()).toBe(2);
  for (const name of readdirSync(rings)) utimesSync(join(rings, name), 1_000_000, 1_000_000);
  await (await open("second"))[Symbol.asyncDispose]();
  expect(left()).toBe(1);
});

test("readers name a journal that they cannot read and list the others", async () => {
  mkdirSync(guardDirectory(scratch, "broken"), { recursive: true });
  writeFileSync(
    join(guardDirectory(scratch, "broken"), "journal.db"),
    "not a database, but long enough to look at ".repeat(200),
  );
  await using storage = await open();
  const id = writeFault(storage);
  await storage.flush();
  const { faults, problems } = listFaults({ stateDirectory: scratch, limit: 10 });
  expect(faults.map((fault) => fault.id)).toEqual([id]);
  expect(problems).toHaveLength(1);
  expect(problems[0]!.path).toContain("broken");
  expect(existsSync(problems[0]!.path)).toBe(true);
});
