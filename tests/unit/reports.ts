// SPDX-License-Identifier: Apache-2.0
/**
 * Fault reports for tests, written as a stack in one line a frame. Gets frames from the innermost outwards; gives a
 * whole report with plausible registers, so that a test states only what it is about.
 */
import {
  type AfterCall,
  address,
  type CallKind,
  type FaultId,
  type FaultReport,
  type Frame,
  type PastTrial,
  type TrialId,
} from "#fault.ts";

export type FrameSketch = {
  name: string;
  /** How this frame was entered from the next outer one, and what that one does with the value. */
  by?: CallKind;
  after?: AfterCall;
  failure?: bigint;
  /** The test that tells `failure` leaves no doubt. */
  plainly?: true;
  cfa?: bigint | null;
  /** null: code of no file. */
  module?: null;
};

const stackTop = 0x7ffc_0000_0000n;
const frameBytes = 0x40n;
const bias = 0x5555_0000_0000n;

export function report(frames: readonly FrameSketch[], changes: Partial<FaultReport> = {}): FaultReport {
  const registers = Array.from({ length: 17 }, (_, index) => BigInt(index + 1));
  registers[16] = bias + offsetOf(frames[0]?.name ?? "none");
  registers[7] = stackTop;
  const built = frames.map((sketch, index) => frameOf(sketch, index, index === frames.length - 1));
  return {
    id: "fault-1" as FaultId,
    workload: "test",
    pid: 100,
    tid: 100,
    threadName: "main",
    threads: 1,
    architecture: "x86_64",
    signal: "SIGSEGV",
    cause: { number: 11, code: 1, faultAddress: address(0n), senderPid: null },
    atMs: 1_700_000_000_000,
    registers,
    modules: [{ path: "/usr/bin/server", buildId: "abc", bias: address(bias), ownsSignals: false }],
    frames: built,
    spine: null,
    complete: true,
    instruction: { bytes: "8b00", lengthBytes: 2, skip: { kind: "zero", registers: [0] } },
    site: { fault: `abc+0x${offsetOf(frames[0]?.name ?? "none").toString(16)}`, boundary: "" },
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
    stack: { from: address(stackTop), bytes: "" },
    blockedSince: null,
    ...changes,
  };
}

function frameOf(sketch: FrameSketch, index: number, outermost: boolean): Frame {
  const registers: (bigint | null)[] = Array.from({ length: 17 }, (_, register) =>
    [3, 6, 12, 13, 14, 15].includes(register) ? BigInt(1000 * (index + 1) + register) : null,
  );
  return {
    pc: address(bias + offsetOf(sketch.name)),
    cfa: sketch.cfa === undefined ? address(stackTop + frameBytes * BigInt(index + 1)) : (sketch.cfa as Frame["cfa"]),
    registers,
    module: sketch.module === null ? null : 0,
    offset: offsetOf(sketch.name),
    functionStart: offsetOf(sketch.name) & ~0xffn,
    symbol: sketch.name,
    enteredBy: outermost ? "none" : (sketch.by ?? "direct"),
    afterCall: sketch.after ?? "tested",
    failureValue: sketch.failure ?? null,
    ...(sketch.plainly === undefined ? {} : { failsPlainly: true }),
    foundBy: index === 0 ? "stop" : "cfi",
  };
}

/** A place in the file for each name, equal for equal names. */
export function offsetOf(name: string): bigint {
  return (BigInt(Bun.hash.crc32(name)) << 8n) | 0x10n;
}

export function pastTrial(changes: Partial<PastTrial> & Pick<PastTrial, "site">): PastTrial {
  return {
    trial: "fault-0.1" as TrialId,
    tid: 100,
    key: "abandon abc+0x0=-1",
    rung: "abandon",
    atMs: 1_699_999_999_000,
    verdict: null,
    session: null,
    veteran: false,
    ...changes,
  };
}
