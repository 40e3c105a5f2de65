// SPDX-License-Identifier: Apache-2.0
/**
 * Completed instructions in a running program (tests/oracles/neutralised.c): it faults, is told what to write to its
 * registers, goes on and checks its own results. Natively on x86-64, under qemu for AArch64.
 */
import { describe, expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { skipWrites } from "#binary/instructionSet.ts";
import { instructionsOf } from "#binary/instructions.ts";
import { flagsDwarf, pcDwarf } from "#binary/x86_64Decode.ts";
import { ByteReader } from "#bytes.ts";
import type { Architecture, Registers } from "#fault.ts";
import { armLibrary, compilers } from "#tests/oracles/execute.ts";
import { need, processor } from "#tests/skip.ts";

const registersCount = 33;
const codeBytes = 64;
const reportBytes = (registersCount + 3) * 8 + codeBytes;
const refused = -1n;
const testTimeoutMs = 60_000;
const faultsMax = 64;

/** Builds and runs the program; gives its exit code, what it complained of, and how often it was helped. */
async function runNeutralised(architecture: Architecture): Promise<{ exit: number; errors: string; faults: number }> {
  const directory = mkdtempSync(join(tmpdir(), "holdfast-neutralise-"));
  try {
    const program = join(directory, "neutralised");
    const source = join(import.meta.dir, "../oracles/neutralised.c");
    const built = Bun.spawnSync([compilers[architecture], "-O1", "-static", "-o", program, source]);
    expect(built.stderr.toString()).toBe("");
    const command = architecture === "x86_64" ? [program] : ["qemu-aarch64-static", program];
    await using child = Bun.spawn(command, { stdin: "pipe", stdout: "pipe", stderr: "pipe" });
    let pending = new Uint8Array();
    let faults = 0;
    for await (const chunk of child.stdout) {
      pending = new Uint8Array([...pending, ...chunk]);
      for (; pending.length >= reportBytes; pending = pending.slice(reportBytes)) {
        faults += 1;
        child.stdin.write(
          faults > faultsMax ? encode([refused]) : answer(architecture, pending.subarray(0, reportBytes)),
        );
        child.stdin.flush();
      }
    }
    return { exit: await child.exited, errors: await new Response(child.stderr).text(), faults };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** The registers to write for one fault: the completed instruction and the program counter behind it. */
function answer(architecture: Architecture, report: Uint8Array): Uint8Array<ArrayBuffer> {
  const reader = new ByteReader(report);
  const values = Array.from({ length: registersCount }, () => reader.u64());
  const [flags, faultAddress] = [reader.u64(), reader.u64()];
  reader.u64();
  const code = reader.slice(codeBytes);
  const counter = architecture === "x86_64" ? pcDwarf : 32;
  const registers: (bigint | null)[] = Array.from({ length: flagsDwarf + 1 }, (_, dwarf) => values[dwarf] ?? null);
  if (architecture === "x86_64") registers[flagsDwarf] = flags;
  const pc = values[counter] ?? 0n;
  const state = { registers: registers satisfies Registers, faultAddress };
  const { skip, lengthBytes } = instructionsOf(architecture).faulting(code, pc, state);
  if (skip === null) return encode([refused]);
  const writes = [...skipWrites(skip), [counter, pc + BigInt(lengthBytes)] as const];
  return encode([BigInt(writes.length), ...writes.flatMap(([register, value]) => [BigInt(register), value])]);
}

function encode(numbers: readonly bigint[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new BigUint64Array(numbers.map((number) => BigInt.asUintN(64, number))).buffer);
}

describe("a program whose faults are completed by hand", () => {
  need("gcc", processor("x64"))(
    "goes on with the results that zeros give, on x86-64",
    async () => expect(await runNeutralised("x86_64")).toEqual({ exit: 0, errors: "", faults: 18 }),
    testTimeoutMs,
  );
  need("aarch64-linux-gnu-gcc", "qemu-aarch64-static", armLibrary)(
    "goes on with the results that zeros give, on AArch64",
    async () => expect(await runNeutralised("aarch64")).toEqual({ exit: 0, errors: "", faults: 10 }),
    testTimeoutMs,
  );
});
