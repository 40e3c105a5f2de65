// SPDX-License-Identifier: Apache-2.0
/**
 * A file in memory that another process maps: how a guest's memory is read and filled without a mapping of our own.
 *
 * Each `write` is one pwrite, which holds the page's lock: a guest that maps the file sees a page of it whole or not at all
 * as long as the write is one aligned page. Holes are never made by reading. Blocks only as memory does. Source:
 * memfd_create(2), lseek(2) SEEK_DATA and SEEK_HOLE, Linux 3.17.
 */
import { FFIType } from "bun:ffi";
import { closeSync, fstatSync, ftruncateSync } from "node:fs";
import { NativeError } from "#errors.ts";
import { errno, openLibc } from "./libc.ts";

const { cstring, i32, i64_fast: i64, ptr, u32, u64_fast: u64 } = FFIType;
const libc = openLibc({
  memfd_create: { args: [cstring, u32], returns: i32 },
  pread: { args: [i32, ptr, u64, i64], returns: i64 },
  pwrite: { args: [i32, ptr, u64, i64], returns: i64 },
  lseek: { args: [i32, i64, i32], returns: i64 },
});

const cloexec = 1;
const [seekData, seekHole] = [3, 4];
const [enxio, eintr, enospc, enomem] = [6, 4, 28, 12];

export class MemoryFile implements Disposable {
  /** Owns the descriptor. */
  constructor(readonly descriptor: number) {}

  /** A new one, all holes. @throws NativeError */
  static create(name: string, bytes: number): MemoryFile {
    const fd = libc.memfd_create(Buffer.from(`${name}\0`), cloexec);
    if (fd < 0) throw new NativeError("native.call", "cannot make a memory file", { errno: errno() });
    ftruncateSync(fd, bytes);
    return new MemoryFile(fd);
  }

  get bytes(): number {
    return fstatSync(this.descriptor).size;
  }

  /** What really takes up memory. */
  get residentBytes(): number {
    return fstatSync(this.descriptor).blocks * 512;
  }

  /** Fills `buffer` from `offset` on; holes read as zeros and stay holes. @throws NativeError native.call */
  read(offset: number, buffer: Uint8Array): void {
    let at = 0;
    while (at < buffer.length) {
      const into = at === 0 ? buffer : buffer.subarray(at);
      const got = Number(libc.pread(this.descriptor, into, into.length, offset + at));
      if (got > 0) at += got;
      else this.#fail("read", offset + at, got === 0 ? 0 : errno());
    }
  }

  /** @throws NativeError native.memoryFull where no memory is to be had */
  write(offset: number, bytes: Uint8Array): void {
    const put = Number(libc.pwrite(this.descriptor, bytes, bytes.length, offset));
    if (put === bytes.length) return;
    const code = put < 0 ? errno() : enospc;
    if (code === eintr) this.write(offset, bytes);
    else this.#fail("write", offset, code);
  }

  /** The next part with content at or after `offset`; null where there is none. */
  nextData(offset: number, limit: number): { readonly from: number; readonly to: number } | null {
    const from = Number(libc.lseek(this.descriptor, offset, seekData));
    if (from < 0) {
      const code = errno();
      if (code === enxio) return null;
      return this.#fail("look for content in", offset, code);
    }
    if (from >= limit) return null;
    const to = Number(libc.lseek(this.descriptor, from, seekHole));
    return { from, to: to < 0 ? limit : Math.min(to, limit) };
  }

  [Symbol.dispose](): void {
    closeSync(this.descriptor);
  }

  #fail(tried: string, offset: number, code: number): never {
    const full = code === enospc || code === enomem;
    const message = `cannot ${tried} guest memory${full ? ": no memory is to be had" : ""}`;
    throw new NativeError(full ? "native.memoryFull" : "native.call", message, { offset, errno: code });
  }
}
