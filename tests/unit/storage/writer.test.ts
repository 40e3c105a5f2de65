// SPDX-License-Identifier: Apache-2.0
/**
 * The writing side on real files, without its Worker: damage, foreign and newer files, migrations, retention, full disks.
 */
import { Database } from "bun:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ManualClock } from "#clock.ts";
import type { FaultId } from "#fault.ts";
import { readCurve, readEntries, readMessages, readOutboxMemory, readSamples } from "#storage/cursorReader.ts";
import { defaultLimits, type StorageLimits } from "#storage/limits.ts";
import type { FromWriter, LaneName, RowOf } from "#storage/messages.ts";
import type { OutboxRow } from "#storage/outbox.ts";
import { eventRow, type JournalRow } from "#storage/rows.ts";
import { Writer } from "#storage/writer.ts";

let directory = "";
let clock = new ManualClock();
let open: Writer[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "holdfast-writer-"));
  clock = new ManualClock(1_760_000_000_000);
  open = [];
});
afterEach(() => {
  for (const writer of open) writer.answer({ kind: "close" });
  rmSync(directory, { recursive: true, force: true });
});

const roomy = { ...defaultLimits, tightFreeBytes: 0, tightFreeRatio: 0, criticalFreeBytes: 0, ballastBytes: 65_536 };

function start(limits: StorageLimits = roomy): Writer {
  const writer = new Writer(clock);
  writer.answer({ kind: "start", directory, limits });
  open.push(writer);
  return writer;
}
function stop(writer: Writer): void {
  writer.answer({ kind: "close" });
}
const openFile = (writer: Writer, file: LaneName): FromWriter => writer.answer({ kind: "open", file, recovered: [] });
const write = <Name extends LaneName>(writer: Writer, file: Name, rows: readonly RowOf[Name][]): FromWriter =>
  writer.answer({ kind: "write", file, rows, again: false });
const event = (number: number): JournalRow =>
  eventRow(`e-${number}`, { event: "count", workload: "w", facts: { number } }, clock.wallMs());
const message = (number: number, change: Partial<Extract<OutboxRow, { kind: "message" }>> = {}): OutboxRow => ({
  kind: "message",
  id: `m-${number}`,
  class: "info",
  topic: `t/${number}`,
  retained: false,
  atMs: clock.wallMs(),
  head: "{}",
  body: new Uint8Array(100),
  ...change,
});
const path = (file: string): string => join(directory, `${file}.db`);
const quarantined = (): string[] =>
  existsSync(join(directory, "quarantine")) ? readdirSync(join(directory, "quarantine")) : [];
const numbers = (): number[] =>
  readEntries(directory, 0, 10_000, "event").flatMap(({ head }) => {
    const { event: name, facts } = head as { event: string; facts: { number: number } };
    return name === "count" ? [facts.number] : [];
  });
const findings = (answer: FromWriter): string[] =>
  "condition" in answer ? (answer.condition?.findings.map((finding) => finding.event) ?? []) : [];

describe("bad files", () => {
  const files: readonly [string, () => void][] = [
    ["text", () => writeFileSync(path("journal"), "this is no database ".repeat(1000))],
    ["a database of another program", () => new Database(path("journal")).run("CREATE TABLE theirs (x)")],
    [
      "an empty file with a WAL",
      () => {
        writeFileSync(path("journal"), "");
        writeFileSync(`${path("journal")}-wal`, "x".repeat(5000));
      },
    ],
  ];
  for (const [name, make] of files) {
    test(`${name} is set aside untouched, and the journal goes on`, () => {
      make();
      const before = statSync(path("journal")).size;
      const writer = start();
      const answer = openFile(writer, "journal");
      expect(answer.kind).toBe("opened");
      expect(findings(answer)).toEqual(["quarantined"]);
      expect(write(writer, "journal", [event(1)]).kind).toBe("written");
      expect(numbers()).toEqual([1]);
      expect(quarantined()).toHaveLength(1);
      expect(statSync(join(directory, "quarantine", quarantined()[0]!, "journal.db")).size).toBe(before);
    });
  }

  test("a zero-length file is a new file", () => {
    writeFileSync(path("journal"), "");
    expect(openFile(start(), "journal").kind).toBe("opened");
    expect(quarantined()).toEqual([]);
  });

  test("the rows of a damaged journal are copied, numbers go on above them, the outbox is not touched", () => {
    const writer = start();
    for (let number = 0; number < 3000; number += 100) {
      write(
        writer,
        "journal",
        Array.from({ length: 100 }, (_, index) => event(number + index)),
      );
    }
    write(writer, "outbox", [message(1)]);
    stop(writer);
    damagePage(path("journal"), 20);
    const again = start();
    const answer = openFile(again, "journal");
    expect(findings(answer)).toEqual(["quarantined"]);
    expect(answer.kind === "opened" && answer.cursor).toBeGreaterThan(3000);
    openFile(again, "outbox");
    while (keepUp(again));
    const kept = numbers();
    expect(kept.length).toBeGreaterThan(2800);
    expect(kept.length).toBeLessThan(3000);
    expect(new Set(kept).size).toBe(kept.length);
    expect(readMessages(directory, 0, 10)).toHaveLength(1);
    expect(quarantined()).toHaveLength(1);
  });

  test("damage met while writing sets the file aside and the batch goes into the new one", () => {
    const writer = start();
    for (let number = 0; number < 2000; number += 100) {
      write(
        writer,
        "outbox",
        Array.from({ length: 100 }, (_, index) => message(number + index)),
      );
    }
    stop(writer);
    const again = start();
    openFile(again, "outbox");
    const victim = new Database(path("outbox"));
    const page = victim
      .query<{ rootpage: number }, []>("SELECT rootpage FROM sqlite_schema WHERE name = 'message'")
      .get()!.rootpage;
    victim.close();
    stop(again);
    damagePage(path("outbox"), page);
    const third = start();
    const answer = write(third, "outbox", [message(5000)]);
    expect(answer.kind).toBe("written");
    expect(findings(answer)).toEqual(["quarantined"]);
    expect(readMessages(directory, 0, 10_000).map(({ id }) => id)).toContain("m-5000");
  });

  test("two sets of a file are kept, and its newest always", () => {
    for (let round = 0; round < 4; round += 1) {
      rmSync(`${path("history")}-wal`, { force: true });
      rmSync(`${path("history")}-shm`, { force: true });
      writeFileSync(path("history"), "x".repeat(10_000));
      const writer = start();
      openFile(writer, "history");
      keepUp(writer);
      stop(writer);
    }
    expect(quarantined()).toHaveLength(2);
  });
});

