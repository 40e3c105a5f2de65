// SPDX-License-Identifier: Apache-2.0
/**
 * The last boots of this box and why each came, in one small file of the state directory. Gets the state directory; journals
 * a boot that is new, and notes an orderly end.
 *
 * Limit: `bootsMax` boots. A file that cannot be written is told and costs only the next boot's reason.
 */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Box } from "#board/box.ts";
import type { Clock } from "#clock.ts";
import type { Log } from "#log.ts";
import { type BootFacts, type BootJudgement, judgeBoot, readBootFacts } from "#monitor/bootReason.ts";
import type { Storage } from "#storage/storage.ts";

export const bootsMax = 20;
const fileName = "boots.json";
const restartNotes = ["update", "operator", "factoryReset"] as const;
/** A file of this kind is small; a larger one is none of ours. */
const fileBytesMax = 65_536;

export type BootEntry = BootJudgement & { readonly boot: string; readonly atMs: number };
export type BootFile = {
  readonly boots: readonly BootEntry[];
  readonly endedInOrder: boolean;
  /** Why we ask for the next restart. */
  readonly note: BootFacts["note"];
};

export class BootBook implements Disposable {
  readonly #path: string;
  #file: BootFile;

  constructor(
    directory: string,
    box: Box,
    storage: Pick<Storage, "event">,
    clock: Clock,
    private readonly log: Log,
  ) {
    this.#path = join(directory, fileName);
    const last = readBoots(directory);
    const boot = box.text("/proc/sys/kernel/random/boot_id") ?? "";
    if (last?.boots.at(-1)?.boot === boot) {
      this.#file = { ...last, endedInOrder: false };
    } else {
      const note = last?.note ?? takeNote(directory);
      const judged = judgeBoot(readBootFacts(box, note, last?.endedInOrder ?? null));
      const entry: BootEntry = { boot, atMs: clock.wallMs(), ...judged };
      this.#file = { boots: [...(last?.boots ?? []), entry].slice(-bootsMax), endedInOrder: false, note: null };
      storage.event("boot.reason", "", { ...entry });
    }
    this.#write();
  }

  /** The boots on record, the newest last. */
  get boots(): readonly BootEntry[] {
    return this.#file.boots;
  }

  /** Before a restart that we ask for ourselves. */
  expect(note: NonNullable<BootFacts["note"]>): void {
    this.#file = { ...this.#file, note };
    this.#write();
  }

  /** The restart was refused. */
  forget(): void {
    this.#file = { ...this.#file, note: null };
    this.#write();
  }

  /** Why the box was started this time; the newest entry. */
  get newest(): BootEntry {
    return this.#file.boots.at(-1)!;
  }

  /** The supervisor ends in order. */
  [Symbol.dispose](): void {
    this.#file = { ...this.#file, endedInOrder: true };
    this.#write();
  }

  #write(): void {
    try {
      mkdirSync(dirname(this.#path), { recursive: true, mode: 0o700 });
      writeFileSync(`${this.#path}.new`, `${JSON.stringify(this.#file)}\n`, { mode: 0o600, flush: true });
      renameSync(`${this.#path}.new`, this.#path);
    } catch (error) {
      this.log("warn", "boots.notWritten", { path: this.#path, why: String(error) });
    }
  }
}

/** What the setup of a flashed box has left: it resets, and restarts nothing. Told once. */
function takeNote(directory: string): BootFacts["note"] {
  const path = join(directory, "note");
  try {
    const word = readFileSync(path, "utf8").trim();
    rmSync(path, { force: true });
    return restartNotes.find((known) => known === word) ?? null;
  } catch {
    return null; // None was left.
  }
}

/** What is on record; null where nothing is, or it cannot be read. */
export function readBoots(directory: string): BootFile | null {
  try {
    const text = readFileSync(join(directory, fileName), "utf8");
    const value = text.length > fileBytesMax ? null : (JSON.parse(text) as Partial<BootFile> | null);
    if (value === null || !Array.isArray(value.boots)) return null;
    return { boots: value.boots, endedInOrder: value.endedInOrder === true, note: value.note ?? null };
  } catch {
    return null; // None yet, or torn by a power cut: the next one begins anew.
  }
}
