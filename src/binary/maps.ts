// SPDX-License-Identifier: Apache-2.0
/**
 * The text of /proc/PID/maps as rows. Gets text, gives mappings in rising order. Lines that are not of that form are left out.
 *
 * Limit: mappings (the kernel's own default is 65,530). Source: proc_pid_maps(5).
 */
import { BinaryError } from "#errors.ts";
import { address, type VirtualAddress } from "#fault.ts";

export type Mapping = {
  readonly start: VirtualAddress;
  readonly end: VirtualAddress;
  readonly fileOffset: number;
  /** As printed: `r-xp`. */
  readonly permissions: string;
  /** File, `[vdso]`, `[stack]` …; "" for anonymous memory. " (deleted)" is cut off and said by `deleted`. */
  readonly path: string;
  readonly inode: number;
  readonly deleted: boolean;
};

const mappingsMax = 1_000_000;
const line =
  /^([0-9a-f]{1,16})-([0-9a-f]{1,16}) ([r-][w-][x-][ps]) ([0-9a-f]{1,16}) [0-9a-f]+:[0-9a-f]+ (\d+) *(.*)$/gm;
const deletedMark = " (deleted)";

/** @throws BinaryError "binary.limit" for more than a million rows. */
export function parseMaps(text: string): readonly Mapping[] {
  const mappings: Mapping[] = [];
  for (const match of text.matchAll(line)) {
    const [, start = "", end = "", permissions = "", fileOffset = "", inode = "", name = ""] = match;
    if (mappings.length === mappingsMax) throw new BinaryError("binary.limit", "too many mappings", { mappingsMax });
    const deleted = name.endsWith(deletedMark);
    mappings.push({
      start: address(BigInt(`0x${start}`)),
      end: address(BigInt(`0x${end}`)),
      fileOffset: Number.parseInt(fileOffset, 16),
      permissions,
      path: unescapeName(deleted ? name.slice(0, -deletedMark.length) : name),
      inode: Number(inode),
      deleted,
    });
  }
  return mappings;
}

/** The kernel writes a line feed in a name as `\012`. */
const unescapeName = (name: string): string => name.replaceAll("\\012", "\n");
