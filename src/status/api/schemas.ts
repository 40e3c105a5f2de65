// SPDX-License-Identifier: Apache-2.0
/**
 * Every shape that the JSON interface gives or takes, once: answers are typed by these, tests validate against these, and
 * the OpenAPI document is made from these. Times are wall clock, ms since 1970; other units end the name.
 */
import * as v from "valibot";
import { rungs } from "#fault.ts";
import { counterEvents } from "#health.ts";
import { roles, verbNames } from "#verbs.ts";
import { healths } from "../model/issue.ts";
import { standbyStates, workloadStates } from "../told.ts";

const text = v.string();
const number = v.number();
const whole = v.pipe(v.number(), v.integer());
const maybe = <Schema extends v.GenericSchema>(schema: Schema) => v.nullable(schema);
const severities = ["attention", "degraded", "failing"] as const;
const verb = v.picklist(verbNames as readonly [string, ...string[]]);

export const problem = v.object({
  type: text,
  title: text,
  status: whole,
  detail: text,
  /** What to do about it. */
  advice: text,
});

export const trial = v.object({
  trial: text,
  rung: v.picklist(rungs),
  verdict: maybe(v.picklist(["clean", "degraded", "failed"])),
  stopUs: maybe(number),
  cut: maybe(text),
  delivered: maybe(text),
});
export const fault = v.object({
  n: whole,
  id: text,
  atMs: number,
  workload: text,
  pid: whole,
  tid: whole,
  threadName: text,
  signal: text,
  site: text,
  symbol: maybe(text),
  end: v.picklist(["clean", "degraded", "failed", "probation", "delivered", "open"]),
  trials: v.array(trial),
});
export const frame = v.object({
  pc: text,
  module: maybe(text),
  offset: text,
  symbol: maybe(text),
  enteredBy: text,
  part: v.picklist(["abandoned", "continues", "spine", ""]),
});
export const faultDetail = v.object({
  ...fault.entries,
  outcome: text,
  acts: v.array(v.object({ trial: text, act: text, reason: text, evidence: v.array(text) })),
  frames: v.array(frame),
  session: maybe(v.object({ peer: text, fd: whole, confidence: number })),
  replay: text,
});
export const issue = v.object({
  code: text,
  severity: v.picklist(severities),
  workload: text,
  title: text,
  effect: text,
  fix: text,
  verb: maybe(verb),
  sinceMs: maybe(number),
});
export const workload = v.object({
  name: text,
  kind: v.picklist(["program", "guest"]),
  state: v.picklist(workloadStates),
  sinceMs: number,
  pid: maybe(whole),
  threads: maybe(whole),
  protected: v.boolean(),
  why: maybe(text),
  restarts: maybe(v.object({ used: whole, max: whole })),
  arriving: maybe(
    v.object({
      checkpoint: text,
      mode: v.picklist(["lazy", "eager"]),
      contentBytes: number,
      prefetchedBytes: number,
      demandedBytes: number,
      backgroundBytes: number,
      waitUsP50: maybe(number),
      waitUsP99: maybe(number),
    }),
  ),
  standby: maybe(
    v.object({ state: v.picklist(standbyStates), checkpoint: maybe(text), pid: maybe(whole), why: maybe(text) }),
  ),
  suppressionOff: v.boolean(),
  programs: v.array(text),
  verbs: v.array(verb),
  faults: whole,
  survived: whole,
  sessionsCut: whole,
  stopUsMedian: maybe(number),
});
export const summary = v.object({
  box: text,
  version: text,
  health: v.picklist(healths),
  headline: text,
  sinceMs: number,
  nowMs: number,
  cursor: whole,
  issues: whole,
  workloads: whole,
  protected: whole,
  lastDay: v.object({
    faults: whole,
    survived: whole,
    sessionsCut: whole,
    stopUsMedian: maybe(number),
    stopUsMax: maybe(number),
  }),
});
export const host = v.object({
  cpus: whole,
  load: maybe(v.array(number)),
  memoryBytes: maybe(number),
  memoryAvailableBytes: maybe(number),
  pressure: v.object({ cpu: maybe(number), memory: maybe(number), io: maybe(number) }),
  temperatures: v.array(v.object({ zone: text, celsius: number })),
  diskBytes: maybe(number),
  diskFreeBytes: maybe(number),
  upSeconds: maybe(number),
  kernel: text,
  clockSynchronised: maybe(v.boolean()),
  ownBytes: maybe(number),
  ownDescriptors: maybe(number),
});
/** What is there, or why it is not: a missing part is a value. */
export const stated = v.object({ known: v.boolean(), why: maybe(text), value: v.unknown() });
export const counterTable = v.object({
  workload: text,
  threads: whole,
  /** Of the last seconds; null where one of the two events was never on hardware. */
  instructionsPerCycle: maybe(number),
  cacheMissesPerThousand: maybe(number),
  branchMissesPerThousand: maybe(number),
  processors: maybe(number),
  rows: v.array(
    v.object({
      event: v.picklist(counterEvents),
      cluster: text,
      total: maybe(number),
      perSecond: maybe(number),
      runningRatio: number,
    }),
  ),
  exits: v.array(v.object({ reason: text, count: number })),
});
export const counters = v.object({ ...stated.entries, workloads: v.array(counterTable) });
export const event = v.object({ n: whole, atMs: number, event: text, workload: text, facts: v.unknown() });
export const logLine = v.object({ atMs: number, unit: text, level: whole, text });
export const logs = v.object({ known: v.boolean(), why: maybe(text), lines: v.array(logLine) });
export const system = v.object({
  box: text,
  version: text,
  runtime: text,
  mode: v.picklist(["guard", "run"]),
  startedMs: number,
  pid: whole,
  storage: v.object({ kind: text, why: text, freeBytes: maybe(number), bytesToday: number, queuedRows: whole }),
  updateLock: stated,
  update: stated,
  boots: v.array(v.object({ atMs: number, reason: text, why: text })),
});
export const job = v.object({
  id: text,
  verb,
  workload: text,
  state: v.picklist(["running", "succeeded", "failed", "cancelled"]),
  why: text,
  by: text,
  atMs: number,
});
export const curve = v.object({
  series: text,
  workload: text,
  unit: text,
  resolution: v.picklist(["raw", "minute", "hour"]),
  points: v.array(v.object({ atMs: number, mean: number, least: number, greatest: number })),
});
export const act = v.strictObject({
  verb,
  workload: v.optional(v.pipe(text, v.maxLength(64)), ""),
});

