// SPDX-License-Identifier: Apache-2.0
/**
 * Killed before and after each operation of a migration, of a batch, and of the seal of a checkpoint: afterwards the old
 * state or the new one, never something between.
 */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, expect } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import { readEntries } from "#storage/cursorReader.ts";
import { applicationId } from "#storage/database.ts";
import { Journal, journalFile } from "#storage/journal.ts";
import { defaultLimits } from "#storage/limits.ts";
import { exportCheckpoint } from "#storage/pageExport.ts";
import { PageFile } from "#storage/pageFile.ts";
import { checkContent, pathOf } from "#storage/storedFile.ts";
import { long, need } from "#tests/skip.ts";
import { buildShim, everyOperation, met, plan, shimEnvironment } from "./diskShim.ts";
import type { Act } from "./storageSteps.ts";

/** Every how many operations one is tried in the short form. */
const stride = long("crash") ? 1 : 4;
const conditions = { atMs: systemClock.wallMs(), freeBytes: Number.MAX_SAFE_INTEGER, afterError: false, damage: null };

let scratch = "";
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "holdfast-steps-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const directory = (): string => join(scratch, "state");
const control = (): string => join(scratch, "control");

/** Runs the act on a directory made by `prepare`; gives the steps it finished and the operations it made. */
async function run(
  act: Act,
  prepare: () => void,
  mishap: "killBefore" | "killAfter" | "count",
  from: number,
): Promise<{ steps: string[]; operations: number }> {
  rmSync(directory(), { recursive: true, force: true });
  mkdirSync(directory(), { recursive: true });
  prepare();
  plan(control(), { mishap, operations: everyOperation, from, count: 1 });
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "storageSteps.ts"), act, directory()], {
    env: shimEnvironment(buildShim(scratch), directory(), control()),
    stdio: ["ignore", "pipe", "inherit"],
  });
  const text = await new Response(child.stdout).text();
  await child.exited;
  return { steps: text.trim().split("\n"), operations: met(control()).seen };
}

/** Kills the act at its operations, and checks what is left with `check`, given the steps that were finished. */
async function killEverywhere(act: Act, prepare: () => void, check: (steps: readonly string[]) => void): Promise<void> {
  const whole = await run(act, prepare, "count", 1);
  check(whole.steps);
  expect(whole.operations).toBeGreaterThan(10);
  let killed = 0;
  for (let from = 1; from <= whole.operations; from += stride) {
    const mishap = from % 2 === 0 ? "killBefore" : "killAfter";
    const { steps } = await run(act, prepare, mishap, from);
    if (steps.length < whole.steps.length || steps[0] === "") killed += 1;
    check(steps.filter((step) => step !== ""));
  }
  expect(killed).toBeGreaterThan(0);
}

/** A journal of the first version, with rows. */
function firstVersion(): void {
  const database = new Database(pathOf(directory(), "journal"), { create: true });
  database.run("PRAGMA journal_mode = WAL");
  database.run(journalFile.steps[0]!.sql);
  for (let n = 1; n <= 50; n += 1)
    database.run(`INSERT INTO entry (id, kind, at_ms, head) VALUES ('e-${n}', 'event', 1, '{}')`);
  database.run(`PRAGMA application_id = ${applicationId}`);
  database.run("PRAGMA user_version = 1");
  database.close();
}

need("gcc")(
  "killed at each operation of a migration: the version before or the version after, and the next start ends it",
  () =>
    killEverywhere("migrate", firstVersion, () => {
      const journal = Journal.open(directory(), conditions, systemClock);
      try {
        expect(journal.opened.quarantined).toBeNull();
        expect(checkContent(journal.opened.database, "integrity_check")).toEqual([]);
        expect(journal.memory().learned.size).toBe(0);
        expect(readEntries(directory(), 0, 100)).toHaveLength(50);
      } finally {
        journal[Symbol.dispose]();
      }
    }),
  600_000,
);

need("gcc")(
  "killed at each operation of a batch: acknowledged batches are there, and none by half",
  () =>
    killEverywhere(
      "batches",
      () => {},
      (steps) => {
        Journal.open(directory(), conditions, systemClock)[Symbol.dispose]();
        const found = readEntries(directory(), 0, 100).map(({ n }) => n);
        const acknowledged = Number(steps.at(-1)?.split(" ")[1] ?? 0);
        expect(found.length % 3).toBe(0);
        expect(found.length).toBeGreaterThanOrEqual(acknowledged);
        expect(found).toEqual(Array.from({ length: found.length }, (_, index) => index + 1));
      },
    ),
  600_000,
);

need("gcc")(
  "killed at each operation up to and behind the seals of checkpoints: the sealed ones are whole, a half one is invisible",
  () =>
    killEverywhere(
      "seal",
      () => {},
      (steps) => {
        const pages = PageFile.open(directory(), conditions, defaultLimits);
        try {
          const sealed = pages.reader.checkpoints.map(({ id }) => id).reverse();
          expect(sealed.length).toBeGreaterThanOrEqual(steps.length);
          expect(sealed).toEqual(["c1", "c2", "c3"].slice(0, sealed.length));
          for (let n = 1; n <= sealed.length * 2; n += 1) expect(pages.reader.extent(n)?.body[0]).toBe(n);
          expect(pages.nextExtent).toBe(sealed.length * 2 + 1);
          expect(pages.reader.chunk(`chunk-${sealed.length + 1}`)).toBeNull();
          expectExport(sealed.at(-1));
        } finally {
          pages[Symbol.dispose]();
        }
      },
    ),
  600_000,
);

/** The newest checkpoint can be taken out as a file of its own, and opens there. */
function expectExport(checkpoint: string | undefined): void {
  if (checkpoint === undefined) return;
  const target = join(scratch, "export");
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target);
  expect(exportCheckpoint(directory(), checkpoint, pathOf(target, "pages"))).toBe(2);
  const pages = PageFile.open(target, conditions, defaultLimits);
  expect(pages.reader.checkpoints.map(({ id }) => id)).toEqual([checkpoint]);
  expect(pages.reader.extent(pages.nextExtent - 1)).not.toBeNull();
  pages[Symbol.dispose]();
}
