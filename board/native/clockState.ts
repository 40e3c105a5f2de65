// SPDX-License-Identifier: Apache-2.0
/**
 * Whether the kernel's clock is synchronised, and how far off it is. Gives plain data, or null where the kernel refuses.
 *
 * Source: adjtimex(2) with `modes` 0 (only reads), `struct timex` of `include/uapi/linux/timex.h`, alike on both 64-bit
 * architectures, 208 bytes:
 *
 *     offset 0   u32  modes           offset 24  s64  maxerror, µs
 *     offset 8   s64  offset          offset 40  s32  status: 0x40 unsynchronised, 0x2000 offset is in ns
 */
import { FFIType } from "bun:ffi";
import { fixedBytes, openLibc } from "./libc.ts";

const libc = openLibc({ adjtimex: { args: [FFIType.ptr], returns: FFIType.i32 } });
const timexBytes = 208;
const [unsynchronised, inNanoseconds] = [0x40, 0x2000];

export type KernelClock = {
  readonly synced: boolean;
  readonly offsetSeconds: number;
  readonly errorSecondsMax: number;
};

export function readKernelClock(): KernelClock | null {
  const bytes = fixedBytes(timexBytes);
  if (libc.adjtimex(bytes) < 0) return null;
  const view = new DataView(bytes.buffer);
  const status = view.getInt32(40, true);
  const offset = Number(view.getBigInt64(8, true));
  return {
    synced: (status & unsynchronised) === 0,
    offsetSeconds: offset / (status & inNanoseconds ? 1e9 : 1e6),
    errorSecondsMax: Number(view.getBigInt64(24, true)) / 1e6,
  };
}
