// SPDX-License-Identifier: Apache-2.0
/**
 * Duplicates of another process's descriptors: to ask whether there is something to read, or to keep a connection open that
 * the process gives up. Gets a pid and descriptor numbers; nothing of the process is changed and it is not stopped.
 *
 * A userfaultfd can be read while a fault waits for whoever serves them. Source: pidfd_open(2) and pidfd_getfd(2), Linux 5.6 or later, numbers 434 and 438 on both architectures; poll(2),
 * `struct pollfd { i32 fd; i16 events; i16 revents }`. A look costs three short system calls.
 */
import { FFIType } from "bun:ffi";
import { readdirSync, readlinkSync } from "node:fs";
import { NativeError } from "#errors.ts";
import { errno, fixedBytes, openLibc } from "./libc.ts";

const { i32, i64_fast: i64, ptr, u64_fast: u64 } = FFIType;
const libc = openLibc({
  syscall: { args: [i64, i64, i64, i64], returns: i64 },
  close: { args: [i32], returns: i32 },
  poll: { args: [ptr, u64, i32], returns: i32 },
});

const [pidfdOpen, pidfdGetfd] = [434, 438];
/** POLLIN and POLLRDHUP. */
const [readable, hungUp] = [0x1, 0x2000];

/** One duplicate that is ours. */
export type HeldDescriptor = Disposable & {
  readonly descriptor: number;
  /** Whether the other end of a connection has closed it. */
  isHungUp(): boolean;
  readonly isOpen: boolean;
};

/** The userfaultfd of a process; null where it has none, or it is not ours to look at. */
export function holdPageFaults(pid: number): HeldDescriptor | null {
  try {
    const all = `/proc/${pid}/fd`;
    const number = readdirSync(all).find((name) => linkOf(`${all}/${name}`) === "anon_inode:[userfaultfd]");
    if (number === undefined) return null;
    using descriptors = new ForeignDescriptors(pid);
    return descriptors.hold(Number(number));
  } catch {
    // It is ending, or of another user: whoever asks does without.
    return null;
  }
}

function linkOf(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch {
    // Closed since it was listed.
    return null;
  }
}

export class ForeignDescriptors implements Disposable {
  readonly #pidfd: number;
  readonly #poll = fixedBytes(8);
  readonly #view = new DataView(this.#poll.buffer);

  /** @throws NativeError "native.unsupported" on a kernel before 5.6, "native.call" where the process is gone or not ours */
  constructor(readonly pid: number) {
    this.#pidfd = Number(libc.syscall(pidfdOpen, pid, 0, 0));
    if (this.#pidfd >= 0) return;
    const code = errno();
    const what = code === 38 ? "native.unsupported" : "native.call";
    throw new NativeError(what, `cannot open process ${pid} to look at its descriptors`, { errno: code });
  }

  /** Whether a read (of a multiplexer: a wait) would find something at once; null where there is no such descriptor. */
  isReadable(fd: number): boolean | null {
    const own = this.#duplicate(fd);
    if (own === null) return null;
    try {
      return (this.#events(own, readable) & readable) !== 0;
    } finally {
      libc.close(own);
    }
  }

  /** Keeps what is behind `fd` open until the result is disposed of; null where there is no such descriptor. */
  hold(fd: number): HeldDescriptor | null {
    const own = this.#duplicate(fd);
    if (own === null) return null;
    let open = true;
    return {
      descriptor: own,
      get isOpen() {
        return open;
      },
      isHungUp: () => open && this.#events(own, hungUp) !== 0,
      [Symbol.dispose]: () => {
        if (open) libc.close(own);
        open = false;
      },
    };
  }

  [Symbol.dispose](): void {
    libc.close(this.#pidfd);
  }

  #duplicate(fd: number): number | null {
    const own = Number(libc.syscall(pidfdGetfd, this.#pidfd, fd, 0));
    return own < 0 ? null : own;
  }

  #events(own: number, wanted: number): number {
    this.#view.setInt32(0, own, true);
    this.#view.setInt16(4, wanted, true);
    this.#view.setInt16(6, 0, true);
    return libc.poll(this.#poll, 1, 0) > 0 ? this.#view.getInt16(6, true) : 0;
  }
}
