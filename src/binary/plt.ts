// SPDX-License-Identifier: Apache-2.0
/**
 * Names of procedure linkage stubs: `abort@plt`. Gets an image and an offset, reads the stub's code to find its slot.
 *
 * No section is needed: a stub is known by its code, a jump through a slot that the dynamic linker fills.
 * Source: psABI supplements, "Procedure Linkage Table"; stubs as GNU ld, gold and lld 2.40/15 write them.
 */
import type { ElfImage } from "./elf.ts";

const stubBytesMax = 24;

/** `NAME@plt` where `offset` lies inside a linkage stub, else null. */
export function stubName(image: ElfImage, offset: number): string | null {
  const slot = stubSlot(image, offset);
  const name = slot === null ? undefined : image.slots.get(slot);
  return name === undefined || name === "" ? null : `${name}@plt`;
}

/**
 * Bytes that the linkage stub around `offset` has pushed before `offset`; null where no stub is there. On AArch64 the
 * stubs share a head, `stp x16, x30, [sp, #-16]!; adrp x16; ldr x17; add x16; br x17`, for lazy binding.
 */
export function pushedByStub(image: ElfImage, offset: number): number | null {
  const slot = stubSlot(image, offset);
  if (slot !== null && image.slots.has(slot)) return 0;
  if (image.architecture === "x86_64") return null;
  for (let back = 0; back <= 16; back += 4) {
    const code = image.codeAt(offset - back, 8);
    if (code.length < 8) return null;
    const view = new DataView(code.buffer, code.byteOffset, 8);
    if (view.getUint32(0, true) !== 0xa9bf7bf0 || (view.getUint32(4, true) & 0x9f00001f) >>> 0 !== 0x90000010) continue;
    return back === 0 ? 0 : 16;
  }
  return null;
}

/** The slot that the stub around `offset` jumps through; null where the code there is no stub. */
export function stubSlot(image: ElfImage, offset: number): number | null {
  return image.architecture === "x86_64" ? x86Slot(image, offset) : armSlot(image, offset);
}

/** Stubs begin at multiples of 16, in `.plt.got` of 8; the slot is that of the jump at the beginning. */
function x86Slot(image: ElfImage, offset: number): number | null {
  for (const align of [8, 16]) {
    const start = offset - (offset % align);
    const code = image.codeAt(start, 16);
    // endbr64, then an optional bnd prefix, then `jmp *slot(%rip)`.
    let at = code[0] === 0xf3 && code[1] === 0x0f && code[2] === 0x1e && code[3] === 0xfa ? 4 : 0;
    if (code[at] === 0xf2) at += 1;
    if (code.length < at + 6 || code[at] !== 0xff || code[at + 1] !== 0x25) continue;
    const distance = new DataView(code.buffer, code.byteOffset + at + 2, 4).getInt32(0, true);
    return start + at + 6 + distance;
  }
  return null;
}

/** `[bti c;] adrp x16, page; ldr x17, [x16, #low]; add x16, x16, #low; br x17`, found from any of its words. */
function armSlot(image: ElfImage, offset: number): number | null {
  const at = offset - (offset % 4);
  for (let back = 0; back < stubBytesMax; back += 4) {
    const code = image.codeAt(at - back, 8);
    if (code.length < 8) return null;
    const view = new DataView(code.buffer, code.byteOffset, 8);
    const page = view.getUint32(0, true);
    const load = view.getUint32(4, true);
    if ((page & 0x9f00001f) >>> 0 !== 0x90000010 || (load & 0xffc003ff) >>> 0 !== 0xf9400211) continue;
    const pages = ((((page >> 3) & 0x1ffffc) | ((page >>> 29) & 3)) << 11) >> 11;
    const start = at - back;
    return start - (start % 4096) + pages * 4096 + ((load >>> 10) & 0xfff) * 8;
  }
  return null;
}
