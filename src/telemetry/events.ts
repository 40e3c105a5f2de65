// SPDX-License-Identifier: Apache-2.0
/**
 * Journal rows as events of the contract. Gets durable rows in order; gives payloads, the drop rank of each, and the state
 * to go on from. Pure: the same row gives the same bytes and the same id, so whatever is sent twice is one event.
 *
 * Nothing of the program's memory or registers goes out, and no client address: evidence is left out, other texts are cut
 * and their addresses masked.
 */
import { createHash } from "node:crypto";
import type { FaultSignal, Rung } from "#fault.ts";
import { type ClockMark, stamp } from "./bootTime.ts";
import type { CborMap, CborValue } from "./cbor.ts";
import type { EventFacts, FeedRow } from "./feed.ts";
import type { TimeQuality } from "./payloads.ts";
import { type EventClass, eventClasses } from "./topics.ts";

/** What is dropped first when the outbox is full: 0 before 3. 0 are metrics. */
export type DropRank = 0 | 1 | 2 | 3;

export type EventMessage = {
  readonly class: EventClass;
  readonly n: number;
  readonly rank: DropRank;
  readonly atMs: number;
  readonly quality: TimeQuality;
  readonly boot: string;
  readonly payload: CborMap;
};

/** Where the translation stands: last event published, boot of the rows to come, workloads of recent faults. */
export type EventState = {
  readonly lastN: number;
  readonly boot: string;
  readonly workloads: ReadonlyMap<string, string>;
};

/** An event of this name opens a new boot; its fact `boot` is the boot id. */
export const bootEvent = "lifecycle.boot";
const factsMax = 16;
const factLengthMax = 160;
const workloadsMax = 256;

export type EventContext = {
  /** Makes event ids of this box differ from those of another with the same row. */
  readonly device: string;
  readonly marks: readonly ClockMark[];
  /** True where the trial used a record of the fleet. */
  readonly usedFleet: (trial: string) => boolean;
};

const wireSignals: Readonly<Record<FaultSignal, string>> = {
  SIGSEGV: "segv",
  SIGBUS: "bus",
  SIGFPE: "fpe",
  SIGILL: "ill",
  SIGABRT: "abrt",
  SIGTRAP: "trap",
  SIGSYS: "sys",
  SIGSTOP: "hang",
};
export const wireSignal = (signal: FaultSignal): string => wireSignals[signal];

/** One row: at most one event, and the state after it. */
export function translate(
  row: FeedRow,
  state: EventState,
  context: EventContext,
): { readonly state: EventState; readonly message: EventMessage | null } {
  const boot = row.kind === "event" && row.event === bootEvent ? String(row.facts.boot ?? state.boot) : state.boot;
  if (row.kind === "silent") return { state: { ...state, boot }, message: null };
  const workloads = row.kind === "fault" ? remembered(state.workloads, row.id, row.workload) : state.workloads;
  const { atMs, quality } = stamp(row.atMs, row.n, boot, context.marks);
  const own = ownKeys(row, workloads, context);
  const payload: CborMap = {
    v: 1,
    id: eventId(context.device, row),
    n: row.n,
    pn: state.lastN,
    boot,
    t: atMs,
    q: quality,
    sev: own.severity,
    class: own.class,
    w: own.workload === "" ? undefined : own.workload,
    ...own.keys,
  };
  const message = { class: own.class, n: row.n, rank: own.rank, atMs, quality, boot, payload };
  return { state: { lastN: row.n, boot, workloads }, message };
}

/** The payload with the time that became known later. */
export function restamped(payload: CborMap, n: number, marks: readonly ClockMark[]): CborMap {
  const time = stamp(Number(payload.t), n, String(payload.boot), marks);
  return time.quality === "guess" ? payload : { ...payload, t: time.atMs, q: time.quality };
}

type Own = {
  readonly class: EventClass;
  readonly severity: number;
  readonly rank: DropRank;
  readonly workload: string;
  readonly keys: CborMap;
};

