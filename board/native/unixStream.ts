// SPDX-License-Identifier: Apache-2.0
/**
 * Unix stream sockets that carry descriptors, for blocking use in a Worker. Gets paths; gives bytes, exactly as many as
 * asked for, and descriptors that came with them.
 *
 * Bun's own sockets read ahead and lose a descriptor, so these are native from birth. Every call blocks, at most for its
 * deadline. `shutDown` may be called from another thread: it ends whatever the owner waits for. Source: unix(7), recv(2),
 * cmsg(3); LP64 on both architectures:
 *
 *     msghdr (56)  0 name  8 namelen  16 iov  24 iovlen  32 control  40 controllen  48 flags
 *     cmsghdr (16) 0 length u64  8 level i32  12 type i32, then the descriptor
 */
import { FFIType, ptr } from "bun:ffi";
import { NativeError } from "#errors.ts";
import { errno, fixedBytes, openLibc } from "./libc.ts";

const { i32, i64_fast: i64, ptr: pointer, u64_fast: u64 } = FFIType;
const libc = openLibc({
  socket: { args: [i32, i32, i32], returns: i32 },
  bind: { args: [i32, pointer, i32], returns: i32 },
  listen: { args: [i32, i32], returns: i32 },
  accept4: { args: [i32, pointer, pointer, i32], returns: i32 },
  connect: { args: [i32, pointer, i32], returns: i32 },
  recv: { args: [i32, pointer, u64, i32], returns: i64 },
  send: { args: [i32, pointer, u64, i32], returns: i64 },
  recvmsg: { args: [i32, pointer, i32], returns: i64 },
  sendmsg: { args: [i32, pointer, i32], returns: i64 },
  poll: { args: [pointer, u64, i32], returns: i32 },
  getsockopt: { args: [i32, i32, i32, pointer, pointer], returns: i32 },
  shutdown: { args: [i32, i32], returns: i32 },
  close: { args: [i32], returns: i32 },
});

const [afUnix, sockStream, sockCloexec] = [1, 1, 0o2000000];
const [solSocket, scmRights, soPeercred] = [1, 1, 17];
const [msgCtrunc, msgNosignal, msgCmsgCloexec, msgDontwait] = [0x8, 0x4000, 0x4000_0000, 0x40];
const [pollIn, pollOut] = [1, 4];
const [eintr, eagain, epipe, econnreset, enoent, econnrefused] = [4, 11, 32, 104, 2, 111];
const pathBytesMax = 107;
const [messageBytes, controlBytes] = [56, 24];

/** What a wait ended with. */
export type Ready = { readonly readable: readonly boolean[] };

export class UnixStream implements Disposable {
  readonly #message = fixedBytes(messageBytes);
  readonly #control = fixedBytes(controlBytes);
  readonly #vector = fixedBytes(16);
  #fd: number;

  /** Owns the descriptor. */
  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Null where nobody listens there yet. @throws NativeError native.call */
  static connect(path: string): UnixStream | null {
    const fd = newSocket();
    if (libc.connect(fd, addressOf(path), pathBytesMax + 3) === 0) return new UnixStream(fd);
    const code = errno();
    libc.close(fd);
    if (code === enoent || code === econnrefused) return null;
    throw new NativeError("native.call", `cannot connect to ${path}`, { errno: code });
  }

  /** Its number in this process, for `shutDown` by another thread. */
  get descriptor(): number {
    return this.#fd;
  }

