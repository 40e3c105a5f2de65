// SPDX-License-Identifier: Apache-2.0
/**
 * The state directory full, read-only, missing, removed under us, somebody else's, on a device that stalls, or with every
 * database damaged at once: faults go through, the reason is told, and all is written down once the disk is well.
 */
import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Clock, systemClock } from "#clock.ts";
import type { FaultId } from "#fault.ts";
import { type LogFacts, silentLog } from "#log.ts";
import { readFault } from "#storage/journalReader.ts";
import { Storage } from "#storage/storage.ts";
import { memoryScratch } from "#tests/memoryScratch.ts";
import { need, root } from "#tests/skip.ts";
import { SmallDisk } from "#tests/smallDisk.ts";
import { sampleDecision, sampleOutcome, samplePlan, sampleReport } from "#tests/unit/storage/sampleFault.ts";
import { buildShim, met, operations, plan, shimEnvironment } from "./diskShim.ts";

setDefaultTimeout(60_000);

/** Probes come this much sooner than in life. */
const hurry = 500;
const hastyClock: Clock = {
  ...systemClock,
  sleep: (delayMs, signal) => systemClock.sleep(delayMs / hurry, signal),
};
const limits = { ballastBytes: 4096, tightFreeBytes: 0, tightFreeRatio: 0, criticalFreeBytes: 0 };

let scratch = "";
let memory = "";
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "holdfast-ill-"));
  memory = memoryScratch("ill");
});
afterEach(() => {
  for (const directory of [scratch, memory]) rmSync(directory, { recursive: true, force: true });
});

const state = (): string => join(scratch, "state");
const open = (): Promise<Storage> =>
  Storage.open({ directory: state(), runDirectory: join(memory, "run"), clock: hastyClock, log: silentLog, limits });

function writeFault(storage: Storage): FaultId {
  const id = storage.nextFaultId();
  storage.intent(sampleReport(id), sampleDecision(id));
  storage.report(sampleReport(id), samplePlan, sampleDecision(id));
  storage.outcome(sampleOutcome(id));
  return id;
}

/** Writes while ill, and sees everything there once `recover` has made the disk well. */
async function throughIllness(storage: Storage, recover: () => void): Promise<void> {
  const ids = Array.from({ length: 200 }, () => writeFault(storage));
  while (storage.state().kind !== "blind") await systemClock.sleep(1);
  expect(storage.state().why).not.toBe("");
  expect(storage.state().queuedRows).toBeGreaterThan(0);
  recover();
  await storage.flush();
  // The other files are tried again at their own times.
  while (storage.state().why !== "") await systemClock.sleep(5);
  expect(storage.state()).toMatchObject({ why: "", queuedRows: 0, ringSlots: 0, dropped: {} });
  for (const id of ids) expect(readFault(state(), id).trials).toMatchObject([{ outcome: { verdict: "clean" } }]);
}

need(root, "mount")("a full disk, met while writing", async () => {
  using disk = new SmallDisk(state());
  await using storage = await open();
  await storage.flush();
  disk.fill();
  await throughIllness(storage, () => disk.makeRoom());
});

need(root, "mount")("a full disk at the start", async () => {
  using disk = new SmallDisk(state());
  disk.fill();
  await using storage = await open();
  expect(storage.state().kind).toBe("blind");
  await throughIllness(storage, () => disk.makeRoom());
});

need(root, "mount")("a disk that becomes read-only, and is still so at the next start", async () => {
  using disk = new SmallDisk(state());
  let before: FaultId;
  {
    await using storage = await open();
    before = writeFault(storage);
    await storage.flush();
  }
  disk.setWritable(false);
  await using storage = await open();
  expect(storage.state().kind).toBe("blind");
  expect(storage.history.map(({ trial }) => trial)).toEqual([sampleDecision(before).trial]);
  await throughIllness(storage, () => disk.setWritable(true));
});

test("a directory that is not there is made; one that is removed under us is made again", async () => {
  await using storage = await open();
  expect(storage.state().kind).toBe("normal");
  writeFault(storage);
  await storage.flush();
  rmSync(state(), { recursive: true });
  let id = writeFault(storage);
  // Seen within a second of the removal, at the next batch.
  while (!statSync(join(state(), "journal.db"), { throwIfNoEntry: false })) {
    await systemClock.sleep(20);
    id = writeFault(storage);
  }
  await storage.flush();
  expect(storage.state().kind).toBe("normal");
  expect(readFault(state(), id).trials).toHaveLength(1);
});

need(root)("a directory of somebody else, and one that is open to others, are left alone", async () => {
  mkdirSync(state());
  chownSync(state(), 12345, 12345);
  {
    await using storage = await open();
    expect(storage.state()).toMatchObject({ kind: "blind", why: expect.stringContaining("belongs to somebody else") });
    writeFault(storage);
  }
  chownSync(state(), 0, 0);
  chmodSync(state(), 0o777);
  writeFileSync(join(state(), "theirs"), "");
  await using storage = await open();
  expect(storage.state()).toMatchObject({ kind: "blind", why: expect.stringContaining("open to others") });
  expect(readdirSync(state())).toEqual(["theirs"]);
  expect(statSync(state()).mode & 0o777).toBe(0o777);
});

test("every database damaged at once", async () => {
  {
    await using storage = await open();
    writeFault(storage);
    storage.sample("n", "w", 1);
    storage.outbox({ kind: "key", id: "k", atMs: 1, head: "{}" });
    for (const file of ["journal", "outbox", "history"] as const) await storage.flush(undefined, file);
  }
  for (const file of ["journal", "outbox", "history"]) writeFileSync(join(state(), `${file}.db`), "x".repeat(9999));
  const told: string[] = [];
  const log = (_level: string, event: string, facts: LogFacts = {}): void =>
    void told.push(`${event} ${String(facts.file)}`);
  await using storage = await Storage.open({
    directory: state(),
    runDirectory: join(memory, "run"),
    clock: hastyClock,
    log,
    limits,
  });
  const id = writeFault(storage);
  for (const file of ["journal", "outbox", "history"] as const) await storage.flush(undefined, file);
  expect(readFault(state(), id).trials).toHaveLength(1);
  expect(storage.state()).toMatchObject({ kind: "normal", why: "" });
  expect(told.filter((line) => line.startsWith("storage.quarantined")).sort()).toEqual([
    "storage.quarantined history",
    "storage.quarantined journal",
    "storage.quarantined outbox",
  ]);
});

need("gcc")(
  "a device that takes a second for every write and flush holds up nobody",
  async () => {
    const control = join(scratch, "control");
    plan(control, { mishap: "stall", operations: operations.write | operations.sync, from: 1, count: 0 });
    const child = Bun.spawn(
      [process.execPath, join(import.meta.dir, "storageOnStall.ts"), state(), join(memory, "run")],
      {
        env: shimEnvironment(buildShim(scratch), state(), control),
        stdio: ["ignore", "pipe", "inherit"],
      },
    );
    const said = JSON.parse(await new Response(child.stdout).text()) as {
      openedBefore: boolean;
      faults: number;
      ringSlots: number;
    };
    await child.exited;
    expect(met(control).struck).toBeGreaterThan(0);
    expect(said).toEqual({ openedBefore: true, faults: 300, ringSlots: 600 });
  },
  60_000,
);
