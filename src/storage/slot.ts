// SPDX-License-Identifier: Apache-2.0
/**
 * One slot of the intent ring: 256 bytes, little-endian, checksummed. Gets the short form of an intent or of an outcome;
 * gives bytes, and back. A slot that is torn, empty or foreign reads as null, never as half a record.
 *
 *   0 u32 xxHash32 with this field 0  8 f64 sequence     16 f64 wall clock, ms
 *  24 u8 kind (1 intent, 2 outcome)  25 u8 edit or rung 26 u8 signal or verdict   27 u8 1 = the text was cut
 *  28 u32 pid or stopUs              32 u32 tid or probationMs
 *  40 u16 frame or reason            42 u16 instruction length
 *  44 u64 return value, address, or the mask of registers that become zero
 *  52 text, latin-1, lines: trial, then (intent) key of the decision, site, boundary, workload, or (outcome) evidence
 *
 * Writing is on the path of a stopped thread. It allocates nothing, so that no intent pays for the collector, and it is
 * loops of our own over one draft: calls into the runtime (text, fill, hash) cost little in a row, but 15 µs when their
 * code is cold, as it is at a fault (measured on x86-64, Bun 1.4.5, at 1 ms of idle before each: 31 µs with, 13 without).
 */

import { unreachable } from "#errors.ts";
import type {
  Decision,
  DeliverReason,
  Edit,
  FaultReport,
  FaultSignal,
  Outcome,
  Rung,
  Site,
  TrialId,
  Verdict,
} from "#fault.ts";
import { address, rungs } from "#fault.ts";

export const slotBytes = 256;
const slotWords = slotBytes / 4;

/** A slot while it is written: one piece of memory, seen as bytes, words and doubles (all machines of ours are little-endian). */
export class SlotDraft {
  readonly bytes = new Uint8Array(new ArrayBuffer(slotBytes));
  readonly words = new Int32Array(this.bytes.buffer);
  readonly doubles = new Float64Array(this.bytes.buffer);
  readonly view = new DataView(this.bytes.buffer);
}

/** What survives of an intent when we die before its report is written. */
export type IntentSlot = {
  readonly kind: "intent";
  readonly trial: TrialId;
  readonly atMs: number;
  readonly pid: number;
  readonly tid: number;
  readonly signal: FaultSignal;
  readonly edit: Edit;
  /** Decision.key. */
  readonly key: string;
  readonly site: Site;
  readonly workload: string;
};

/** What survives of an outcome. The session is left to the journal. */
export type OutcomeSlot = {
  readonly kind: "outcome";
  readonly trial: TrialId;
  readonly atMs: number;
  readonly rung: Rung;
  readonly verdict: Verdict;
  readonly stopUs: number;
  readonly probationMs: number;
  readonly evidence: string;
};
export type Slot = IntentSlot | OutcomeSlot;

const kinds = { intent: 1, outcome: 2 } as const;
const edits = ["abandon", "inward", "neutraliseZero", "neutraliseDrop", "deliver", "mend", "park", "leave"] as const;
const reasons: readonly DeliverReason[] = [
  "sentByProcess",
  "runtimeOwnsSignal",
  "notServing",
  "exhausted",
  "disabled",
  "raisedByHandler",
];
const verdicts: readonly Verdict[] = ["clean", "degraded", "failed"];
const signals: readonly FaultReport["signal"][] = [
  "SIGSEGV",
  "SIGBUS",
  "SIGFPE",
  "SIGILL",
  "SIGABRT",
  "SIGTRAP",
  "SIGSYS",
  "SIGSTOP",
];
/** Looked up, not searched for: a search reads each name, and at a fault none of them is in a cache. */
const signalNumbers = new Map(signals.map((signal, number) => [signal, number]));
const textAt = 52;
const shortMax = 0xffff;
const wordMax = 0xffffffff;
const lineEnd = 0x0a;

/** What an intent slot takes from a report and from a decision. */
export type IntentFacts = Pick<FaultReport, "pid" | "tid" | "signal" | "site" | "workload">;
export type IntentChoice = Pick<Decision, "trial" | "edit" | "key">;
export type OutcomeFacts = Pick<Outcome, "trial" | "rung" | "verdict" | "stopUs" | "probationMs" | "evidence">;

