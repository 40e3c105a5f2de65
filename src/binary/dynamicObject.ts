// SPDX-License-Identifier: Apache-2.0
/**
 * The place of a variable that a library exports by name, such as `__rseq_offset` of glibc's dynamic linker. Gets an image
 * and a name; gives the offset in the file as loaded, or null.
 */
import type { ElfImage } from "./elf.ts";
import { readWord } from "./elfLayout.ts";
import { dynamicSymbols, readTable } from "./elfSymbols.ts";

const symbolBytes = 24;
const objectType = 1; // STT_OBJECT

export function dynamicObject(image: ElfImage, name: string): number | null {
  const { layout } = image;
  try {
    const table = dynamicSymbols(layout);
    if (table === null) return null;
    const { view, count, nameAt } = readTable(layout, table);
    for (let at = 0; at < count * symbolBytes; at += symbolBytes) {
      const defined = view.getUint16(at + 6, true) !== 0;
      if (!defined || (view.getUint8(at + 4) & 0x0f) !== objectType) continue;
      if (nameAt(at) === name) return readWord(view, at + 8);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    // A damaged table exports nothing.
  }
  return null;
}
