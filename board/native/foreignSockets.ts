// SPDX-License-Identifier: Apache-2.0
/**
 * The sockets of another process, looked at through duplicates of its descriptors. Gets a pid and descriptor numbers;
 * gives what the kernel knows of each connection. Nothing is changed and the process is not stopped.
 *
 * Source: pidfd_open(2) and pidfd_getfd(2), Linux 5.6 or later, numbers 434 and 438 on both architectures; tcp(7) and
 * `struct tcp_info` of `include/uapi/linux/tcp.h`:
 *
 *     offset 0  u8   tcpi_state            offset 52  u32  tcpi_last_data_recv, ms
 *     offset 44 u32  tcpi_last_data_sent   offset 128 u64  tcpi_bytes_received
 *     offset 152 u32  tcpi_data_segs_in        offset 156 u32  tcpi_data_segs_out (Linux 4.6)
 *     offset 200 u64  tcpi_bytes_sent (Linux 4.19)
 *
 * The kernel counts the two times in ticks of 1 to 10 ms. Each look costs five short system calls, about 2 µs in all.
 */
import { FFIType } from "bun:ffi";
import { NativeError } from "#errors.ts";
import { errno, fixedBytes, openLibc } from "./libc.ts";

const { i32, i64_fast: i64, ptr, u64_fast: u64 } = FFIType;
const libc = openLibc({
  syscall: { args: [i64, i64, i64, i64], returns: i64 },
  close: { args: [i32], returns: i32 },
  getsockopt: { args: [i32, i32, i32, ptr, ptr], returns: i32 },
  getpeername: { args: [i32, ptr, ptr], returns: i32 },
  getsockname: { args: [i32, ptr, ptr], returns: i32 },
  ioctl: { args: [i32, u64, ptr], returns: i32 },
});

const [pidfdOpen, pidfdGetfd] = [434, 438];
const [solSocket, soType, soAcceptconn, ipprotoTcp, tcpStateOption] = [1, 3, 30, 6, 11];
const streamSocket = 1;
const fionread = 0x541b;
const [afUnix, afInet, afInet6] = [1, 2, 10];
const tcpStateBytes = 256;
/** An address of its family alone is no name. */
const familyBytes = 2;

export type ForeignSocket = {
  readonly fd: number;
  readonly family: "inet" | "inet6" | "unix";
  /** `ip:port`, `[ip]:port`, `unix:path`, or `unix:` for an unnamed peer. */
  readonly peer: string;
  /** Bytes that have arrived and were not read. */
  readonly unreadBytes: number;
  /** TCP only. */
  readonly tcp: {
    readonly lastReceivedMs: number;
    readonly lastSentMs: number;
    readonly bytesReceived: bigint;
    readonly bytesSent: bigint;
    /** Segments with data received, minus those sent. */
    readonly balance: number;
  } | null;
};

export class ForeignSockets implements Disposable {
  readonly #pidfd: number;
  readonly #word = fixedBytes(8);
  readonly #length = fixedBytes(8);
  readonly #info = fixedBytes(tcpStateBytes);
  readonly #name = fixedBytes(128);
  readonly #view = new DataView(this.#info.buffer);