const cursor = v.pipe(text, v.regex(/^\d{1,15}$/));
const limit = v.pipe(text, v.regex(/^([1-9]|[1-9]\d|100)$/, "wants a whole number from 1 to 100"));
const name = v.pipe(text, v.maxLength(128));
export const ends = ["clean", "degraded", "failed", "probation", "delivered", "open"] as const;
export const spans = ["1h", "24h", "7d", "1y"] as const;

export const faultsQuery = v.object({
  limit: v.optional(limit),
  before: v.optional(cursor),
  workload: v.optional(name),
  end: v.optional(v.picklist(ends)),
});
export const eventsQuery = v.object({
  limit: v.optional(limit),
  before: v.optional(cursor),
  workload: v.optional(name),
  event: v.optional(name),
});
export const logsQuery = v.object({
  unit: v.optional(v.pipe(text, v.regex(/^[\w.@:-]{1,128}$/, "wants the name of a unit"))),
  level: v.optional(v.pipe(text, v.regex(/^[0-7]$/, "wants 0 to 7"))),
  text: v.optional(name),
  since: v.optional(v.pipe(text, v.regex(/^\d{1,6}$/, "wants minutes"))),
  until: v.optional(v.pipe(text, v.regex(/^\d{1,6}$/, "wants minutes"))),
});
export const curveQuery = v.object({ series: name, workload: v.optional(name), span: v.optional(v.picklist(spans)) });
export const idParameter = v.object({ id: v.pipe(text, v.regex(/^[0-9a-z-]{1,40}$/)) });
export const nameParameter = v.object({ name });
export const role = v.picklist(roles);
