// SPDX-License-Identifier: Apache-2.0
/**
 * Files as a stub sees them, memory and the target description, read without stopping anything; and memory, written.
 *
 * A file is read with vFile: the stub's own `/proc`, which inside a guest is the guest's. Limits: `fileBytesMax`.
 * Source: GDB manual, "Host I/O Packets"; gdbserver 13 measured (`m` works on a running thread after `Hg`).
 */
import { GdbError } from "#errors.ts";
import type { VirtualAddress } from "#fault.ts";
import type { GdbConnection } from "./connection.ts";
import { errorReply, type FileReply, parseFileReply, parseHexBytes, parseThreads, type ThreadId } from "./messages.ts";
import { type RegisterLayout, readDescription } from "./registers.ts";

export const fileBytesMax = 16 * 1024 * 1024;
const filePieceBytes = 0x2000;
/** What File-I/O has no word for. In /proc it is ESRCH: the process or thread has ended since the file was opened. */
const fileErrorUnknown = 9_999;
const memoryPieceBytes = 0x1000;

/** null where the file cannot be opened, and for a file of /proc whose process has ended. */
export async function readStubFile(
  connection: GdbConnection,
  path: string,
  signal?: AbortSignal,
): Promise<Uint8Array | null> {
  const ask = async (packet: string): Promise<FileReply> => {
    const [reply = ""] = await connection.request([packet], { signal });
    return parseFileReply(reply);
  };
  const opened = await ask(`vFile:open:${Buffer.from(path).toHex()},0,0`);
  if (opened.kind === "failed") return null;
  const file = opened.result.toString(16);
  try {
    const pieces: Uint8Array[] = [];
    for (let length = 0; length <= fileBytesMax; ) {
      const piece = await ask(`vFile:pread:${file},${filePieceBytes.toString(16)},${length.toString(16)}`);
      if (piece.kind === "failed") {
        if (piece.errno === fileErrorUnknown && path.startsWith("/proc/")) return null;
        throw new GdbError("gdb.refused", `reading ${path} failed`, { errno: piece.errno });
      }
      if (piece.bytes.length === 0) return joinBytes(pieces);
      pieces.push(piece.bytes);
      length += piece.bytes.length;
    }
    throw new GdbError("gdb.message", `${path} is longer than ${fileBytesMax} bytes`);
  } finally {
    if (connection.lost === null) await connection.request([`vFile:close:${file}`]);
  }
}

/** What each path leads to; null where it is no symbolic link, or is not there. */
export async function readStubLinks(
  connection: GdbConnection,
  paths: readonly string[],
  signal?: AbortSignal,
): Promise<(string | null)[]> {
  if (paths.length === 0) return [];
  const packets = paths.map((path) => `vFile:readlink:${Buffer.from(path).toHex()}`);
  return (await connection.request(packets, { signal })).map((reply) => {
    const link = parseFileReply(reply);
    return link.kind === "failed" ? null : Buffer.from(link.bytes).toString("utf8");
  });
}

/** Shorter where unmapped memory begins. */
export async function readStubMemory(
  connection: GdbConnection,
  thread: ThreadId,
  from: VirtualAddress,
  lengthBytes: number,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const sizes: number[] = [];
  for (let left = lengthBytes; left > 0; left -= memoryPieceBytes) sizes.push(Math.min(left, memoryPieceBytes));
  if (sizes.length === 0) return new Uint8Array(0);
  const packets = sizes.map((size, index) => {
    const at = BigInt.asUintN(64, from + BigInt(index * memoryPieceBytes));
    return `m${at.toString(16)},${size.toString(16)}`;
  });
  const pieces: Uint8Array[] = [];
  for (const [index, reply] of (await connection.request(packets, { thread, signal })).entries()) {
    if (errorReply(reply) !== null) break;
    const piece = parseHexBytes(reply);
    if (piece.length > sizes[index]!) throw new GdbError("gdb.message", "the stub sent more memory than was asked for");
    pieces.push(piece);
    if (piece.length < sizes[index]!) break;
  }
  return joinBytes(pieces);
}

/** @throws GdbError "gdb.refused" where it cannot be written */
export async function writeStubMemory(
  connection: GdbConnection,
  thread: ThreadId,
  at: VirtualAddress,
  bytes: Uint8Array,
  signal?: AbortSignal,
): Promise<void> {
  const packet = `M${at.toString(16)},${bytes.length.toString(16)}:${Buffer.from(bytes).toHex()}`;
  const [reply = ""] = await connection.request([packet], { thread, signal });
  if (reply === "OK") return;
  throw new GdbError("gdb.refused", `the stub did not write ${bytes.length} bytes`, { at, reply });
}

/** All threads of one process. */
export async function readThreads(
  connection: GdbConnection,
  pid: number,
  signal?: AbortSignal,
): Promise<{ thread: ThreadId; name: string }[]> {
  const all = parseThreads(await connection.xfer("threads:read:", { signal }));
  return all.filter(({ thread }) => thread.pid === pid);
}

/** Where the registers of a process lie in `g`. */
export async function readLayout(
  connection: GdbConnection,
  pid: number,
  signal?: AbortSignal,
): Promise<RegisterLayout> {
  // gdbserver 13 aborts on this request when no thread was selected before (measured).
  const thread = { pid, tid: pid };
  const documents = new Map<string, string>();
  for (;;) {
    const description = readDescription(documents);
    if (description.kind === "layout") return description.layout;
    const { document } = description;
    documents.set(document, await connection.xfer(`features:read:${document}`, { thread, signal }));
  }
}

function joinBytes(pieces: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(pieces.reduce((length, piece) => length + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
