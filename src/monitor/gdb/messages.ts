// SPDX-License-Identifier: Apache-2.0
/**
 * Messages of the GDB remote protocol: the text of a packet to a typed value, and requests to text.
 *
 * Decoders take any text and give a whole value or throw GdbError "gdb.message"; none keeps a part of a bad message.
 * Limits: `maxXferBytes` for one object read in pieces, numbers of at most 16 hex digits.
 * Source: GDB manual, appendix E (Stop Reply Packets, General Query Packets, Host I/O Packets); siginfo_t of
 * asm-generic/siginfo.h, the same on x86-64 and AArch64.
 */
import { ByteReader, fromHex } from "#bytes.ts";
import { GdbError } from "#errors.ts";
import { address, type SignalCause } from "#fault.ts";
import { unescapeBinary } from "./frame.ts";
import { signalName } from "./signals.ts";

/** A thread of a process, in the protocol's multiprocess form. `tid` -1: all threads of it. */
export type ThreadId = { readonly pid: number; readonly tid: number };

export type StopReply =
  | {
      readonly kind: "stopped";
      readonly thread: ThreadId;
      /** GDB's number; 0 where the stop was asked for. */
      readonly gdbSignal: number;
      readonly signal: string;
      /** Path of the new program where the stop is a completed exec, else null. */
      readonly execPath: string | null;
      /** The first thread of a process that this thread has just forked; `ended`: a vfork's child has let its parent go on. */
      readonly forked: ThreadId | "ended" | null;
    }
  | { readonly kind: "exited"; readonly pid: number; readonly code: number }
  | { readonly kind: "killed"; readonly pid: number; readonly signal: string }
  | { readonly kind: "threadExited"; readonly thread: ThreadId; readonly code: number }
  | { readonly kind: "noneResumed" };

/** What a stub says it can do: a number, yes, no, or only when asked. */
export type Features = ReadonlyMap<string, string | boolean>;

/** One piece of an object read with qXfer. */
export type XferPiece = { readonly last: boolean; readonly binary: string };

/** Largest object that is read with qXfer: a list of 10,000 threads is 600 kB. */
export const maxXferBytes = 4 * 1024 * 1024;
export const siginfoBytes = 128;

const malformed = (what: string, text: string): GdbError =>
  new GdbError("gdb.message", `${what} cannot be read from a reply of ${text.length} bytes`, {
    reply: text.slice(0, 80),
  });

/** Text of an error reply (`E01`, `E.reason`), else null. */
export function errorReply(text: string): string | null {
  if (/^E[0-9a-fA-F]{2}$/.test(text) || text.startsWith("E.")) return text;
  return null;
}

export const formatThread = ({ pid, tid }: ThreadId): string =>
  `p${pid.toString(16)}.${tid === -1 ? "-1" : tid.toString(16)}`;

const resumesPerPacket = 200;

/** Requests that let these threads run on, as few as fit. */
export function continueRequests(threads: readonly ThreadId[]): string[] {
  const packets: string[] = [];
  for (let from = 0; from < threads.length; from += resumesPerPacket) {
    const names = threads.slice(from, from + resumesPerPacket).map(formatThread);
    packets.push(`vCont${names.map((name) => `;c:${name}`).join("")}`);
  }
  return packets;
}

export function parseThread(text: string): ThreadId {
  const match = /^p([0-9a-f]{1,8})\.([0-9a-f]{1,8})$/.exec(text);
  if (match === null) throw malformed("a thread id", text);
  return { pid: Number.parseInt(match[1]!, 16), tid: Number.parseInt(match[2]!, 16) };
}

/** The body of `%Stop:`, or a reply to `vStopped` and `?` other than OK. */
export function parseStopReply(text: string): StopReply {
  switch (text[0]) {
    case "T":
      return parseStopped(text);
    case "W":
    case "X":
      return parseEnd(text);
    case "w": {
      const match = /^w([0-9a-f]{1,8});(p[0-9a-f.]+)$/.exec(text);
      if (match === null) throw malformed("the end of a thread", text);
      return { kind: "threadExited", thread: parseThread(match[2]!), code: Number.parseInt(match[1]!, 16) };
    }
    case "N":
      if (text === "N") return { kind: "noneResumed" };
  }
  throw malformed("a stop reply", text);
}

function parseStopped(text: string): StopReply {
  const match = /^T([0-9a-f]{2})(.*)$/s.exec(text);
  if (match === null) throw malformed("a stop", text);
  const gdbSignal = Number.parseInt(match[1]!, 16);
  let thread: ThreadId | null = null;
  let execPath: string | null = null;
  let forked: ThreadId | "ended" | null = null;
  for (const pair of match[2]!.split(";")) {
    const colon = pair.indexOf(":");
    if (colon < 0) continue;
    const value = pair.slice(colon + 1);
    if (pair.startsWith("thread:")) thread = parseThread(value);
    if (pair.startsWith("exec:")) execPath = hexText(value, text);
    if (pair.startsWith("fork:") || pair.startsWith("vfork:")) forked = parseThread(value);
    if (pair.startsWith("vforkdone:")) forked = "ended";
  }
  if (thread === null || thread.tid === 0) throw malformed("the thread of a stop", text);
  return { kind: "stopped", thread, gdbSignal, signal: signalName(gdbSignal), execPath, forked };
}

function parseEnd(text: string): StopReply {
  const match = /^([WX])([0-9a-f]{1,8});process:([0-9a-f]{1,8})$/.exec(text);
  if (match === null) throw malformed("the end of a process", text);
  const number = Number.parseInt(match[2]!, 16);
  const pid = Number.parseInt(match[3]!, 16);
  return match[1] === "W" ? { kind: "exited", pid, code: number } : { kind: "killed", pid, signal: signalName(number) };
}

