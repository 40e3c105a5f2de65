// SPDX-License-Identifier: Apache-2.0
/**
 * Slots of the global offset table that the dynamic linker fills with the address of a function, and their names.
 *
 * Gets the layout, gives slot offset → name. Slots without a symbol (IRELATIVE) have the name "". Limit: relocations.
 * Source: psABI supplements: R_X86_64_GLOB_DAT 6, JUMP_SLOT 7, IRELATIVE 37; R_AARCH64_GLOB_DAT 1025, JUMP_SLOT 1026,
 * IRELATIVE 1032.
 */

import type { FileRange } from "./ehFrame.ts";
import { type ElfLayout, rangeAt, readWord, sectionNamed } from "./elfLayout.ts";
import { dynamicSymbols, type ReadSymbols, readTable } from "./elfSymbols.ts";
import { viewOf } from "./fileBytes.ts";

export type Slots = ReadonlyMap<number, string>;

const relocationBytes = 24;
const relocationsMax = 8_000_000;
/** libLLVM 14 has 3,786. */
const slotsMax = 65_536;
const dynamicTags = { relocations: 7, relocationBytes: 8, jumpSlots: 23, jumpSlotBytes: 2 };
const slotTypes = { x86_64: new Set([6, 7, 37]), aarch64: new Set([1025, 1026, 1032]) };

export function readSlots(layout: ElfLayout): Slots {
  const slots = new Map<number, string>();
  const table = dynamicSymbols(layout);
  const symbols = table === null ? null : readTable(layout, table);
  for (const { position, lengthBytes } of relocationRanges(layout)) {
    const view = viewOf(layout.bytes.subarray(position, position + lengthBytes));
    const count = Math.min(Math.floor(view.byteLength / relocationBytes), relocationsMax);
    for (let at = 0; at < count * relocationBytes; at += relocationBytes) {
      if (!slotTypes[layout.architecture].has(view.getUint32(at + 8, true))) continue;
      if (slots.size >= slotsMax) return slots;
      slots.set(readWord(view, at), slotName(symbols, view.getUint32(at + 12, true)));
    }
  }
  return slots;
}

function relocationRanges(layout: ElfLayout): readonly FileRange[] {
  const { dynamic } = layout;
  const ranges = [
    rangeAt(layout, dynamic.get(dynamicTags.relocations) ?? -1, dynamic.get(dynamicTags.relocationBytes) ?? 0),
    rangeAt(layout, dynamic.get(dynamicTags.jumpSlots) ?? -1, dynamic.get(dynamicTags.jumpSlotBytes) ?? 0),
    // A static program has no dynamic entries, only the section (IRELATIVE slots of its own functions).
    dynamic.size === 0 ? sectionNamed(layout, ".rela.plt") : null,
  ];
  return ranges.filter((range) => range !== null);
}

function slotName(symbols: ReadSymbols | null, index: number): string {
  return symbols === null || index === 0 || index >= symbols.count ? "" : symbols.nameAt(index * 24);
}