/** Writes an intent over all of `into`. */
export function encodeIntent(
  into: SlotDraft,
  sequence: number,
  facts: IntentFacts,
  choice: IntentChoice,
  atMs: number,
): void {
  begin(into, sequence, kinds.intent, atMs);
  into.bytes[26] = signalNumbers.get(facts.signal)!;
  into.words[7] = Math.min(facts.pid, wordMax);
  into.words[8] = Math.min(facts.tid, wordMax);
  writeEdit(into, choice.edit);
  let at = writeLine(into.bytes, textAt, choice.trial);
  at = writeLine(into.bytes, at, choice.key);
  at = writeLine(into.bytes, at, facts.site.fault);
  at = writeLine(into.bytes, at, facts.site.boundary);
  writeLine(into.bytes, at, facts.workload);
  into.words[0] = checksumOf(into.words);
}

/** Writes an outcome over all of `into`. */
export function encodeOutcome(into: SlotDraft, sequence: number, outcome: OutcomeFacts, atMs: number): void {
  begin(into, sequence, kinds.outcome, atMs);
  into.bytes[25] = rungs.indexOf(outcome.rung);
  into.bytes[26] = verdicts.indexOf(outcome.verdict);
  into.words[7] = Math.max(0, Math.min(Math.round(outcome.stopUs), wordMax));
  into.words[8] = Math.max(0, Math.min(Math.round(outcome.probationMs), wordMax));
  writeLine(into.bytes, writeLine(into.bytes, textAt, outcome.trial), outcome.evidence[0] ?? "");
  into.words[0] = checksumOf(into.words);
}

/** The slot and its sequence number, or null. `bytes` may come from anywhere. */
export function decodeSlot(bytes: Buffer): { readonly sequence: number; readonly slot: Slot } | null {
  if (bytes.length !== slotBytes || !isWhole(bytes)) return null;
  const sequence = bytes.readDoubleLE(8);
  if (!Number.isSafeInteger(sequence) || sequence < 1 || !Number.isFinite(bytes.readDoubleLE(16))) return null;
  const slot = bytes[24] === kinds.intent ? readIntent(bytes) : readOutcome(bytes);
  return slot === null ? null : { sequence, slot };
}

function isWhole(bytes: Buffer): boolean {
  const written = bytes.readUInt32LE(0);
  const copy = Buffer.from(bytes);
  copy.writeUInt32LE(0, 0);
  return written !== 0 && Bun.hash.xxHash32(copy) === written;
}

function begin({ bytes, words, doubles }: SlotDraft, sequence: number, kind: number, atMs: number): void {
  for (let word = 0; word < slotWords; word += 1) words[word] = 0;
  doubles[1] = sequence;
  doubles[2] = atMs;
  bytes[24] = kind;
}

/** xxHash32 with seed 0 of all words of a slot; the place of the checksum is still zero, and counts as such. */
function checksumOf(words: Int32Array): number {
  let a = (hashPrime1 + hashPrime2) | 0;
  let b = hashPrime2;
  let c = 0;
  let d = -hashPrime1 | 0;
  for (let word = 0; word < slotWords; word += 4) {
    a = hashRound(a, words[word]!);
    b = hashRound(b, words[word + 1]!);
    c = hashRound(c, words[word + 2]!);
    d = hashRound(d, words[word + 3]!);
  }
  let hash = (turn(a, 1) + turn(b, 7) + turn(c, 12) + turn(d, 18) + slotBytes) | 0;
  hash = Math.imul(hash ^ (hash >>> 15), hashPrime2);
  hash = Math.imul(hash ^ (hash >>> 13), hashPrime3);
  return hash ^ (hash >>> 16);
}

const hashPrime1 = 0x9e3779b1 | 0;
const hashPrime2 = 0x85ebca77 | 0;
const hashPrime3 = 0xc2b2ae3d | 0;
const turn = (word: number, bits: number): number => (word << bits) | (word >>> (32 - bits));
const hashRound = (sum: number, word: number): number =>
  Math.imul(turn((sum + Math.imul(word, hashPrime2)) | 0, 13), hashPrime1);

