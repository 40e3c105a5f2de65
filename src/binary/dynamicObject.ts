// SPDX-License-Identifier: Apache-2.0
/**
 * The place of a variable that a library exports by name, such as `__rseq_offset` of glibc's dynamic linker. Gets an image
 * and a name; gives the offset in the file as loaded, or null.
 */
import type { ElfImage } from "./elf.ts";
import { readWord } from "./elfLayout.ts";
import { dynamicSymbols, symbolName } from "./elfSymbols.ts";

const symbolBytes = 24;
const objectType = 1; // STT_OBJECT

export function dynamicObject(image: ElfImage, name: string): number | null {
  const { layout } = image;
  try {
    const table = dynamicSymbols(layout);
    for (let index = 0; table !== null && index < table.count; index += 1) {
      const at = table.position + index * symbolBytes;
      const defined = layout.view.getUint16(at + 6, true) !== 0;
      if (!defined || (layout.view.getUint8(at + 4) & 0x0f) !== objectType) continue;
      if (symbolName(layout, table, layout.view.getUint32(at, true)) === name) return readWord(layout.view, at + 8);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    // A damaged table exports nothing.
  }
  return null;
}