function ownKeys(
  row: Exclude<FeedRow, { kind: "silent" }>,
  workloads: ReadonlyMap<string, string>,
  context: EventContext,
): Own {
  switch (row.kind) {
    case "fault": {
      const { fault, boundary } = row.site;
      const site = boundary === "" ? { fault } : { fault, iface: boundary };
      const keys = { fault: row.id, sig: wireSignal(row.signal), site, thread: row.threadName.slice(0, 32) };
      return { class: "fault", severity: 2, rank: 3, workload: row.workload, keys };
    }
    case "outcome": {
      const { fault, trial, rung, verdict, stopUs, probationMs, session } = row.outcome;
      const keys = {
        fault,
        trial,
        rung,
        out: verdict,
        stop_us: Math.max(0, Math.round(stopUs)),
        prob_ms: Math.max(0, Math.round(probationMs)),
        cut: session !== null && cutsSession(rung) ? 1 : 0,
        fleet: context.usedFleet(trial),
      };
      const severity = verdict === "clean" ? 1 : verdict === "degraded" ? 2 : 3;
      const restored = rung === "restore" || rung === "coldboot";
      const workload = workloads.get(fault) ?? "";
      return { class: restored ? "restore" : "suppress", severity, rank: 3, workload, keys };
    }
    case "event": {
      const name = row.event.slice(0, 64);
      const kind = classOf(name);
      const severity = severityOf(row.facts);
      const rank = kind === "audit" || kind === "herd" ? 3 : severity >= 2 ? 2 : 1;
      return { class: kind, severity, rank, workload: row.workload, keys: { name, facts: safeFacts(row.facts) } };
    }
  }
}

const cutsSession = (rung: Rung): boolean => rung === "quarantine" || rung === "park";

/** `audit.command` is of class audit; a name without one of our classes in front is a matter of life and death of a workload. */
function classOf(event: string): EventClass {
  const prefix = event.split(".")[0] ?? "";
  return eventClasses.find((name) => name === prefix) ?? "lifecycle";
}

function severityOf(facts: EventFacts): number {
  const severity = facts.severity;
  return typeof severity === "number" && Number.isInteger(severity) && severity >= 0 && severity <= 4 ? severity : 1;
}

function safeFacts(facts: EventFacts): CborMap {
  const kept = Object.entries(facts)
    .filter(([key]) => key !== "severity")
    .slice(0, factsMax);
  return Object.fromEntries(kept.map(([key, value]) => [key.slice(0, 32), safeFact(value)]));
}

function safeFact(value: unknown): CborValue | undefined {
  if (typeof value === "string") return maskAddresses(value).slice(0, factLengthMax);
  if (typeof value === "number") return Number.isFinite(value) ? value : undefined;
  return typeof value === "boolean" ? value : undefined;
}

/** Masks what looks like a network address; versions such as 1.2.3 stay. */
export function maskAddresses(text: string): string {
  return text
    .replace(/\b\d{1,3}(\.\d{1,3}){3}(:\d{1,5})?\b/g, "ADDRESS")
    .replace(/\[[0-9a-fA-F:.]{2,45}\](:\d{1,5})?/g, "ADDRESS")
    .replace(/(?<![\w:])(?:[0-9a-fA-F]{1,4}:){3,7}[0-9a-fA-F]{1,4}(?![\w:])/g, "ADDRESS");
}

function remembered(
  workloads: ReadonlyMap<string, string>,
  fault: string,
  workload: string,
): ReadonlyMap<string, string> {
  const entries = [...workloads, [fault, workload] as const];
  return new Map(entries.slice(-workloadsMax));
}

/** A UUIDv7 (RFC 9562) whose random bits come from the row, so that the same row has the same id for ever. */
export function eventId(
  device: string,
  row: { readonly n: number; readonly atMs: number; readonly kind: string },
): string {
  const digest = createHash("sha256").update(`${device}\0${row.n}\0${row.kind}\0${row.atMs}`).digest();
  const bytes = new Uint8Array(16);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(Math.max(0, Math.trunc(row.atMs))) << 16n);
  bytes.set(digest.subarray(0, 10), 6);
  bytes[6] = (bytes[6]! & 0x0f) | 0x70;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const text = bytes.toHex();
  return [text.slice(0, 8), text.slice(8, 12), text.slice(12, 16), text.slice(16, 20), text.slice(20)].join("-");
}
