// SPDX-License-Identifier: Apache-2.0
/**
 * The answers of the JSON interface, made from the read model and what the page was told. Each is typed by its schema.
 */
import type * as v from "valibot";
import type { FaultRecord } from "#storage/journalReader.ts";
import { actWords, outcomeWords } from "../model/faultWords.ts";
import { counterTables } from "../model/rates.ts";
import { type EventLine, type FaultLine, verdictOf } from "../model/readModel.ts";
import type { WorkloadLine } from "../model/workloads.ts";
import type { View } from "../page.ts";
import type { Known } from "../told.ts";
import type * as s from "./schemas.ts";

type Answer<Schema extends v.GenericSchema> = v.InferOutput<Schema>;

export const faultAnswer = (fault: FaultLine): Answer<typeof s.fault> => ({
  ...fault,
  trials: [...fault.trials],
  end: verdictOf(fault),
});

export function faultDetailAnswer(fault: FaultLine, record: FaultRecord): Answer<typeof s.faultDetail> {
  const { report, trials } = record;
  const last = trials.at(-1);
  const point = last?.decision.edit.kind === "abandon" ? last.decision.edit.point : null;
  const session = last?.outcome?.session ?? last?.decision.session ?? null;
  return {
    ...faultAnswer(fault),
    outcome: outcomeWords(record),
    acts: trials.map(({ trial, decision, outcome }) => ({
      trial,
      act: actWords(report, decision.edit),
      reason: decision.reason,
      evidence: [...(outcome?.evidence ?? [])],
    })),
    frames: (report?.frames ?? []).map((frame, index) => ({
      pc: `0x${frame.pc.toString(16)}`,
      module: frame.module === null ? null : (report!.modules[frame.module]?.path ?? null),
      offset: `0x${frame.offset.toString(16)}`,
      symbol: frame.symbol,
      enteredBy: frame.enteredBy,
      part:
        point !== null && index <= point.frame
          ? "abandoned"
          : point !== null && index === point.frame + 1
            ? "continues"
            : report!.spine !== null && index >= report!.spine
              ? "spine"
              : "",
    })),
    session: session === null ? null : { peer: session.peer, fd: session.fd, confidence: session.confidence },
    replay: `holdfast replay ${record.id}`,
  };
}

export function workloadAnswer(line: WorkloadLine): Answer<typeof s.workload> {
  const { told, faults, survived, cut, stopUsMedian } = line;
  return {
    ...told,
    programs: [...told.programs],
    verbs: [...told.verbs],
    faults,
    survived,
    sessionsCut: cut,
    stopUsMedian,
  };
}

export function summaryAnswer(view: View): Answer<typeof s.summary> {
  const { told, headline, issues, day, nowMs, cursor } = view;
  return {
    box: told.box,
    version: told.version,
    health: headline.health,
    headline: headline.text,
    sinceMs: headline.sinceMs,
    nowMs,
    cursor,
    issues: issues.length,
    workloads: told.workloads.length,
    protected: told.workloads.filter((workload) => workload.protected).length,
    lastDay: {
      faults: day.faults,
      survived: day.survived,
      sessionsCut: day.cut,
      stopUsMedian: day.stopUsMedian,
      stopUsMax: day.stopUsMax,
    },
  };
}

export function systemAnswer({ told }: View): Answer<typeof s.system> {
  const { box, version, runtime, mode, startedMs, pid } = told;
  const { kind, why, freeBytes, bytesToday, queuedRows } = told.storage;
  const storage = { kind, why, freeBytes, bytesToday, queuedRows };
  return {
    box,
    version,
    runtime,
    mode,
    startedMs,
    pid,
    storage,
    updateLock: statedAnswer(told.updateLock),
    update: statedAnswer(told.update),
    boots: [...told.boots],
  };
}

export const statedAnswer = (known: Known<unknown>): Answer<typeof s.stated> =>
  known.known ? { known: true, why: null, value: known.value } : { known: false, why: known.why, value: null };

export const countersAnswer = ({ told, before }: View): Answer<typeof s.counters> => ({
  ...statedAnswer(told.counters),
  workloads: counterTables(told.monitor, before).map(({ rows, exits, ...table }) => ({
    ...table,
    rows: [...rows],
    exits: exits.map(([reason, count]) => ({ reason, count })),
  })),
});

export const eventAnswer = ({ n, atMs, event, workload, facts }: EventLine): Answer<typeof s.event> => ({
  n,
  atMs,
  event,
  workload,
  facts,
});