  /** The process at the other end, as the kernel knows it. @throws NativeError native.call */
  get peerPid(): number {
    const [found, length] = [fixedBytes(12), fixedBytes(4)];
    length[0] = 12;
    if (libc.getsockopt(this.#fd, solSocket, soPeercred, found, length) !== 0) throw failed("ask who is at a socket");
    return new DataView(found.buffer).getInt32(0, true);
  }

  /** Fills `bytes`. @throws NativeError native.closed, native.timeout, native.call */
  read(bytes: Uint8Array, timeoutMs: number): void {
    let at = 0;
    while (at < bytes.length) {
      const got = this.readNow(at === 0 ? bytes : bytes.subarray(at));
      if (got > 0) at += got;
      else if (got < 0) throw new NativeError("native.closed", "the peer has closed the connection");
      else this.#await(pollIn, timeoutMs);
    }
  }

  /** What is there already, without waiting: a number of bytes, 0 for nothing, -1 where the peer has hung up. */
  readNow(bytes: Uint8Array): number {
    const got = Number(libc.recv(this.#fd, bytes, bytes.length, msgDontwait));
    if (got > 0) return got;
    if (got === 0) return -1;
    const code = errno();
    if (isInterrupted(code)) return 0;
    if (code === econnreset) return -1;
    throw failed("read from a socket", code);
  }

  /** True once something can be read, or the peer has hung up; false at the deadline. */
  awaitReadable(timeoutMs: number): boolean {
    return pollAll([this.#fd], pollIn, timeoutMs)[0]! !== 0;
  }

  /** @throws NativeError native.closed, native.timeout, native.call */
  write(bytes: Uint8Array, timeoutMs: number): void {
    let at = 0;
    while (at < bytes.length) {
      const rest = at === 0 ? bytes : bytes.subarray(at);
      const sent = Number(libc.send(this.#fd, rest, bytes.length - at, msgNosignal | msgDontwait));
      if (sent >= 0) at += sent;
      else {
        const code = errno();
        if (!isInterrupted(code)) throw failed("write to a socket", code);
        this.#await(pollOut, timeoutMs);
      }
    }
  }

  /** Reads exactly `bytes` and the one descriptor that comes with them. @throws NativeError; native.layout where it is missing */
  readWithDescriptor(bytes: Uint8Array, timeoutMs: number): number {
    this.#await(pollIn, timeoutMs);
    this.#prepare(bytes);
    const got = Number(libc.recvmsg(this.#fd, this.#message, msgCmsgCloexec));
    if (got < 0) throw failed("read a descriptor from a socket");
    if (got === 0) throw new NativeError("native.closed", "the peer has closed the connection");
    const [message, control] = [new DataView(this.#message.buffer), new DataView(this.#control.buffer)];
    const came = Number(message.getBigUint64(40, true)) >= 20;
    const isOne = control.getBigUint64(0, true) === 20n && control.getInt32(8, true) === solSocket;
    const fd = came && isOne && control.getInt32(12, true) === scmRights ? control.getInt32(16, true) : -1;
    const truncated = (message.getInt32(48, true) & msgCtrunc) !== 0;
    if (fd >= 0 && !truncated && got === bytes.length) return fd;
    if (fd >= 0) libc.close(fd);
    throw new NativeError("native.layout", `${got} bytes came ${truncated ? "with too many" : "without a"} descriptor`);
  }

  /** @throws NativeError */
  writeWithDescriptor(bytes: Uint8Array, fd: number, timeoutMs: number): void {
    this.#await(pollOut, timeoutMs);
    this.#prepare(bytes);
    const control = new DataView(this.#control.buffer);
    control.setBigUint64(0, 20n, true);
    control.setInt32(8, solSocket, true);
    control.setInt32(12, scmRights, true);
    control.setInt32(16, fd, true);
    const sent = Number(libc.sendmsg(this.#fd, this.#message, msgNosignal));
    if (sent === bytes.length) return;
    if (sent < 0) throw failed("send a descriptor");
    throw new NativeError("native.call", `only ${sent} of ${bytes.length} bytes were sent with a descriptor`);
  }

  /** Nothing more is sent or taken; the peer sees the end. */
  finish(): void {
    if (this.#fd >= 0) shutDown(this.#fd);
  }

  [Symbol.dispose](): void {
    if (this.#fd >= 0) libc.close(this.#fd);
    this.#fd = -1;
  }

  #prepare(bytes: Uint8Array): void {
    const [vector, message] = [new DataView(this.#vector.buffer), new DataView(this.#message.buffer)];
    this.#control.fill(0);
    this.#message.fill(0);
    vector.setBigUint64(0, BigInt(ptr(bytes)), true);
    vector.setBigUint64(8, BigInt(bytes.length), true);
    message.setBigUint64(16, BigInt(ptr(this.#vector)), true);
    message.setBigUint64(24, 1n, true);
    message.setBigUint64(32, BigInt(ptr(this.#control)), true);
    message.setBigUint64(40, BigInt(controlBytes), true);
  }

  #await(what: number, timeoutMs: number): void {
    if (pollAll([this.#fd], what, timeoutMs)[0]! !== 0) return;
    throw new NativeError("native.timeout", `the peer was silent for ${timeoutMs} ms`);
  }
}

export class UnixListener implements Disposable {
  readonly #fd: number;

  /** Binds `path`, which must not exist. @throws NativeError native.call */
  constructor(readonly path: string) {
    this.#fd = newSocket();
    if (libc.bind(this.#fd, addressOf(path), pathBytesMax + 3) === 0 && libc.listen(this.#fd, 4) === 0) return;
    const failure = failed(`listen at ${path}`);
    libc.close(this.#fd);
    throw failure;
  }

  /** @throws NativeError native.timeout, native.call */
  accept(timeoutMs: number): UnixStream {
    if (pollAll([this.#fd], pollIn, timeoutMs)[0] === 0) {
      throw new NativeError("native.timeout", `nobody has connected to ${this.path} within ${timeoutMs} ms`);
    }
    const fd = libc.accept4(this.#fd, null, null, sockCloexec);
    if (fd < 0) throw failed(`accept at ${this.path}`);
    return new UnixStream(fd);
  }

  [Symbol.dispose](): void {
    libc.close(this.#fd);
  }
}

/** Waits until one of them can be read, or has ended. All false at the deadline. */
export function readableOf(streams: readonly { readonly descriptor: number }[], timeoutMs: number): boolean[] {
  const fds = streams.map(({ descriptor }) => descriptor);
  return pollAll(fds, pollIn, timeoutMs).map((events) => events !== 0);
}

/** Ends both directions of another thread's connection: whatever it waits for returns at once. */
export function shutDown(descriptor: number): void {
  libc.shutdown(descriptor, 2);
}

/** Closes a descriptor that came through a socket and nobody owns. */
export function closeDescriptor(descriptor: number): void {
  libc.close(descriptor);
}

function pollAll(fds: readonly number[], what: number, timeoutMs: number): number[] {
  const asked = fixedBytes(fds.length * 8);
  const view = new DataView(asked.buffer);
  fds.forEach((fd, index) => {
    view.setInt32(index * 8, fd, true);
    view.setInt16(index * 8 + 4, what, true);
  });
  // A signal that cuts a wait short starts it anew: deadlines here are far longer than signals are frequent.
  while (libc.poll(asked, fds.length, Math.ceil(timeoutMs)) < 0) {
    const code = errno();
    if (code !== eintr) throw failed("wait for a socket", code);
  }
  return fds.map((_, index) => view.getInt16(index * 8 + 6, true));
}

const isInterrupted = (code: number): boolean => code === eintr || code === eagain;

function failed(tried: string, code = errno()): NativeError {
  const gone = code === epipe || code === econnreset;
  const message = gone ? `the peer has hung up: cannot ${tried}` : `cannot ${tried}`;
  return new NativeError(gone ? "native.closed" : "native.call", message, { errno: code });
}

function newSocket(): number {
  const fd = libc.socket(afUnix, sockStream | sockCloexec, 0);
  if (fd < 0) throw failed("make a socket");
  return fd;
}

function addressOf(path: string): Uint8Array {
  const bytes = Buffer.from(path);
  if (bytes.length > pathBytesMax) {
    throw new NativeError("native.call", `${path} is too long for a socket`, { bytes: bytes.length, errno: 36 });
  }
  const address = fixedBytes(pathBytesMax + 3);
  new DataView(address.buffer).setUint16(0, afUnix, true);
  address.set(bytes, 2);
  return address;
}
