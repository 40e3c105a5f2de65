// SPDX-License-Identifier: Apache-2.0
/**
 * Instructions of real programs: gets ELF files, gives each distinct instruction once, found by sweeping every function
 * that call-frame information names.
 */
import { readFileSync } from "node:fs";
import type { ElfImage } from "#binary/elf.ts";
import { parseElf } from "#binary/elf.ts";
import { instructionsOf } from "#binary/instructions.ts";
import type { Random } from "#clock.ts";

export const openImage = (path: string): ElfImage => parseElf(new Uint8Array(readFileSync(path)));

/** Calls `visit` with the bytes from each instruction to the end of its function. */
export function sweepFunctions(image: ElfImage, visit: (code: Uint8Array, at: number, size: number) => void): void {
  const set = instructionsOf(image.architecture);
  for (let entry = 0; entry < image.frames.count; entry += 1) {
    const fde = image.frames.entryAt(entry);
    if (fde === null) continue;
    const code = image.codeAt(fde.start, fde.end - fde.start);
    for (let offset = 0; offset < code.length; ) {
      const left = code.subarray(offset);
      const size = set.length(left, BigInt(fde.start + offset));
      if (size === null) break;
      visit(left, fde.start + offset, size);
      offset += size;
    }
  }
}

/** Up to `perKind` distinct instructions of each kind, as `kindOf` names it; null leaves one out. */
export function distinctInstructions(
  images: readonly ElfImage[],
  perKind: number,
  kindOf: (code: Uint8Array) => string | null,
): Uint8Array[] {
  const seen = new Map<string, Uint8Array>();
  const counts = new Map<string, number>();
  for (const image of images) {
    sweepFunctions(image, (code, _at, size) => {
      const bytes = code.slice(0, size);
      const name = bytes.toHex();
      if (seen.has(name)) return;
      const kind = kindOf(bytes);
      const count = kind === null ? perKind : (counts.get(kind) ?? 0);
      if (kind === null || count >= perKind) return;
      counts.set(kind, count + 1);
      seen.set(name, bytes);
    });
  }
  return [...seen.values()];
}

export function sample<T>(items: readonly T[], count: number, random: Random): T[] {
  const left = [...items];
  const drawn: T[] = [];
  while (drawn.length < count && left.length > 0) {
    const index = Math.floor(random() * left.length);
    drawn.push(left[index] as T);
    left[index] = left[left.length - 1] as T;
    left.pop();
  }
  return drawn;
}