describe("versions", () => {
  test("a file of the next release is read and written, one of two ahead is left alone", () => {
    const writer = start();
    write(writer, "journal", [event(1)]);
    stop(writer);
    const known = setVersion(0);
    setVersion(known + 1);
    const next = start();
    expect(write(next, "journal", [event(2)]).kind).toBe("written");
    stop(next);
    setVersion(known + 2);
    const newer = start();
    const answer = openFile(newer, "journal");
    expect(answer).toMatchObject({ kind: "failed", code: "storage.newer" });
    expect(answer.kind === "failed" && answer.memory).not.toBeNull();
    expect(write(newer, "journal", [event(3)]).kind).toBe("failed");
    expect(quarantined()).toEqual([]);
    expect(numbers()).toEqual([1, 2]);
  });

  test("the first version is migrated with a copy made before", () => {
    const writer = start();
    write(writer, "journal", [event(1)]);
    stop(writer);
    const database = new Database(path("journal"));
    database.run("DROP TABLE learned");
    database.run("DROP TABLE window");
    database.run("PRAGMA user_version = 1");
    database.close();
    const again = start();
    expect(findings(openFile(again, "journal"))).toEqual(["migrated"]);
    expect(existsSync(`${path("journal")}.before-2`)).toBe(true);
    expect(numbers()).toEqual([1]);
  });

  /** Sets the version, unless it is 0; gives the one that was there. */
  function setVersion(version: number): number {
    const database = new Database(path("journal"));
    const before = database.query<{ user_version: number }, []>("PRAGMA user_version").get()!.user_version;
    if (version > 0) database.run(`PRAGMA user_version = ${version}`);
    database.close();
    return before;
  }
});

