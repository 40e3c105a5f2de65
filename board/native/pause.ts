// SPDX-License-Identifier: Apache-2.0
/**
 * A pause of the calling thread, for loops in a Worker that tick often. Blocks. Measured: half the processor time of
 * Atomics.wait with a timeout. Source: usleep(3).
 */
import { FFIType } from "bun:ffi";
import { openLibc } from "./libc.ts";

const libc = openLibc({
  usleep: { args: [FFIType.u32], returns: FFIType.i32 },
  getpagesize: { args: [], returns: FFIType.i32 },
});
const pauseUsMax = 999_999;

export function pause(pauseUs: number): void {
  libc.usleep(Math.min(pauseUs, pauseUsMax));
}

/** Bytes of a page of memory. */
export const pageBytesOfMachine = (): number => libc.getpagesize();