function writeEdit({ bytes, view }: SlotDraft, edit: Edit): void {
  switch (edit.kind) {
    case "abandon":
      bytes[25] = edits.indexOf(edit.rung);
      view.setUint16(40, Math.min(edit.point.frame, shortMax), true);
      view.setBigUint64(44, edit.point.returnValue, true);
      return;
    case "neutralise": {
      bytes[25] = edits.indexOf(edit.skip.kind === "zero" ? "neutraliseZero" : "neutraliseDrop");
      view.setUint16(42, Math.min(edit.lengthBytes, shortMax), true);
      const zeroed = edit.skip.kind === "zero" ? edit.skip.registers : [];
      for (const register of zeroed) bytes[44 + ((register & 63) >> 3)]! |= 1 << (register & 7);
      return;
    }
    case "deliver":
      bytes[25] = edits.indexOf("deliver");
      view.setUint16(40, Math.max(0, reasons.indexOf(edit.reason)), true);
      return;
    case "park":
      bytes[25] = edits.indexOf("park");
      return;
    case "mend":
    case "leave":
      bytes[25] = edits.indexOf(edit.kind);
      view.setBigUint64(44, edit.at, true);
      return;
    default:
      unreachable(edit);
  }
}

/** Writes a line at `at`, as far as there is room; gives the place of the next. */
function writeLine(bytes: Uint8Array, at: number, text: string): number {
  const room = slotBytes - at;
  if (text.length >= room) bytes[27] = 1;
  const length = Math.min(text.length, room);
  for (let index = 0; index < length; index += 1) bytes[at + index] = text.charCodeAt(index);
  if (length < room) bytes[at + length] = lineEnd;
  return at + length + 1;
}

/** The lines of the text; the last one has what is left. */
function readLines(bytes: Buffer, lines: number): string[] {
  const end = bytes.indexOf(0, textAt);
  const all = bytes.toString("latin1", textAt, end < 0 ? slotBytes : end).split("\n");
  return [
    ...all.slice(0, lines - 1),
    all
      .slice(lines - 1)
      .join("\n")
      .replace(/\n$/, ""),
  ];
}

function readIntent(bytes: Buffer): IntentSlot | null {
  const [trial, key = "", siteFault = "", siteBoundary = "", workload = ""] = readLines(bytes, 5);
  const signal = signals[bytes[26]!];
  const edit = readEdit(bytes);
  if (!trial || signal === undefined || edit === null) return null;
  return {
    kind: "intent",
    trial: trial as TrialId,
    atMs: bytes.readDoubleLE(16),
    pid: bytes.readUInt32LE(28),
    tid: bytes.readUInt32LE(32),
    signal,
    edit,
    key,
    site: { fault: siteFault, boundary: siteBoundary },
    workload,
  };
}

function readEdit(bytes: Buffer): Edit | null {
  const kind = edits[bytes[25]!];
  const value = bytes.readBigUInt64LE(44);
  const lengthBytes = bytes.readUInt16LE(42);
  switch (kind) {
    case "abandon":
    case "inward":
      return {
        kind: "abandon",
        rung: kind,
        point: { frame: bytes.readUInt16LE(40), returnValue: BigInt.asIntN(64, value) },
      };
    case "neutraliseZero": {
      const registers = Array.from({ length: 64 }, (_, register) => register);
      const zeroed = registers.filter((register) => (value >> BigInt(register)) & 1n);
      return { kind: "neutralise", skip: { kind: "zero", registers: zeroed }, lengthBytes };
    }
    case "neutraliseDrop":
      return { kind: "neutralise", skip: { kind: "drop" }, lengthBytes };
    case "deliver":
      return { kind: "deliver", reason: reasons[bytes.readUInt16LE(40)] ?? "exhausted" };
    case "park":
      return { kind: "park" };
    case "mend":
    case "leave":
      return { kind, at: address(value) };
    default:
      return null;
  }
}

function readOutcome(bytes: Buffer): OutcomeSlot | null {
  const [trial, evidence = ""] = readLines(bytes, 2);
  const rung = rungs[bytes[25]!];
  const verdict = verdicts[bytes[26]!];
  if (bytes[24] !== kinds.outcome || !trial || rung === undefined || verdict === undefined) return null;
  return {
    kind: "outcome",
    trial: trial as TrialId,
    atMs: bytes.readDoubleLE(16),
    rung,
    verdict,
    stopUs: bytes.readUInt32LE(28),
    probationMs: bytes.readUInt32LE(32),
    evidence,
  };
}
