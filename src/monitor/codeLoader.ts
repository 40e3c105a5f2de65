// SPDX-License-Identifier: Apache-2.0
/**
 * Keeps the code map of one running program true. Gets a pid; gives a CodeMap, made anew when the mappings have changed.
 *
 * Files are opened through `/proc/PID/root`, or `/proc/PID/map_files` where they were deleted or replaced since, and read
 * where they are looked at; the vDSO is read from memory. What was opened for one program serves the others.
 * Limits: files over 512 MiB are left out. Source: proc(5).
 */
import { accessSync, constants, statSync } from "node:fs";
import { CodeMap } from "#binary/codeMap.ts";
import { type ElfImage, parseElf } from "#binary/elf.ts";
import type { PagedBytes } from "#binary/fileBytes.ts";
import { type Mapping, parseMaps } from "#binary/maps.ts";
import { BinaryError, ProgramError } from "#errors.ts";
import type { ProgramView } from "#fault.ts";
import type { Log } from "#log.ts";
import { openCodeFile } from "./codeFile.ts";
import { readMaps } from "./processes.ts";
import { SharedCode } from "./sharedCode.ts";

const fileBytesMax = 512 * 1024 * 1024;
const vdsoName = "[vdso]";

export class CodeLoader {
  #mapsText = "";
  #map: CodeMap | null = null;
  /** By path and inode; null: that cannot be read. */
  readonly #known = new Map<string, ElfImage | null>();

  constructor(
    private readonly view: ProgramView,
    private readonly log: Log,
    private readonly shared = new SharedCode(),
  ) {}

  /** The code map as last made. @throws ProgramError "program.gone", BinaryError where no file of the program is known */
  get map(): CodeMap {
    this.#map ??= this.#load();
    return this.#map;
  }

  /** Reads the mappings again; true where code was added or moved and the map is a new one. */
  refresh(): boolean {
    const before = this.#map;
    return this.#load() !== before;
  }

  #load(): CodeMap {
    const text = readMaps(this.view.pid);
    if (text === null || text === "") throw new ProgramError("program.gone", `process ${this.view.pid} is gone`);
    const code = text
      .split("\n")
      .filter((row) => row.includes("xp ") || row.includes("xs "))
      .join("\n");
    if (this.#map !== null && code === this.#mapsText) return this.#map;
    const mappings = parseMaps(text);
    const images = new Map<string, ElfImage>();
    for (const mapping of mappings) {
      if (mapping.permissions[2] !== "x") continue;
      const image = this.#imageOf(mapping);
      if (image !== null) images.set(mapping.path, image);
    }
    this.#mapsText = code;
    this.#map = new CodeMap(mappings, images);
    return this.#map;
  }

  #imageOf(mapping: Mapping): ElfImage | null {
    if (mapping.path !== vdsoName && !mapping.path.startsWith("/")) return null;
    const key = `${mapping.path} ${mapping.inode}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const image = this.#parse(mapping);
    this.#known.set(key, image);
    return image;
  }

  #parse(mapping: Mapping): ElfImage | null {
    try {
      const found = mapping.path === vdsoName ? this.#vdso(mapping) : fileOf(this.view.pid, mapping);
      if (found === null) return null;
      const known = this.shared.find(found.identity);
      if (known !== undefined) return known;
      const bytes = found.open();
      if (bytes === null) return null;
      const image = parseElf(bytes);
      this.shared.keep(found.identity, image);
      return image;
    } catch (error) {
      if (!(error instanceof BinaryError)) throw error;
      // Code that we cannot read is unwound by frame pointers or not at all; the report says so.
      this.log("warn", "code.unreadable", { path: mapping.path, why: error.message });
      return null;
    }
  }

  /** The kernel has one for all processes of an architecture. */
  #vdso({ path, start, end }: Mapping): Found {
    return { identity: path, open: () => this.view.readMemory(start, Number(end - start)) };
  }
}

type Found = { readonly identity: string; readonly open: () => Uint8Array | PagedBytes | null };

function fileOf(pid: number, mapping: Mapping): Found | null {
  const byRange = `/proc/${pid}/map_files/${mapping.start.toString(16)}-${mapping.end.toString(16)}`;
  const byName = `/proc/${pid}/root${mapping.path}`;
  for (const path of mapping.deleted ? [byRange] : [byName, byRange]) {
    try {
      const { dev, ino, size, mtimeMs, ctimeMs } = statSync(path);
      if (ino !== mapping.inode || size > fileBytesMax) continue;
      accessSync(path, constants.R_OK);
      return { identity: [dev, ino, size, mtimeMs, ctimeMs].join(" "), open: () => openCodeFile(path, size) };
    } catch {
      // The name may belong to a newer file, and map_files needs CAP_CHECKPOINT_RESTORE: try the other way.
    }
  }
  return null;
}
