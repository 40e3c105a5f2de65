// SPDX-License-Identifier: Apache-2.0
/**
 * The writing side of storage: all that the storage Worker does, without the Worker. Gets `ToWriter` messages, gives the
 * answer to each. Every call blocks for the disk.
 *
 * It opens what is asked for, commits batches, sets damaged files aside, and tells how the disk is. A file that met an error
 * other than a full disk is closed and opened anew at the next message, see storedFile.ts. What can wait is in upkeep.ts.
 */
import { join } from "node:path";
import type { Clock } from "#clock.ts";
import { explain, StorageError, unreachable } from "#errors.ts";
import { fileSettings } from "./database.ts";
import { History, type SampleRow } from "./history.ts";
import { Journal, type JournalMemory, readMemoryOf } from "./journal.ts";
import type { StorageLimits } from "./limits.ts";
import type { Condition, Finding, FromWriter, LaneName, RowOf, ToWriter } from "./messages.ts";
import { Outbox, type OutboxRow } from "./outbox.ts";
import { claimDirectory, lockFile } from "./ownership.ts";
import type { JournalRow } from "./rows.ts";
import { dropBallast, type Fullness, fullness, readSpace, type Space } from "./space.ts";
import { checkpointWal, inodeOf, pathOf, walFrames } from "./storedFile.ts";
import { keepUp, type OpenFile, Upkeep } from "./upkeep.ts";
import { threadBytesWritten, WearCount } from "./wear.ts";

/** The disk is asked how full it is at most this often. */
const spaceIntervalMs = 1_000;
/** Commits between two looks at the length of a WAL. */
const walLookInterval = 16;
/** Findings that wait to be told. */
const findingsMax = 64;

