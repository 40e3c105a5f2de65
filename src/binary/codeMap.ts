// SPDX-License-Identifier: Apache-2.0
/**
 * What lies where in one program's address space: modules, code, writable memory. Gets mappings and the ELF files behind them.
 *
 * Built while the program runs; every question is a binary search. Addresses are doubles inside (user addresses are
 * below 2^52, so exact, and several times cheaper than bigint on the fault path), branded bigint outside.
 */
import { BinaryError } from "#errors.ts";
import { type Architecture, address, type ModuleReference, type VirtualAddress } from "#fault.ts";
import { type CallPattern, callEndingAt, patternBytesMax } from "./callPattern.ts";
import type { Fde } from "./ehFrame.ts";
import type { ElfImage } from "./elf.ts";
import { segmentFlags, segmentTypes } from "./elfLayout.ts";
import { lastAtOrBefore } from "./elfSymbols.ts";
import type { Mapping } from "./maps.ts";
import { stubName } from "./plt.ts";

export type CodeModule = ModuleReference & { readonly image: ElfImage };

/** A place in a module. `offset` is the address as the file states it. */
export type CodePlace = { readonly module: number; readonly image: ElfImage; readonly offset: number };

export type Found = CodePlace & { readonly fde: Fde | null };

const pageBytes = 4_096;
const keptMax = 16_384;

export class CodeMap {
  readonly architecture: Architecture;
  readonly modules: readonly CodeModule[];
  readonly #starts: Float64Array;
  readonly #rows: readonly Placed[];
  /** What was found at an address before. A server faults and waits in the same few places again and again. */
  readonly #found = new Map<VirtualAddress, Found | null>();
  readonly #names = new Map<VirtualAddress, string | null>();

  /** `images` by the path of their mappings; mappings of other files count as memory without a module. */
  constructor(mappings: readonly Mapping[], images: ReadonlyMap<string, ElfImage>) {
    const modules: CodeModule[] = [];
    const rows = [...mappings].sort((a, b) => (a.start < b.start ? -1 : 1));
    const isCode = ({ permissions }: Mapping): boolean => permissions[2] === "x";
    const placed = new Map<Mapping, Placed>();
    // Code first: it says where the modules are, and data mappings are fitted to them.
    for (const mapping of [...rows.filter(isCode), ...rows.filter((row) => !isCode(row))]) {
      placed.set(mapping, place(mapping, images.get(mapping.path) ?? null, modules));
    }
    this.#rows = rows.map((mapping) => placed.get(mapping)!);
    this.#starts = Float64Array.from(this.#rows, (row) => row.start);
    this.modules = modules;
    this.architecture = oneArchitecture(modules);
  }

