// SPDX-License-Identifier: Apache-2.0
/**
 * A fault as the monitor would report it, for storage tests. Gets an id and what should differ; gives report, decision,
 * plan and outcome that belong together.
 */
import {
  address,
  type Decision,
  type Edit,
  type FaultId,
  type FaultReport,
  type Outcome,
  type Plan,
  type Verdict,
} from "#fault.ts";
import { trialId } from "#storage/faultId.ts";

const buildId = "ab".repeat(20);

/** Of one piece each, as they are once the plan has compared them with those of the past. */
const site = { fault: `${buildId}+0x1010`, boundary: `${buildId}+0x2020` };
const key = `abandon ${buildId}+0x2020=-1`;

export function sampleReport(id: FaultId, change: Partial<FaultReport> = {}): FaultReport {
  const frame = {
    cfa: address(0x7ffd_0000_1010n),
    registers: [1n, null, 0xffff_ffff_ffff_ffffn],
    module: 0,
    functionStart: 0x1000n,
    symbol: "debugCommand",
    enteredBy: "pointer",
    afterCall: "tested",
    foundBy: "cfi",
  } as const;
  return {
    id,
    workload: "redis",
    pid: 4242,
    tid: 4243,
    threads: 1,
    threadName: "redis-server",
    architecture: "x86_64",
    signal: "SIGSEGV",
    cause: { number: 11, code: 1, faultAddress: address(0n), senderPid: null },
    atMs: 1_700_000_000_000,
    registers: [1n, 2n, null, 0x7fff_ffff_ffff_ffffn],
    modules: [{ path: "/usr/bin/redis-server", buildId, bias: address(0x5555_0000_0000n), ownsSignals: false }],
    frames: [
      { ...frame, pc: address(0x5555_0000_1010n), offset: 0x1010n },
      { ...frame, pc: address(0x5555_0000_2020n), offset: 0x2020n },
    ],
    spine: 1,
    complete: true,
    instruction: null,
    site,
    codeAt: "file",
    caught: false,
    serving: true,
    inAllocator: false,
    stackExhausted: false,
    sessions: [],
    connectionsShared: false,
    multiplexers: null,
    damagedSequence: null,
    deliveredBefore: null,
    stack: { from: address(0x7ffd_0000_1000n), bytes: "00".repeat(256) },
    blockedSince: null,
    ...change,
  };
}

export const sampleEdit: Edit = { kind: "abandon", rung: "abandon", point: { frame: 0, returnValue: -1n } };
export const samplePlan: Plan = { kind: "edits", edits: [sampleEdit], notes: ["one candidate"] };

export function sampleDecision(id: FaultId, number = 1, edit: Edit = sampleEdit): Decision {
  return {
    trial: trialId(id, number),
    edit,
    key,
    session: null,
    cut: false,
    reason: "a new site",
    past: [],
  };
}

export function sampleOutcome(id: FaultId, number = 1, verdict: Verdict = "clean"): Outcome {
  return {
    fault: id,
    trial: trialId(id, number),
    rung: "abandon",
    verdict,
    evidence: ["reached its idle point"],
    stopUs: 900,
    probationMs: 2000,
    session: { fd: 8, peer: "127.0.0.1:5000", confidence: 0.9 },
  };
}