function hexText(value: string, whole: string): string {
  try {
    return Buffer.from(fromHex(value)).toString("utf8");
  } catch {
    throw malformed("a path", whole);
  }
}

export function parseFeatures(text: string): Features {
  const features = new Map<string, string | boolean>();
  for (const item of text.split(";")) {
    const match = /^([A-Za-z][\w:.-]*?)(?:=(.*)|([+-]))$/s.exec(item);
    if (match !== null) features.set(match[1]!, match[2] ?? match[3] === "+");
  }
  if (!features.has("PacketSize")) throw malformed("the features of the stub", text);
  return features;
}

/** Largest packet the stub takes, bytes. */
export function packetBytes(features: Features): number {
  const value = Number.parseInt(String(features.get("PacketSize")), 16);
  if (!(value >= minPacketBytes)) throw malformed("the packet size", String(features.get("PacketSize")));
  return value;
}
const minPacketBytes = 256;

export function parseXfer(text: string): XferPiece {
  if (text[0] !== "m" && text[0] !== "l") throw malformed("a piece of an object", text);
  return { last: text[0] === "l", binary: unescapeBinary(text.slice(1)) };
}

/** siginfo_t: who sent the signal and why. */
export function parseSiginfo(text: string): SignalCause {
  const bytes = Buffer.from(parseXfer(text).binary, "latin1");
  if (bytes.length < siginfoUsedBytes) throw malformed("the cause of a signal", text);
  const reader = new ByteReader(bytes);
  const number = reader.i32();
  reader.position = 8;
  const code = reader.i32();
  reader.position = 16;
  const addressed = faultNumbers.has(number) && code > 0 && code !== kernelCode;
  const sent = sentCodes.has(code);
  const faultAddress = addressed ? address(reader.u64()) : null;
  return { number, code, faultAddress, senderPid: sent ? reader.i32() : null };
}
const siginfoUsedBytes = 24;
/** SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV carry si_addr. */
const faultNumbers: ReadonlySet<number> = new Set([4, 5, 7, 8, 11]);
/** SI_KERNEL: the kernel does not know the address (a wild pointer that is not canonical) and leaves 0 there. */
const kernelCode = 0x80;
/** SI_USER, SI_QUEUE, SI_MESGQ, SI_TKILL carry si_pid. */
const sentCodes: ReadonlySet<number> = new Set([0, -1, -3, -6]);

/** Bytes of memory, or of registers where all are known. */
export function parseHexBytes(text: string): Uint8Array<ArrayBuffer> {
  try {
    return fromHex(text);
  } catch {
    throw malformed("bytes in hex", text);
  }
}

/** The list of qXfer:threads:read. Names come from the program: they are text, nothing else. */
export function parseThreads(xml: string): { thread: ThreadId; name: string }[] {
  const threads: { thread: ThreadId; name: string }[] = [];
  if (!xml.includes("<threads>")) throw malformed("the list of threads", xml);
  for (const [, attributes] of xml.matchAll(/<thread\s([^<>]*)>/g)) {
    const id = /\bid="([^"]*)"/.exec(attributes!)?.[1];
    if (id === undefined) throw malformed("a thread of the list", xml);
    threads.push({ thread: parseThread(id), name: decodeEntities(/\bname="([^"]*)"/.exec(attributes!)?.[1] ?? "") });
  }
  return threads;
}

/** The list of qXfer:osdata:read:processes. */
export function parseProcesses(xml: string): { pid: number; user: string; command: string }[] {
  if (!xml.includes("<osdata")) throw malformed("the list of processes", xml);
  const items = xml.split("<item>").slice(1);
  return items.map((part) => {
    const item = part.split("</item>", 1)[0]!;
    const columns = new Map<string, string>();
    for (const [, name, value] of item.matchAll(/<column name="([a-z]{1,16})">([^<]*)<\/column>/g)) {
      columns.set(name!, decodeEntities(value!));
    }
    const pid = Number(columns.get("pid"));
    if (!Number.isSafeInteger(pid) || pid <= 0) throw malformed("a process of the list", item);
    return { pid, user: columns.get("user") ?? "", command: (columns.get("command") ?? "").trim() };
  });
}

const entities: ReadonlyMap<string, string> = new Map([
  ["lt", "<"],
  ["gt", ">"],
  ["amp", "&"],
  ["quot", '"'],
  ["apos", "'"],
]);
const decodeEntities = (text: string): string =>
  text.replace(/&(\w{2,4});/g, (all, name: string) => entities.get(name) ?? all);

/** Reply to a vFile request: a result, perhaps bytes; or the errno (of GDB's File-I/O table) it failed with. */
export type FileReply =
  | { readonly kind: "done"; readonly result: number; readonly bytes: Uint8Array }
  | { readonly kind: "failed"; readonly errno: number };

export function parseFileReply(text: string): FileReply {
  const match = /^F(-1|[0-9a-f]{1,8})(?:,([0-9a-f]{1,8}))?(?:;(.*))?$/s.exec(text);
  if (match === null) throw malformed("the result of a file request", text);
  if (match[1] === "-1") return { kind: "failed", errno: Number.parseInt(match[2] ?? "0", 16) };
  const result = Number.parseInt(match[1]!, 16);
  const bytes = Buffer.from(unescapeBinary(match[3] ?? ""), "latin1");
  if (match[3] !== undefined && bytes.length !== result) throw malformed("the bytes of a file", text);
  return { kind: "done", result, bytes };
}