export class Writer {
  readonly #clock: Clock;
  #directory = "";
  #limits: StorageLimits | undefined;
  /** Held until we end: files that are ill are still ours. Without it nothing in the directory is touched. */
  #lock: Disposable | undefined;
  readonly #files = new Map<LaneName, OpenFile>();
  /** Files whose last connection met an error that was not about content. */
  readonly #suspect = new Set<LaneName>();
  /** Files in which damage was met, with what SQLite said: set aside when they are opened again. */
  readonly #damaged = new Map<LaneName, string>();
  readonly #commits = new Map<LaneName, number>();
  #space: Space | null = null;
  #spaceAtNs = Number.NEGATIVE_INFINITY;
  #findings: Finding[] = [];
  /** The disk was asked, or something was found, since the condition was last told. */
  #news = true;
  readonly #wear = new WearCount();
  #bytesSeen = threadBytesWritten();
  #upkeep: Upkeep | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Never throws: a failure is an answer. */
  answer(message: ToWriter): FromWriter {
    try {
      return this.#act(message);
    } catch (error) {
      const code = error instanceof StorageError ? error.code : "bug";
      const memory = message.kind === "open" && message.file === "journal" ? this.#memoryAtLeast() : null;
      return { kind: "failed", code, why: explain(error), memory, condition: this.#condition() };
    }
  }

  #act(message: ToWriter): FromWriter {
    switch (message.kind) {
      case "start":
        this.#directory = message.directory;
        this.#limits = message.limits;
        this.#upkeep = new Upkeep(message.directory, message.limits, this.#clock);
        return { kind: "started" };
      case "open":
        return this.#openLane(message.file, message.recovered);
      case "write":
        return this.#write(message.file, message.rows, message.again);
      case "upkeep": {
        const more = this.#keepUp();
        return { kind: "kept", more, condition: this.#condition() };
      }
      case "close":
        this.#close();
        return { kind: "closed" };
      default:
        return unreachable(message);
    }
  }

  #openLane(name: LaneName, recovered: readonly JournalRow[]): FromWriter {
    const file = this.#open(name);
    const atMs = this.#clock.wallMs();
    if (!(file instanceof Journal))
      return { kind: "opened", cursor: file.cursor, memory: null, settled: [], condition: this.#condition() };
    if (recovered.length > 0) file.write(recovered);
    const settled = file.settle(atMs);
    return { kind: "opened", cursor: file.cursor, memory: file.memory(), settled, condition: this.#condition() };
  }

  #write(name: LaneName, rows: readonly RowOf[LaneName][], again: boolean): FromWriter {
    this.#refreshSpace();
    if (name === "history" && this.#fullness() === "critical") {
      throw new StorageError("storage.full", "history stops while the disk is nearly full", {
        freeBytes: this.#freeBytes,
      });
    }
    const before = name === "history" ? threadBytesWritten() : null;
    const cursor = this.#commit(name, rows, again);
    if (before !== null) this.#wear.add(this.#clock.wallMs(), 0, (threadBytesWritten() ?? before) - before);
    this.#boundWal(name);
    return { kind: "written", cursor, condition: this.#news ? this.#condition() : null };
  }

  #commit(name: LaneName, rows: readonly RowOf[LaneName][], again: boolean): number {
    try {
      return writeRows(this.#open(name), rows, again);
    } catch (error) {
      if (!(error instanceof StorageError) || error.code === "storage.full") throw error;
      this.#giveUp(name, error);
      if (error.code !== "storage.corrupt") throw error;
      return writeRows(this.#open(name), rows, true);
    }
  }

  #open(name: LaneName): OpenFile {
    const open = this.#files.get(name);
    if (open !== undefined) return open;
    if (this.#lock === undefined) {
      claimDirectory(this.#directory);
      this.#lock = lockFile(join(this.#directory, "owner.lock"));
      // What room there is can be acted on from now on.
      this.#spaceAtNs = Number.NEGATIVE_INFINITY;
    }
    this.#refreshSpace();
    const conditions = {
      atMs: this.#clock.wallMs(),
      freeBytes: this.#freeBytes,
      afterError: this.#suspect.has(name),
      damage: this.#damaged.get(name) ?? null,
    };
    const file =
      name === "journal"
        ? Journal.open(this.#directory, conditions, this.#clock)
        : name === "outbox"
          ? Outbox.open(this.#directory, conditions, this.#clock)
          : History.open(this.#directory, conditions);
    this.#suspect.delete(name);
    this.#damaged.delete(name);
    this.#files.set(name, file);
    this.#tellOpening(name, file);
    return file;
  }

  #tellOpening(name: LaneName, file: OpenFile): void {
    const { quarantined, migratedFrom } = file.opened;
    if (migratedFrom !== null) this.#tell({ event: "migrated", facts: { file: name, from: migratedFrom } });
    if (quarantined === null) return;
    const rows = file.salvage?.copied ?? 0;
    const facts = { file: name, keptIn: quarantined.set.directory, why: quarantined.why, rowsCopied: rows };
    this.#tell({ event: "quarantined", facts });
  }

  #keepUp(): boolean {
    this.#refreshSpace();
    const state = {
      fullness: this.#fullness(),
      freeBytes: this.#freeBytes,
      overBudget: this.#overBudget(),
      tell: (finding: Finding) => this.#tell(finding),
    };
    let more = false;
    for (const [name, file] of this.#files) {
      try {
        more = keepUp(this.#upkeep!, name, file, state) || more;
      } catch (error) {
        if (!(error instanceof StorageError)) throw error;
        this.#tell({ event: "upkeepFailed", facts: { file: name, code: error.code, why: explain(error) } });
        if (error.code !== "storage.full") this.#giveUp(name, error);
      }
    }
    if (state.fullness === "normal" && this.#lock !== undefined) this.#upkeep!.makeBallast();
    return more;
  }

  /** Bounds a WAL that grows without an idle moment, between two batches; remembers how long it was. */
  #boundWal(name: LaneName): void {
    const commits = (this.#commits.get(name) ?? 0) + 1;
    this.#commits.set(name, commits);
    const file = this.#files.get(name);
    if (commits % walLookInterval !== 0 || file === undefined) return;
    const { written, checkpointed } = walFrames(file.opened.database);
    const { pageBytes } = fileSettings[name];
    this.#upkeep!.sawWal(name, written * pageBytes);
    if ((written - checkpointed) * pageBytes > this.#limits!.walBytesMax)
      checkpointWal(file.opened.database, "PASSIVE");
  }

  #refreshSpace(): void {
    const nowNs = this.#clock.monotonicNs();
    if (nowNs - this.#spaceAtNs < spaceIntervalMs * 1e6) return;
    this.#spaceAtNs = nowNs;
    this.#news = true;
    this.#leaveRemovedFiles();
    this.#space = readSpace(this.#directory);
    if (this.#fullness() === "critical" && this.#lock !== undefined && dropBallast(this.#directory)) {
      this.#tell({ event: "ballastDropped", facts: { freeBytes: this.#freeBytes } });
      this.#space = readSpace(this.#directory);
    }
    const written = threadBytesWritten();
    if (written !== null) this.#wear.add(this.#clock.wallMs(), written - (this.#bytesSeen ?? written), 0);
    this.#bytesSeen = written;
  }

  /** A file that was removed under us takes commits that nobody will ever find: leave it, and claim the directory anew. */
  #leaveRemovedFiles(): void {
    for (const [name, { opened }] of this.#files) {
      if (inodeOf(opened.path) === opened.inode) continue;
      this.#tell({ event: "fileRemoved", facts: { file: name, path: opened.path } });
      this.#closeFile(name);
      this.#lock?.[Symbol.dispose]();
      this.#lock = undefined;
    }
  }

  /** Nothing that needs room is begun where it is not known. */
  get #freeBytes(): number {
    return this.#space?.freeBytes ?? 0;
  }

  #fullness(): Fullness {
    return fullness(this.#space, this.#limits!);
  }

  #overBudget(): boolean {
    const { bytes, historyBytes } = this.#wear.today;
    return bytes > this.#limits!.budgetBytesPerDay || historyBytes > this.#limits!.budgetHistoryBytesPerDay;
  }

  #condition(): Condition {
    const findings = this.#findings;
    this.#findings = [];
    this.#news = false;
    return {
      fullness: this.#fullness(),
      space: this.#space,
      overBudget: this.#overBudget(),
      bytesToday: this.#wear.today.bytes,
      findings,
    };
  }

  #tell(finding: Finding): void {
    this.#news = true;
    if (this.#findings.length < findingsMax) this.#findings.push(finding);
  }

  #memoryAtLeast(): JournalMemory | null {
    try {
      return readMemoryOf(pathOf(this.#directory, "journal"));
    } catch {
      // The failure that is being answered says why already.
      return null;
    }
  }

  /** Closes a file after an error; the next message opens it again, as carefully as the error asks for. */
  #giveUp(name: LaneName, error: StorageError): void {
    this.#closeFile(name);
    if (error.code === "storage.corrupt") this.#damaged.set(name, explain(error));
    else this.#suspect.add(name);
  }

  #closeFile(name: LaneName): void {
    this.#files.get(name)?.[Symbol.dispose]();
    this.#files.delete(name);
  }

  #close(): void {
    for (const name of [...this.#files.keys()]) this.#closeFile(name);
    this.#lock?.[Symbol.dispose]();
    this.#lock = undefined;
  }
}

function writeRows(file: OpenFile, rows: readonly RowOf[LaneName][], again: boolean): number {
  if (file instanceof Journal) return file.write(rows as readonly JournalRow[], again);
  if (file instanceof Outbox) return file.write(rows as readonly OutboxRow[]);
  return file.write(rows as readonly SampleRow[]);
}