  /** @throws NativeError "native.unsupported" on a kernel before 5.6, "native.call" where the process is gone or not ours */
  constructor(readonly pid: number) {
    this.#pidfd = Number(libc.syscall(pidfdOpen, pid, 0, 0));
    if (this.#pidfd >= 0) return;
    const code = errno();
    const what = code === 38 ? "native.unsupported" : "native.call";
    throw new NativeError(what, `cannot open process ${pid} to look at its sockets`, { errno: code });
  }

  /**
   * A client's connection behind `fd`; null where it is something else, listens, is gone, or may not be seen. A unix socket
   * without a name of its own was not accepted from anybody: a pair between processes of the program, or its own call.
   */
  look(fd: number): ForeignSocket | null {
    const own = Number(libc.syscall(pidfdGetfd, this.#pidfd, fd, 0));
    if (own < 0) return null;
    try {
      if (this.#option(own, soType) !== streamSocket || this.#option(own, soAcceptconn) !== 0) return null;
      const peer = this.#peer(own);
      if (peer === null || (peer.family === "unix" && !this.#isNamed(own))) return null;
      return { fd, ...peer, unreadBytes: this.#unread(own), tcp: peer.family === "unix" ? null : this.#tcp(own) };
    } finally {
      libc.close(own);
    }
  }

  /** The door at which a stream socket listens, or through which it came in: a port or a path; null for anything else. */
  door(fd: number): { readonly at: string; readonly listens: boolean } | null {
    const own = Number(libc.syscall(pidfdGetfd, this.#pidfd, fd, 0));
    if (own < 0) return null;
    try {
      if (this.#option(own, soType) !== streamSocket) return null;
      this.#length[0] = this.#name.length;
      if (libc.getsockname(own, this.#name, this.#length) !== 0 || this.#length[0] <= familyBytes) return null;
      const bound = describePeer(this.#name.subarray(0, this.#length[0]));
      if (bound === null) return null;
      // The same port may be listened at for all addresses.
      const at = bound.family === "unix" ? bound.peer : bound.peer.slice(bound.peer.lastIndexOf(":"));
      return { at, listens: this.#option(own, soAcceptconn) !== 0 };
    } finally {
      libc.close(own);
    }
  }

  [Symbol.dispose](): void {
    libc.close(this.#pidfd);
  }

  #option(own: number, option: number): number | null {
    this.#length[0] = 4;
    if (libc.getsockopt(own, solSocket, option, this.#word, this.#length) !== 0) return null;
    return new DataView(this.#word.buffer).getInt32(0, true);
  }

  #unread(own: number): number {
    return libc.ioctl(own, fionread, this.#word) === 0 ? new DataView(this.#word.buffer).getInt32(0, true) : 0;
  }

  #peer(own: number): Pick<ForeignSocket, "family" | "peer"> | null {
    this.#length[0] = this.#name.length;
    if (libc.getpeername(own, this.#name, this.#length) !== 0) return null;
    return describePeer(this.#name.subarray(0, this.#length[0]));
  }

  #isNamed(own: number): boolean {
    this.#length[0] = this.#name.length;
    return libc.getsockname(own, this.#name, this.#length) === 0 && this.#length[0] > familyBytes;
  }

  #tcp(own: number): ForeignSocket["tcp"] {
    new DataView(this.#length.buffer).setUint32(0, tcpStateBytes, true);
    this.#info.fill(0);
    if (libc.getsockopt(own, ipprotoTcp, tcpStateOption, this.#info, this.#length) !== 0) return null;
    return {
      lastSentMs: this.#view.getUint32(44, true),
      lastReceivedMs: this.#view.getUint32(52, true),
      bytesReceived: this.#view.getBigUint64(128, true),
      bytesSent: this.#view.getBigUint64(200, true),
      balance: this.#view.getUint32(152, true) - this.#view.getUint32(156, true),
    };
  }
}

/** A `struct sockaddr` in words; null for a family that is no client connection. */
export function describePeer(name: Uint8Array): Pick<ForeignSocket, "family" | "peer"> | null {
  if (name.length < 2) return null;
  const family = name[0]! | (name[1]! << 8);
  const port = name.length >= 4 ? (name[2]! << 8) | name[3]! : 0;
  if (family === afInet && name.length >= 8)
    return { family: "inet", peer: `${name.subarray(4, 8).join(".")}:${port}` };
  if (family === afInet6 && name.length >= 24) {
    const groups = Array.from({ length: 8 }, (_, group) => (name[8 + 2 * group]! << 8) | name[9 + 2 * group]!);
    return { family: "inet6", peer: `[${shortest(groups)}]:${port}` };
  }
  if (family === afUnix)
    return {
      family: "unix",
      peer: `unix:${new TextDecoder().decode(name.subarray(2)).replace(/\0+$/, "").replaceAll("\0", "@")}`,
    };
  return null;
}

/** RFC 5952: the longest run of zero groups becomes `::`; an IPv4 address inside IPv6 is written as one. */
function shortest(groups: readonly number[]): string {
  const isMapped = groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff;
  if (isMapped) return `::ffff:${[groups[6]! >> 8, groups[6]! & 255, groups[7]! >> 8, groups[7]! & 255].join(".")}`;
  let best = { from: -1, length: 1 };
  for (let from = 0; from < 8; from += 1) {
    let length = 0;
    while (from + length < 8 && groups[from + length] === 0) length += 1;
    if (length > best.length) best = { from, length };
  }
  const text = (part: readonly number[]): string => part.map((group) => group.toString(16)).join(":");
  return best.from < 0
    ? text(groups)
    : `${text(groups.slice(0, best.from))}::${text(groups.slice(best.from + best.length))}`;
}
