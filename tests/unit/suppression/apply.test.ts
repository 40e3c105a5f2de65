// SPDX-License-Identifier: Apache-2.0
/**
 * Register changes of each kind of edit, against what an ordinary return would leave behind.
 */
import { describe, expect, test } from "bun:test";
import { address, type Decision, type FaultReport, type SystemCall, type ThreadControl, type TrialId } from "#fault.ts";
import { apply, registerChanges } from "#suppression/apply.ts";
import { report } from "../reports.ts";

/** A stopped thread, and what it was made to do, in order. */
function recording(): { done: string[]; control: ThreadControl } {
  const done: string[] = [];
  const control: ThreadControl = {
    pid: 100,
    tid: 100,
    writeRegisters: async () => void done.push("registers"),
    writeMemory: async () => void done.push("memory"),
    systemCall: async (name: SystemCall, words) => {
      done.push(`${name} ${words.join(" ")}`);
      return 0n;
    },
    resumeInto: async (name: SystemCall, words) => void done.push(`into ${name} ${words.join(" ")}`),
    resume: async () => void done.push("resume"),
    deliver: async () => void done.push("deliver"),
  };
  return { done, control };
}

async function acts(fault: FaultReport, abandoned: number): Promise<string[]> {
  const { done, control } = recording();
  const edit = { kind: "abandon", rung: "abandon", point: { frame: abandoned, returnValue: -1n } } as const;
  const words = { trial: "fault-1.1" as TrialId, key: "", session: null, cut: false, reason: "", past: [] };
  await apply(fault, { ...words, edit } satisfies Decision, control);
  return done;
}

/** A handler that interrupted a handler that interrupted a request; the stack pointer of frame N is N * 0x1000. */
function handlers(changes: Partial<FaultReport> = {}): FaultReport {
  const plain = report(
    ["deref", "inner", "trampoline", "outer", "trampoline", "request", "loop"].map((name) => ({ name })),
    changes,
  );
  const frames = plain.frames.map((frame, index) => ({
    ...frame,
    registers: [...frame.registers].with(7, BigInt(index) * 0x1000n),
    foundBy: index === 3 || index === 5 ? ("signal" as const) : frame.foundBy,
  }));
  return { ...plain, frames };
}

test("a handler that is abandoned itself returns by its trampoline, which puts everything back", async () => {
  expect(await acts(handlers(), 1)).toEqual(["registers", "resume"]);
});

test("who jumps out of handlers gets the mask and the alternate stack of the outermost one", async () => {
  const restored = (trampoline: bigint): string[] => [
    `rt_sigprocmask 2 ${trampoline + 296n} 0 8`,
    `sigaltstack ${trampoline + 16n} 0`,
    "registers",
    "resume",
  ];
  expect(await acts(handlers(), 3)).toEqual(restored(0x2000n));
  expect(await acts(handlers(), 5)).toEqual(restored(0x4000n));
});

test("string instructions run forwards in the code that goes on", () => {
  const registers = [...report([{ name: "a" }, { name: "main" }]).registers];
  registers[49] = 0x10646n;
  const fault = report([{ name: "a" }, { name: "main" }], { registers });
  const abandoned = registerChanges(fault, { kind: "abandon", rung: "abandon", point: { frame: 0, returnValue: 0n } });
  expect(abandoned.get(49)).toBe(0x10246n);
});

test("an abandoned frame looks returned from: caller's registers, stack above the frame, the value", () => {
  const fault = report([{ name: "a" }, { name: "b", by: "pointer" }, { name: "c" }, { name: "main" }]);
  const changes = registerChanges(fault, { kind: "abandon", rung: "abandon", point: { frame: 1, returnValue: -1n } });
  expect(changes.get(0)).toBe(0xffff_ffff_ffff_ffffn);
  expect(changes.get(7)).toBe(fault.frames[1]!.cfa!);
  expect(changes.get(16)).toBe(fault.frames[2]!.pc);
  for (const register of [3, 6, 12, 13, 14, 15]) expect(changes.get(register)).toBe(BigInt(3000 + register));
  expect(changes.size).toBe(9);
});

test("a neutralised load gives zero and the program counter moves past it", () => {
  const fault = report([{ name: "a" }, { name: "main" }]);
  const zero = registerChanges(fault, { kind: "neutralise", skip: { kind: "zero", registers: [2] }, lengthBytes: 7 });
  expect(zero).toEqual(
    new Map([
      [16, fault.registers[16]! + 7n],
      [2, 0n],
    ]),
  );
  const drop = registerChanges(fault, { kind: "neutralise", skip: { kind: "drop" }, lengthBytes: 3 });
  expect(drop).toEqual(new Map([[16, fault.registers[16]! + 3n]]));
});

describe("leave", () => {
  const at = address(0x7f00_0000_1000n);
  const fault = report([{ name: "a" }, { name: "b" }, { name: "main" }]);

  test("is a call of exit(1) by nobody, below the red zone of the faulting frame", () => {
    const changes = registerChanges(fault, { kind: "leave", at });
    const sp = changes.get(7)!;
    expect([changes.get(16), changes.get(5)]).toEqual([at, 1n]);
    // As right after a call instruction.
    expect(sp % 16n).toBe(8n);
    expect(sp).toBeLessThan(fault.registers[7]! - 128n);
  });

  test("on AArch64 the link register ends the stack", () => {
    const registers = Array.from({ length: 33 }, (_, index) => BigInt(index) * 0x1000n);
    const changes = registerChanges({ ...fault, architecture: "aarch64", registers }, { kind: "leave", at });
    expect([changes.get(32), changes.get(0), changes.get(30)]).toEqual([at, 1n, 0n]);
    expect(changes.get(31)! % 16n).toBe(0n);
  });

  test("an exhausted stack gives the room of its outer frames; a handler's stack is left for the interrupted one", () => {
    const deep = report(
      [
        { name: "rec" },
        { name: "rec", cfa: 0x7ffc_0001_0000n },
        { name: "main", cfa: 0x7ffc_0008_0000n },
        { name: "start" },
      ],
      { stackExhausted: true },
    );
    const sp = registerChanges(deep, { kind: "leave", at }).get(7)!;
    expect(sp).toBeGreaterThan(0x7ffc_0007_0000n);
    expect(sp).toBeLessThan(0x7ffc_0008_0000n);
    expect(registerChanges(handlers(), { kind: "leave", at }).get(7)!).toBeGreaterThan(0x4000n);
  });

  test("its session is cut before it, and it is told as the rung it is", async () => {
    const words = { trial: "fault-1.1" as TrialId, key: "leave", session: null, cut: false, reason: "", past: [] };
    const { done, control } = recording();
    const applied = await apply(fault, { ...words, edit: { kind: "leave", at } }, control);
    expect(applied).toEqual({ rung: "park", cutFailure: null });
    expect(done).toEqual(["memory", "registers", "resume"]);
  });
});
