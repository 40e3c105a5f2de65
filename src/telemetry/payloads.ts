// SPDX-License-Identifier: Apache-2.0
/**
 * Every payload of the contract but SenML and the signed ones: its schema, its type, and how it is read.
 *
 * Readers ignore keys they do not know; a minor version of the contract only adds keys. `contract.cddl` says the same for
 * people and for other languages. All limits stand here.
 */
import * as v from "valibot";
import { TelemetryError } from "#errors.ts";
import { rungs } from "#fault.ts";
import { metricGroups } from "#metrics.ts";
import { roles } from "#verbs.ts";
import { type CborMap, decodeCborMap } from "./cbor.ts";
import { eventClasses } from "./topics.ts";

/** Largest payload we send or accept, and largest command. */
export const payloadBytesMax = 64 * 1024;
export const commandBytesMax = 8 * 1024;

const version = v.literal(1);
const text = (lengthMax: number) => v.pipe(v.string(), v.maxLength(lengthMax));
const whole = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const scalar = v.union([v.string(), v.number(), v.boolean(), v.null()]);
const flat = v.record(text(64), v.union([scalar, v.array(scalar)]));

export const healths = ["ok", "attention", "degraded", "failing"] as const;
export type Health = (typeof healths)[number];

/** `lost` is only ever said by the will. */
export const stateSchema = v.object({
  v: version,
  s: v.picklist(["online", "maintenance", "offline", "lost"]),
  /** Counts connects: a reader ignores `lost` with a number below the highest it has seen. */
  sid: whole,
  boot: text(64),
  t: v.optional(text(32)),
  health: v.optional(v.picklist(healths)),
});
export type State = v.InferOutput<typeof stateSchema>;

export const birthSchema = v.object({
  v: version,
  /** Rises with each birth that differs. */
  rev: whole,
  t: whole,
  boot: text(64),
  model: text(64),
  soc: text(64),
  arch: text(16),
  sw: text(32),
  os: text(128),
  slot: text(16),
  reason: text(64),
  rollback: v.optional(text(256)),
  verbs: v.record(text(32), v.picklist(roles)),
  workloads: v.pipe(
    v.array(
      v.object({
        w: text(64),
        kind: v.picklist(["program", "guest"]),
        prog: v.optional(text(64)),
        build: v.optional(text(128)),
        protected: v.boolean(),
      }),
    ),
    v.maxLength(256),
  ),
  metrics: v.record(
    text(64),
    v.object({ kind: text(16), group: v.picklist(metricGroups), unit: text(8), labels: v.array(text(32)) }),
  ),
  counters: v.object({ kind: v.picklist(["hardware", "software", "none"]), why: v.optional(text(256)) }),
  herd: v.optional(v.instance(Uint8Array)),
  page: v.optional(text(128)),
});
export type Birth = v.InferOutput<typeof birthSchema>;

export const configSchema = v.object({
  v: version,
  t: whole,
  hash: text(64),
  restart_required: v.boolean(),
  settings: flat,
});
export type ConfigPayload = v.InferOutput<typeof configSchema>;

export const qualities = ["synced", "fixed", "guess"] as const;
/** How far a time can be trusted: measured with a set clock, corrected later in the same boot, or never known. */
export type TimeQuality = (typeof qualities)[number];

/** Head of every event; the class's own keys stand beside it. */
export const eventSchema = v.looseObject({
  v: version,
  id: v.pipe(v.string(), v.uuid()),
  /** Number in the journal, and that of the event published before it: a reader that misses one asks for it again. */
  n: whole,
  pn: whole,
  boot: text(64),
  t: whole,
  q: v.picklist(qualities),
  sev: v.pipe(whole, v.maxValue(4)),
  class: v.picklist(eventClasses),
  w: v.optional(text(64)),
});
export type EventPayload = v.InferOutput<typeof eventSchema>;

export const alarmSchema = v.object({
  v: version,
  alarm: text(64),
  sev: v.pipe(whole, v.maxValue(4)),
  since: whole,
  cause: text(256),
  effect: text(256),
  fix: text(256),
});
export type Alarm = v.InferOutput<typeof alarmSchema>;

export const jobStates = ["accepted", "running", "succeeded", "failed", "rejected", "expired", "cancelled"] as const;
export type JobState = (typeof jobStates)[number];
export const isFinal = (state: JobState): boolean => state !== "accepted" && state !== "running";

export const jobSchema = v.object({
  v: version,
  id: text(64),
  verb: text(32),
  s: v.picklist(jobStates),
  t: whole,
  by: text(64),
  pct: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(100))),
  step: v.optional(text(128)),
  left_s: v.optional(whole),
  why: v.optional(text(256)),
  result: v.optional(flat),
});
export type JobPayload = v.InferOutput<typeof jobSchema>;

/** Rungs and verdicts as an outcome event carries them. */
export const outcomeKeys = v.object({
  fault: text(64),
  trial: text(80),
  rung: v.picklist(rungs),
  out: v.picklist(["clean", "degraded", "failed"]),
  stop_us: whole,
  prob_ms: whole,
  cut: whole,
  fleet: v.boolean(),
});

type Schema = v.GenericSchema<unknown, unknown>;

/** Checks a decoded map. @throws TelemetryError telemetry.payload that names the first wrong key */
export function check<S extends Schema>(schema: S, value: unknown): v.InferOutput<S> {
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return result.output;
  const issue = result.issues[0];
  const key = issue === undefined ? "" : (v.getDotPath(issue) ?? "");
  throw new TelemetryError("telemetry.payload", `the payload does not follow the contract: ${issue?.message ?? ""}`, {
    key,
  });
}

/** Reads a CBOR payload of a known kind. @throws TelemetryError */
export const readPayload = <S extends Schema>(schema: S, bytes: Uint8Array): v.InferOutput<S> =>
  check(schema, decodeCborMap(bytes, payloadBytesMax) satisfies CborMap);

/** Reads a JSON payload (state). @throws TelemetryError */
export function readJson<S extends Schema>(schema: S, bytes: Uint8Array): v.InferOutput<S> {
  if (bytes.length > payloadBytesMax) throw new TelemetryError("telemetry.size", "the payload is too large");
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new TelemetryError("telemetry.payload", "the payload is not JSON", {}, cause);
  }
  return check(schema, value);
}