  /** The module around a code address with its unwind entry; null for data, unmapped memory and code outside files. */
  find(pc: VirtualAddress): Found | null {
    const known = this.#found.get(pc);
    if (known !== undefined) return known;
    const place = this.locate(Number(pc));
    return keep(this.#found, pc, place === null ? null : { ...place, fde: place.image.fdeAt(place.offset) });
  }

  /** `find` without the entry, for an address that is exact as a double. */
  locate(pc: number): CodePlace | null {
    const row = this.#row(pc);
    if (row === null || row.module === null || !row.executable) return null;
    const { index, image, bias } = row.module;
    return { module: index, image, offset: pc - bias };
  }

  isExecutable(pc: number): boolean {
    return this.#row(pc)?.executable === true;
  }

  isWritable(at: number): boolean {
    return this.#row(at)?.writable === true;
  }

  /** True for memory that shows a file, such as the constants of a program. */
  isInFile(at: number): boolean {
    return (this.#row(at)?.module ?? null) !== null || (this.#row(at)?.inode ?? 0) !== 0;
  }

  isMapped(at: number): boolean {
    return this.#row(at) !== null;
  }

  /**
   * What a call through the memory slot at `slot` is: `library` where the dynamic linker fills the slot or it cannot
   * change after relocation, `pointer` where the program can store into it.
   */
  slotKind(slot: VirtualAddress): "library" | "pointer" {
    const at = Number(slot);
    const row = this.#row(at);
    if (row === null || !row.writable) return "library";
    const inside = row.module ?? this.#moduleOfData(at);
    if (inside === null) return "pointer";
    const offset = at - inside.bias;
    return inside.image.slots.has(offset) || !inside.image.staysWritable(offset) ? "library" : "pointer";
  }

  /** Name for a code address: its function symbol, or `NAME@plt` inside a linkage stub; null where none is known. */
  symbolAt(pc: VirtualAddress): string | null {
    const known = this.#names.get(pc);
    if (known !== undefined) return known;
    const found = this.locate(Number(pc));
    if (found === null) return null;
    return keep(this.#names, pc, found.image.symbolAt(found.offset)?.name ?? stubName(found.image, found.offset));
  }

  /** The call whose return address is `pc`, its target as an address; null where no call ends there. */
  callBefore(pc: number): CallPattern | null {
    const found = this.locate(pc - 1);
    if (found === null) return null;
    const code = found.image.codeAt(found.offset + 1 - patternBytesMax, patternBytesMax);
    if (code.length < patternBytesMax) return null;
    const site = callEndingAt(this.architecture, code, pc);
    if (site === null || site.target === null) return site;
    return this.isExecutable(site.target) ? site : null;
  }

  /** Anonymous memory right behind a module's data is its .bss. */
  #moduleOfData(at: number): PlacedModule | null {
    for (const row of this.#rows) {
      if (row.module === null) continue;
      const offset = at - row.module.bias;
      const { segments } = row.module.image.layout;
      const covers = segments.some(
        (segment) =>
          segment.type === segmentTypes.load &&
          offset >= segment.offset &&
          offset < segment.offset + segment.memoryBytes,
      );
      if (covers) return row.module;
    }
    return null;
  }

  #row(at: number): Placed | null {
    const index = lastAtOrBefore(this.#starts, at);
    const row = index < 0 ? undefined : this.#rows[index];
    return row !== undefined && at < row.end ? row : null;
  }
}

type PlacedModule = { readonly index: number; readonly image: ElfImage; readonly bias: number };
type Placed = {
  readonly start: number;
  readonly end: number;
  readonly executable: boolean;
  readonly writable: boolean;
  /** 0 for anonymous memory. */
  readonly inode: number;
  readonly module: PlacedModule | null;
};

function keep<Value>(kept: Map<VirtualAddress, Value>, pc: VirtualAddress, value: Value): Value {
  if (kept.size >= keptMax) kept.clear();
  kept.set(pc, value);
  return value;
}

function place(mapping: Mapping, image: ElfImage | null, modules: CodeModule[]): Placed {
  const executable = mapping.permissions[2] === "x";
  const owner =
    image === null ? null : executable ? addModule(mapping, image, modules) : ownerOf(mapping, image, modules);
  return {
    start: Number(mapping.start),
    end: Number(mapping.end),
    executable,
    writable: mapping.permissions[1] === "w",
    inode: mapping.inode,
    module: owner,
  };
}

/** The module of a mapping of code, new where none of its file has been seen with this bias. */
function addModule(mapping: Mapping, image: ElfImage, modules: CodeModule[]): PlacedModule | null {
  const [bias] = biasesOf(mapping, image, segmentFlags.execute);
  if (bias === undefined) return null;
  const exact = address(BigInt(bias));
  let index = modules.findIndex((module) => module.path === mapping.path && module.bias === exact);
  if (index < 0) {
    const { buildId, ownsSignals } = image;
    index = modules.push({ path: mapping.path, buildId, bias: exact, ownsSignals, image }) - 1;
  }
  return { index, image, bias };
}

/** The module that a mapping of constants or variables belongs to: one of its file's, whose bias fits a segment. */
function ownerOf(mapping: Mapping, image: ElfImage, modules: readonly CodeModule[]): PlacedModule | null {
  for (const bias of biasesOf(mapping, image, 0)) {
    const exact = address(BigInt(bias));
    const index = modules.findIndex((module) => module.path === mapping.path && module.bias === exact);
    if (index >= 0) return { index, image, bias };
  }
  return null;
}

/** Start of the mapping minus the offset of each segment it can show: two segments can share a page of the file. */
function biasesOf(mapping: Mapping, { layout }: ElfImage, wanted: number): readonly number[] {
  const candidates = layout.segments.filter(
    ({ type, flags, position, fileBytes }) =>
      type === segmentTypes.load &&
      (flags & wanted) === wanted &&
      mapping.fileOffset >= Math.floor(position / pageBytes) * pageBytes &&
      mapping.fileOffset < position + fileBytes,
  );
  return candidates.map(({ position, offset }) => Number(mapping.start) - (mapping.fileOffset - position + offset));
}

function oneArchitecture(modules: readonly CodeModule[]): Architecture {
  const first = modules[0];
  if (first === undefined) {
    throw new BinaryError("binary.elf", "no mapped file of the program could be read as ELF, so its code is not known");
  }
  return first.image.architecture;
}
