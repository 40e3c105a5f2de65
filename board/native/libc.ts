// SPDX-License-Identifier: Apache-2.0
/**
 * The C library, opened once: how every other file here reaches the kernel. Gets a symbol table; gives functions.
 *
 * errno is read by the very next native call after the one that failed. Source: Bun's `bun:ffi`; `__errno_location` is
 * glibc's and musl's.
 */
import { dlopen, type FFIFunction, FFIType, read } from "bun:ffi";
import { NativeError } from "#errors.ts";

const names = ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"];

/** Opens `symbols` in the C library of this process. @throws NativeError "native.open" */
export function openLibc<Symbols extends Record<string, FFIFunction>>(symbols: Symbols) {
  let last: unknown;
  for (const name of names) {
    try {
      return dlopen(name, symbols).symbols;
    } catch (error) {
      last = error;
    }
  }
  throw new NativeError("native.open", "the C library of this machine cannot be opened", {}, last);
}

const errnoPlace = openLibc({ __errno_location: { args: [], returns: FFIType.ptr } });

/** errno of the native call just before. */
export function errno(): number {
  const place = errnoPlace.__errno_location();
  return place === null ? 0 : read.i32(place, 0);
}

/** A buffer whose address never moves: small typed arrays do until their ArrayBuffer exists. */
export const fixedBytes = (lengthBytes: number): Uint8Array<ArrayBuffer> =>
  new Uint8Array(new ArrayBuffer(lengthBytes));
