// SPDX-License-Identifier: Apache-2.0
/**
 * A pseudo terminal whose one end we hold, raw, as Cloud Hypervisor makes one for a serial port. Gives its path.
 *
 * Limits: Linux with glibc. Source: pts(4), termios(3); `struct termios` has 60 bytes on x86-64 and AArch64.
 */
import { dlopen, FFIType, ptr } from "bun:ffi";
import { closeSync, constants, openSync, writeSync } from "node:fs";
import { assert } from "#errors.ts";

const { symbols: libc } = dlopen("libc.so.6", {
  posix_openpt: { args: [FFIType.i32], returns: FFIType.i32 },
  grantpt: { args: [FFIType.i32], returns: FFIType.i32 },
  unlockpt: { args: [FFIType.i32], returns: FFIType.i32 },
  ptsname_r: { args: [FFIType.i32, FFIType.ptr, FFIType.u64], returns: FFIType.i32 },
  tcgetattr: { args: [FFIType.i32, FFIType.ptr], returns: FFIType.i32 },
  cfmakeraw: { args: [FFIType.ptr], returns: FFIType.void },
  tcsetattr: { args: [FFIType.i32, FFIType.i32, FFIType.ptr], returns: FFIType.i32 },
});
const termiosBytes = 60;

export class PeerTerminal {
  readonly path: string;
  readonly #master: number;

  constructor() {
    this.#master = libc.posix_openpt(constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK);
    const name = new Uint8Array(new ArrayBuffer(64));
    assert(libc.grantpt(this.#master) === 0 && libc.unlockpt(this.#master) === 0, "no pseudo terminal");
    assert(libc.ptsname_r(this.#master, ptr(name), 64n) === 0, "no name for the pseudo terminal");
    this.path = new TextDecoder().decode(name.subarray(0, name.indexOf(0)));
    const slave = openSync(this.path, constants.O_RDWR | constants.O_NOCTTY);
    const termios = new Uint8Array(new ArrayBuffer(termiosBytes * 2));
    libc.tcgetattr(slave, ptr(termios));
    libc.cfmakeraw(ptr(termios));
    libc.tcsetattr(slave, 0, ptr(termios));
    closeSync(slave);
  }

  /** Kept by the kernel until somebody reads it. */
  print(text: string): void {
    writeSync(this.#master, text);
  }

  close(): void {
    closeSync(this.#master);
  }
}