describe("retention", () => {
  test("old entries go, open intents and the newest entry stay", async () => {
    const writer = start();
    const intent: JournalRow = { kind: "intent", id: "f.1", atMs: clock.wallMs(), open: true, head: "{}", body: null };
    write(writer, "journal", [intent, ...Array.from({ length: 1200 }, (_, number) => event(number))]);
    await clock.advance(91 * 86_400_000);
    while (keepUp(writer));
    expect(readEntries(directory, 0, 10).map(({ n }) => n)).toEqual([1, 1201]);
    write(writer, "journal", [event(7777)]);
    expect(numbers()).toEqual([1199, 7777]);
  });

  test("samples are folded into minutes and hours once, and thinned by age", async () => {
    const writer = start();
    const startMs = clock.wallMs();
    const samples = Array.from({ length: 7200 }, (_, second) => ({
      kind: "sample" as const,
      name: "requests",
      workload: "w",
      unit: "1/s",
      atMs: startMs + second * 1000,
      value: second,
    }));
    for (let from = 0; from < samples.length; from += 256) write(writer, "history", samples.slice(from, from + 256));
    await clock.advance(7_300_000);
    while (keepUp(writer));
    while (keepUp(writer));
    expect(readSamples(directory, 7198, 10).map(({ value }) => value)).toEqual([7198, 7199]);
    const span = { fromMs: startMs - 3_600_000, toMs: startMs + 10_800_000 };
    const raw = readCurve(directory, { name: "requests", workload: "w" }, { ...span, limit: 10_000 });
    expect(raw.resolution).toBe("raw");
    const minutes = readCurve(directory, { name: "requests", workload: "w" }, { ...span, limit: 500 });
    expect(minutes.resolution).toBe("minute");
    expect(minutes.points.reduce((sum, point) => sum + point.count, 0)).toBe(7200);
    expect(minutes.points.at(-1)).toMatchObject({ greatest: 7199, last: 7199 });
    const hours = readCurve(directory, { name: "requests", workload: "w" }, { ...span, limit: 5 });
    expect(hours.resolution).toBe("hour");
    expect(hours.points.reduce((sum, point) => sum + point.mean * point.count, 0)).toBe((7199 * 7200) / 2);
    await clock.advance(2 * 86_400_000);
    while (keepUp(writer));
    expect(readSamples(directory, 0, 10)).toEqual([]);
    expect(
      readCurve(directory, { name: "requests", workload: "w" }, { ...span, limit: 500 }).points.length,
    ).toBeGreaterThan(100);
  });

  test("a full outbox gives up metrics first, every second one, then lesser events; drops are counted", () => {
    const writer = start({ ...roomy, outboxBytesMax: 100_000 });
    const rows = [
      ...Array.from({ length: 600 }, (_, number) => message(number, { class: "metric" })),
      ...Array.from({ length: 300 }, (_, number) => message(1000 + number, { class: "info" })),
      ...Array.from({ length: 300 }, (_, number) => message(2000 + number, { class: "fault" })),
    ];
    for (let from = 0; from < rows.length; from += 256) write(writer, "outbox", rows.slice(from, from + 256));
    while (keepUp(writer));
    const left = readMessages(directory, 0, 10_000).map((row) => row.class);
    expect(left.filter((name) => name === "fault")).toHaveLength(300);
    expect(left.filter((name) => name === "metric").length).toBe(0);
    const dropped = readOutboxMemory(directory).dropped;
    expect(dropped.reduce((sum, row) => sum + row.rows, 0)).toBe(1200 - left.length);
  });

  test("a retained message replaces the older one of its topic; sent, keys, jobs and cursors are kept by name", () => {
    const writer = start();
    write(writer, "outbox", [
      message(1, { topic: "state", retained: true }),
      message(2, { topic: "state", retained: true }),
      message(3),
      { kind: "job", id: "j", atMs: 1, head: '{"step":1}' },
      { kind: "key", id: "k", atMs: 1, head: "{}" },
      { kind: "command", id: "c", key: "k", counter: 7, atMs: 1 },
      { kind: "cursor", name: "journal", n: 9 },
      { kind: "cursor", name: "journal", n: 5 },
    ]);
    write(writer, "outbox", [message(3), { kind: "sent", n: 3 }, { kind: "key", id: "k", atMs: 2, head: null }]);
    expect(readMessages(directory, 0, 10).map(({ id }) => id)).toEqual(["m-2"]);
    const memory = readOutboxMemory(directory);
    expect(memory.jobs.get("j")).toEqual({ step: 1 });
    expect(memory.keys.size).toBe(0);
    expect(memory.commands).toEqual([{ id: "c", key: "k", counter: 7 }]);
    expect(memory.cursors.get("journal")).toBe(9);
  });
});

describe("room", () => {
  test("a critical disk stops history and gives up the ballast; the journal goes on", () => {
    const first = start();
    openFile(first, "journal");
    keepUp(first);
    expect(statSync(join(directory, "ballast")).size).toBe(65_536);
    stop(first);
    const writer = start({ ...roomy, criticalFreeBytes: Number.MAX_SAFE_INTEGER });
    const answer = write(writer, "journal", [event(1)]);
    expect(answer).toMatchObject({ kind: "written", condition: { fullness: "critical" } });
    expect(findings(answer)).toEqual(["ballastDropped"]);
    expect(existsSync(join(directory, "ballast"))).toBe(false);
    const sample = { kind: "sample", name: "n", workload: "", unit: "", atMs: 0, value: 1 } as const;
    expect(write(writer, "history", [sample])).toMatchObject({ kind: "failed", code: "storage.full" });
  });

  test("over the daily budget is told", () => {
    const writer = start({ ...roomy, budgetBytesPerDay: -1 });
    expect(openFile(writer, "journal")).toMatchObject({ condition: { overBudget: true } });
  });
});

test("rows offered again after a failure that was none are written once", () => {
  const writer = start();
  const fault: JournalRow = { kind: "fault", id: "f", atMs: 1, open: false, head: "{}", body: "{}" };
  write(writer, "journal", [event(1), fault]);
  writer.answer({ kind: "write", file: "journal", rows: [event(1), fault, event(2)], again: true });
  expect(readEntries(directory, 0, 10).map(({ id }) => id)).toEqual(["e-1", "f" as FaultId, "e-2"]);
});

function keepUp(writer: Writer): boolean {
  const answer = writer.answer({ kind: "upkeep" });
  return answer.kind === "kept" && answer.more;
}

/** Overwrites one page of 4 KiB; the file must be closed. */
function damagePage(file: string, page: number): void {
  const bytes = readFileSync(file);
  bytes.fill(0xee, (page - 1) * 4096, page * 4096);
  writeFileSync(file, bytes);
}
