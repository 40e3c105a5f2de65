// SPDX-License-Identifier: Apache-2.0
/**
 * Function names by offset, from `.symtab` and the dynamic symbol table. Gets the layout; reads each table once.
 *
 * A name is given only where the symbol's size covers the offset, since in a stripped file the nearest symbol is mostly
 * not the right one. Limits: symbols. Source: System V gABI, chapter 4, "Symbol Table"; GNU hash table by its layout in
 * glibc's dl-lookup.c.
 */
import { type ElfLayout, rangeAt, readText, readWord } from "./elfLayout.ts";
import { type FileView, viewOf } from "./fileBytes.ts";

export type FunctionSymbol = { readonly name: string; readonly start: number; readonly sizeBytes: number };

export type SymbolIndex = {
  readonly count: number;
  readonly at: (offset: number) => FunctionSymbol | null;
  /** Where the plain function of that name begins; null where there is none. A search of all names. */
  readonly named: (name: string) => number | null;
};

/** Where a symbol table and its names lie in the file. */
export type SymbolTable = {
  readonly position: number;
  readonly count: number;
  readonly names: { readonly position: number; readonly end: number };
};

const symbolsMax = 4_000_000;
const symbolBytes = 24;
const sectionTypes = { symbols: 2, dynamicSymbols: 11 };
const dynamicTags = { hash: 4, strings: 5, symbols: 6, stringBytes: 10, gnuHash: 0x6ffffef5 };
/** STT_FUNC and STT_GNU_IFUNC. */
const functionTypes = new Set([2, 10]);
const plainFunction = 2;

export function openSymbols(layout: ElfLayout): SymbolIndex {
  const tables = [staticSymbols(layout), dynamicSymbols(layout)].filter((table) => table !== null);
  // Kept as the places of the entries in the file: a library has thousands, and few are ever asked for.
  const { sorted, starts } = sortedFunctions(layout, tables);
  const nameOf = (at: number): string => {
    const table = tables.find(({ position, count }) => at >= position && at < position + count * symbolBytes)!;
    return symbolName(layout, table, layout.view.getUint32(at, true));
  };
  return {
    count: sorted.length,
    at: (offset) => {
      const last = lastAtOrBefore(starts, offset);
      for (let index = last; index >= 0 && starts[index] === starts[last]; index -= 1) {
        const [at, start] = [sorted[index]!, starts[index]!];
        const sizeBytes = readWord(layout.view, at + 16);
        if (offset - start < Math.max(sizeBytes, 1)) return { name: nameOf(at), start, sizeBytes };
      }
      return null;
    },
    named: (name) => {
      let found: number | null = null;
      for (const { view, count, nameAt } of tables.map((table) => readTable(layout, table))) {
        for (let index = 0; index < count; index += 1) {
          const at = index * symbolBytes;
          if (typeOf(view, at) !== plainFunction || !isDefinedFunction(view, at) || nameAt(at) !== name) continue;
          found = Math.min(found ?? Number.POSITIVE_INFINITY, readWord(view, at + 8));
        }
      }
      return found;
    },
  };
}

/** Functions of all tables in rising order: the places of their entries, and where they start. */
function sortedFunctions(
  layout: ElfLayout,
  tables: readonly SymbolTable[],
): { sorted: Uint32Array; starts: Float64Array } {
  const places: number[] = [];
  const starts: number[] = [];
  for (const table of tables) {
    const { view, count } = readTable(layout, table);
    for (let at = 0; at < count * symbolBytes; at += symbolBytes) {
      if (!isDefinedFunction(view, at)) continue;
      places.push(table.position + at);
      starts.push(readWord(view, at + 8));
    }
  }
  const order = Uint32Array.from(places.keys()).sort((a, b) => starts[a]! - starts[b]!);
  return {
    sorted: Uint32Array.from(order, (index) => places[index]!),
    starts: Float64Array.from(order, (index) => starts[index]!),
  };
}

/** A symbol table as a whole, for who goes through all of it: entries by their place in `view`, as many as can be read. */
export function readTable(layout: ElfLayout, { position, count, names }: SymbolTable): ReadSymbols {
  const view = viewOf(layout.bytes.subarray(position, position + count * symbolBytes));
  const text = layout.bytes.subarray(names.position, names.end);
  return {
    view,
    count: Math.floor(view.byteLength / symbolBytes),
    nameAt: (at) => readText(text, view.getUint32(at, true), text.length),
  };
}

