// SPDX-License-Identifier: Apache-2.0
/**
 * The code map of a program that is reached through a stub only: mappings and files read through it.
 *
 * Gets a way to read files and memory; gives a CodeMap, made anew when the mappings of code have changed. Images are kept by
 * path and inode for as long as the guest does not boot anew: files of some 10 MB cross vsock once for all its programs. Limit: what the stub
 * reads of one file (16 MiB); larger ones are unwound by frame pointers or not at all, and the log says so.
 */
import { CodeMap } from "#binary/codeMap.ts";
import { type ElfImage, parseElf } from "#binary/elf.ts";
import { type Mapping, parseMaps } from "#binary/maps.ts";
import { assert, explain, HoldfastError, ProgramError } from "#errors.ts";
import type { Log } from "#log.ts";
import type { ReadPages } from "./remoteView.ts";

export type ReadFile = (path: string) => Promise<Uint8Array | null>;
/** A file of text; null where it cannot be opened. */
export async function readText(readFile: ReadFile, path: string): Promise<string | null> {
  const bytes = await readFile(path);
  return bytes === null ? null : new TextDecoder().decode(bytes);
}

/** Images of files of one guest, shared by its programs: one that is being read is waited for. */
export type ImageStore = Map<string, Promise<ElfImage | null>>;

const vdsoName = "[vdso]";

export class RemoteCode {
  #rows = "";
  #map: CodeMap | null = null;

  constructor(
    private readonly pid: number,
    private readonly readFile: ReadFile,
    private readonly readPages: ReadPages,
    private readonly images: ImageStore,
    private readonly log: Log,
  ) {}

  /** As last made; `refresh` first. */
  get map(): CodeMap {
    assert(this.#map !== null, "the code of a guest's program was used before it was read");
    return this.#map;
  }

  /** Reads the mappings again; true where the map is a new one. @throws ProgramError "program.gone", GdbError, BinaryError */
  async refresh(): Promise<boolean> {
    const bytes = await this.readFile(`/proc/${this.pid}/maps`);
    if (bytes === null || bytes.length === 0) throw new ProgramError("program.gone", `process ${this.pid} is gone`);
    const text = new TextDecoder().decode(bytes);
    const rows = text
      .split("\n")
      .filter((row) => row.includes("xp ") || row.includes("xs "))
      .join("\n");
    if (this.#map !== null && rows === this.#rows) return false;
    const mappings = parseMaps(text);
    const images = new Map<string, ElfImage>();
    for (const mapping of mappings) {
      if (mapping.permissions[2] !== "x" || images.has(mapping.path)) continue;
      const image = await this.#imageOf(mapping);
      if (image !== null) images.set(mapping.path, image);
    }
    this.#map = new CodeMap(mappings, images);
    this.#rows = rows;
    return true;
  }

  async #imageOf(mapping: Mapping): Promise<ElfImage | null> {
    if (mapping.path !== vdsoName && !mapping.path.startsWith("/")) return null;
    const identity = `${mapping.path} ${mapping.inode}`;
    for (let known = this.images.get(identity); known !== undefined; known = this.images.get(identity)) {
      try {
        return await known;
      } catch {
        // Lost with the stub of whoever read it, who takes it out: the next one, or we read it.
      }
    }
    const reading = this.#read(mapping);
    this.images.set(identity, reading);
    try {
      return await reading;
    } catch (error) {
      // The stub that read it is gone; whoever waited for it has one of its own.
      if (this.images.get(identity) === reading) this.images.delete(identity);
      throw error;
    }
  }

  async #read(mapping: Mapping): Promise<ElfImage | null> {
    const { path, start, end, deleted } = mapping;
    try {
      if (path === vdsoName) return parseElf(await this.readPages(start, Number(end - start)));
      const range = `/proc/${this.pid}/map_files/${start.toString(16)}-${end.toString(16)}`;
      const bytes = await this.readFile(deleted ? range : `/proc/${this.pid}/root${path}`);
      return bytes === null ? null : parseElf(bytes);
    } catch (error) {
      if (!(error instanceof HoldfastError) || error.code === "gdb.closed") throw error;
      this.log("warn", "code.unreadable", { path, why: explain(error) });
      return null;
    }
  }
}
