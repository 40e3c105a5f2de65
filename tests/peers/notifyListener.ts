// SPDX-License-Identifier: Apache-2.0
/** A service manager as its services see it: a unix datagram socket, abstract or a file, that keeps what was said to it. */
import { dlopen, FFIType } from "bun:ffi";
import { rmSync } from "node:fs";

const { i32, i64_fast: i64, ptr, u64_fast: u64, u32 } = FFIType;
const libc = dlopen("libc.so.6", {
  socket: { args: [i32, i32, i32], returns: i32 },
  bind: { args: [i32, ptr, u32], returns: i32 },
  recv: { args: [i32, ptr, u64, i32], returns: i64 },
  close: { args: [i32], returns: i32 },
}).symbols;
const dontWait = 0x40;

export class NotifyListener implements Disposable {
  readonly #file: number;

  constructor(readonly name: string) {
    this.#file = libc.socket(1, 2, 0);
    const path = Buffer.from(name.startsWith("@") ? `\0${name.slice(1)}` : `${name}\0`);
    const address = new Uint8Array(new ArrayBuffer(2 + path.length));
    address[0] = 1;
    address.set(path, 2);
    if (libc.bind(this.#file, address, address.length) !== 0) throw new TypeError(`cannot bind ${name}`);
  }

  /** What was said since the last time, one text a datagram. */
  heard(): string[] {
    const texts: string[] = [];
    const bytes = new Uint8Array(new ArrayBuffer(4096));
    for (;;) {
      const length = Number(libc.recv(this.#file, bytes, bytes.length, dontWait));
      if (length < 0) return texts;
      texts.push(Buffer.from(bytes.subarray(0, length)).toString());
    }
  }

  [Symbol.dispose](): void {
    libc.close(this.#file);
    if (!this.name.startsWith("@")) rmSync(this.name, { force: true });
  }
}