export type ReadSymbols = {
  readonly view: DataView;
  readonly count: number;
  /** The name of the entry at that place. */
  readonly nameAt: (at: number) => string;
};

function isDefinedFunction(view: DataView, at: number): boolean {
  if (!functionTypes.has(typeOf(view, at)) || view.getUint16(at + 6, true) === 0) return false;
  return Number.isFinite(readWord(view, at + 8) + readWord(view, at + 16));
}

const typeOf = (view: DataView, at: number): number => view.getUint8(at + 4) & 0x0f;

/** Index of the last element that is not above `value`; -1 where there is none. `sorted` rises. */
export function lastAtOrBefore(sorted: Float64Array, value: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle]! <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function symbolName(layout: ElfLayout, table: SymbolTable, nameAt: number): string {
  return readText(layout.bytes, table.names.position + nameAt, table.names.end);
}

/** The dynamic symbol table by its section, or by PT_DYNAMIC where the section headers are gone. */
export function dynamicSymbols(layout: ElfLayout): SymbolTable | null {
  return tableOfSection(layout, sectionTypes.dynamicSymbols) ?? tableOfDynamic(layout);
}

const staticSymbols = (layout: ElfLayout): SymbolTable | null => tableOfSection(layout, sectionTypes.symbols);

function tableOfSection(layout: ElfLayout, type: number): SymbolTable | null {
  const section = layout.sections.find((candidate) => candidate.type === type);
  // The section that holds the names is named by convention; sh_link says the same in all files that linkers write.
  const names = layout.sections.find(
    (candidate) => candidate.name === (type === sectionTypes.symbols ? ".strtab" : ".dynstr"),
  );
  if (section === undefined || names === undefined) return null;
  return {
    position: section.position,
    count: Math.min(Math.floor(section.lengthBytes / symbolBytes), symbolsMax),
    names: { position: names.position, end: names.position + names.lengthBytes },
  };
}

function tableOfDynamic(layout: ElfLayout): SymbolTable | null {
  const symbols = rangeAt(layout, layout.dynamic.get(dynamicTags.symbols) ?? -1);
  const names = rangeAt(
    layout,
    layout.dynamic.get(dynamicTags.strings) ?? -1,
    layout.dynamic.get(dynamicTags.stringBytes),
  );
  if (symbols === null || names === null) return null;
  const count = Math.min(symbolCount(layout), Math.floor(symbols.lengthBytes / symbolBytes), symbolsMax);
  return {
    position: symbols.position,
    count,
    names: { position: names.position, end: names.position + names.lengthBytes },
  };
}

function symbolCount(layout: ElfLayout): number {
  const hash = rangeAt(layout, layout.dynamic.get(dynamicTags.hash) ?? -1);
  if (hash !== null && hash.lengthBytes >= 8) return layout.view.getUint32(hash.position + 4, true);
  const gnuHash = rangeAt(layout, layout.dynamic.get(dynamicTags.gnuHash) ?? -1);
  return gnuHash === null || gnuHash.lengthBytes < 16
    ? 0
    : gnuHashCount(layout.view, gnuHash.position, gnuHash.lengthBytes);
}

/** The table has no count: the highest chain start is followed to its end bit. */
function gnuHashCount(view: FileView, position: number, lengthBytes: number): number {
  const end = position + lengthBytes;
  const buckets = view.getUint32(position, true);
  const firstSymbol = view.getUint32(position + 4, true);
  const bucketsAt = position + 16 + view.getUint32(position + 8, true) * 8;
  const chainsAt = bucketsAt + buckets * 4;
  if (chainsAt > end) return firstSymbol;
  let last = 0;
  for (let index = 0; index < buckets; index += 1) last = Math.max(last, view.getUint32(bucketsAt + index * 4, true));
  if (last < firstSymbol) return firstSymbol;
  for (let symbol = last; symbol < symbolsMax; symbol += 1) {
    const at = chainsAt + (symbol - firstSymbol) * 4;
    if (at + 4 > end || (view.getUint32(at, true) & 1) === 1) return symbol + 1;
  }
  return symbolsMax;
}
