// SPDX-License-Identifier: Apache-2.0
/**
 * The lines that `holdfast guard --json` writes, read back by whoever watches a guard from outside.
 *
 * Gets one line; gives the event, `other` for an event added later, or why the line breaks the contract. Fields added later
 * are left alone. The contract: `guarding`, `fault`, `outcome` (one for each trial) and `exit`, one object a line.
 */
import { fatalSignals, type Rung, rungs, type Verdict } from "#fault.ts";

export type GuardingEvent = {
  readonly event: "guarding";
  readonly workload: string;
  readonly pid: number;
  readonly threads: number;
};
export type FaultEvent = {
  readonly event: "fault";
  readonly id: string;
  readonly signal: string;
  readonly thread: number;
  readonly site: string;
  readonly frames: readonly GuardFrame[];
};
export type GuardFrame = {
  readonly pc: string;
  readonly module: string | null;
  readonly offset: string | number;
  readonly symbol?: string | null;
};
export type OutcomeEvent = {
  readonly event: "outcome";
  readonly id: string;
  readonly rung: Rung;
  readonly verdict: Verdict;
  readonly stopUs: number;
  readonly session: { readonly fd: number; readonly peer: string; readonly confidence: number } | null;
};
export type ExitEvent = {
  readonly event: "exit";
  readonly workload: string;
  readonly code: number | null;
  readonly signal: string | null;
};
export type GuardEvent = GuardingEvent | FaultEvent | OutcomeEvent | ExitEvent;

export type GuardLine =
  | { readonly kind: "event"; readonly event: GuardEvent }
  | { readonly kind: "other"; readonly name: string }
  | { readonly kind: "violation"; readonly reason: string };

const lineCharactersMax = 1024 * 1024;
const verdicts: readonly string[] = ["clean", "degraded", "failed"] satisfies readonly Verdict[];

/** Total: a line that is no event is a `violation`. */
export function readGuardLine(line: string): GuardLine {
  if (line.length > lineCharactersMax) return violation("line too long");
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return violation("not JSON");
  }
  if (!isObject(value) || typeof value.event !== "string") return violation("no event");
  const checks = shapes[value.event];
  if (checks === undefined) return { kind: "other", name: value.event };
  for (const [field, holds] of Object.entries(checks)) {
    if (!holds(value[field])) return violation(`${value.event}: bad ${field}: ${JSON.stringify(value[field])}`);
  }
  return { kind: "event", event: value as GuardEvent };
}

type Check = (value: unknown) => boolean;

const text: Check = (value) => typeof value === "string";
const count: Check = (value) => typeof value === "number" && Number.isInteger(value) && value >= 0;
const orNull =
  (check: Check): Check =>
  (value) =>
    value === null || check(value);
const oneOf =
  (names: readonly string[]): Check =>
  (value) =>
    typeof value === "string" && names.includes(value);
const frame: Check = (value) =>
  isObject(value) && text(value.pc) && orNull(text)(value.module) && (text(value.offset) || count(value.offset));
const session: Check = (value) =>
  isObject(value) && count(value.fd) && text(value.peer) && typeof value.confidence === "number";

const shapes: Readonly<Record<string, Readonly<Record<string, Check>>>> = {
  guarding: { workload: text, pid: count, threads: count },
  fault: {
    id: text,
    signal: oneOf([...fatalSignals, "SIGSTOP"]),
    thread: count,
    site: text,
    frames: (value) => Array.isArray(value) && value.every(frame),
  },
  outcome: { id: text, rung: oneOf(rungs), verdict: oneOf(verdicts), stopUs: count, session: orNull(session) },
  exit: { workload: text, code: orNull(count), signal: orNull(text) },
};

const violation = (reason: string): GuardLine => ({ kind: "violation", reason });

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
