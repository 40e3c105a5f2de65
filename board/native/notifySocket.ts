// SPDX-License-Identifier: Apache-2.0
/**
 * Words to the service manager: one datagram each, to the unix socket that it named. Gets the socket's name; gives a sender.
 * Never blocks: a full socket refuses, and that is told.
 *
 * Source: sd_notify(3); unix(7): `struct sockaddr_un`, u16 family 1, then the path, at most 108 bytes; `@` at its beginning
 * stands for the zero byte of an abstract name.
 */
import { FFIType } from "bun:ffi";
import { NativeError } from "#errors.ts";
import { errno, fixedBytes, openLibc } from "./libc.ts";

const { i32, i64_fast: i64, ptr, u64_fast: u64, u32 } = FFIType;
const libc = openLibc({
  socket: { args: [i32, i32, i32], returns: i32 },
  sendto: { args: [i32, ptr, u64, i32, ptr, u32], returns: i64 },
  close: { args: [i32], returns: i32 },
});
const [unixFamily, datagram, closeOnExec] = [1, 2, 0o2000000];
const [dontWait, noSignal] = [0x40, 0x4000];
const familyBytes = 2;
const pathBytesMax = 107;

export class NotifySocket implements Disposable {
  readonly #file: number;
  readonly #address: Uint8Array<ArrayBuffer>;

  /** @throws NativeError native.call, native.unsupported for a name that is too long or of another kind */
  constructor(name: string) {
    const path = new TextEncoder().encode(name);
    if (path.length > pathBytesMax || !/^[/@]/.test(name)) {
      throw new NativeError("native.unsupported", `${JSON.stringify(name)} names no unix socket of a service manager`);
    }
    this.#address = fixedBytes(familyBytes + path.length + (name.startsWith("@") ? 0 : 1));
    this.#address[0] = unixFamily;
    this.#address.set(path, familyBytes);
    if (name.startsWith("@")) this.#address[familyBytes] = 0;
    this.#file = libc.socket(unixFamily, datagram | closeOnExec, 0);
    if (this.#file < 0) throw new NativeError("native.call", "cannot make a unix socket", { errno: errno() });
  }

  /** 0, or the errno of the kernel. */
  send(text: string): number {
    const words = new TextEncoder().encode(text);
    const bytes = fixedBytes(words.length);
    bytes.set(words);
    const sent = libc.sendto(this.#file, bytes, bytes.length, dontWait | noSignal, this.#address, this.#address.length);
    return Number(sent) === bytes.length ? 0 : errno();
  }

  [Symbol.dispose](): void {
    libc.close(this.#file);
  }
}
