// SPDX-License-Identifier: Apache-2.0
/**
 * Register changes of each kind of edit, against what an ordinary return would leave behind.
 */
import { expect, test } from "bun:test";
import type { Decision, FaultReport, SystemCall, ThreadControl, TrialId } from "#fault.ts";
import { apply, registerChanges } from "#suppression/apply.ts";
import { report } from "../reports.ts";

/** What a stopped thread was made to do, in order. */
async function acts(fault: FaultReport, abandoned: number): Promise<string[]> {
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
