// SPDX-License-Identifier: Apache-2.0
/**
 * The processor as an oracle (execute.c): gets instructions with registers, gives what they did. Builds the C program
 * into a temporary directory; AArch64 runs under qemu-aarch64-static.
 */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert } from "#errors.ts";
import type { Architecture } from "#fault.ts";
import type { Need } from "#tests/skip.ts";

export const slots = 34;
/** Slot of the flags: x86-64 rflags, AArch64 NZCV. */
export const flagsSlot = 33;
export const scratch = 0x10008000n;
export const codeBytes = 16;
const runTimeoutMs = 120_000;
const outputBytesMax = 1 << 28;

export type Execution = { readonly code: Uint8Array; readonly registers: readonly bigint[] };
/** `signal` 0: the instruction was carried out. */
export type Executed = { readonly signal: number; readonly registers: readonly bigint[] };

export const compilers: Record<Architecture, string> = { x86_64: "gcc", aarch64: "aarch64-linux-gnu-gcc" };
/** The AArch64 C library: real code to decode, and what the C programs are linked with. */
export const armLibraryPath = "/usr/aarch64-linux-gnu/lib/libc.so.6";
export const armLibrary: Need = () =>
  existsSync(armLibraryPath) ? null : "the arm64 C library: apt-get install libc6-dev-arm64-cross";

const fill: Record<Architecture, readonly number[]> = { x86_64: [0x90], aarch64: [0x1f, 0x20, 0x03, 0xd5] };

export function execute(architecture: Architecture, executions: readonly Execution[]): readonly Executed[] {
  const directory = mkdtempSync(join(tmpdir(), "holdfast-execute-"));
  try {
    const program = join(directory, "execute");
    const source = join(import.meta.dir, "execute.c");
    const flags = ["-O1", "-static", ...(architecture === "x86_64" ? ["-no-pie"] : [])];
    const built = Bun.spawnSync([compilers[architecture], ...flags, "-o", program, source]);
    assert(built.exitCode === 0, `execute.c was not built: ${built.stderr.toString().slice(0, 400)}`);
    const command = architecture === "x86_64" ? [program] : ["qemu-aarch64-static", program];
    const run = Bun.spawnSync(command, {
      stdin: encode(architecture, executions),
      maxBuffer: outputBytesMax,
      timeout: runTimeoutMs,
    });
    assert(run.exitCode === 0, `execute ended with ${run.exitCode} ${run.signalCode ?? ""}`);
    return decode(new Uint8Array(run.stdout), executions.length);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function encode(architecture: Architecture, executions: readonly Execution[]): Uint8Array<ArrayBuffer> {
  const recordBytes = codeBytes + slots * 8;
  const bytes = new Uint8Array(new ArrayBuffer(executions.length * recordBytes));
  const view = new DataView(bytes.buffer);
  for (const [number, { code, registers }] of executions.entries()) {
    const from = number * recordBytes;
    const pad = fill[architecture];
    for (let at = 0; at < codeBytes; at += 1) bytes[from + at] = pad[at % pad.length] ?? 0;
    bytes.set(code, from);
    for (let slot = 0; slot < slots; slot += 1) {
      view.setBigUint64(from + codeBytes + slot * 8, BigInt.asUintN(64, registers[slot] ?? 0n), true);
    }
  }
  return bytes;
}

function decode(bytes: Uint8Array, count: number): readonly Executed[] {
  const recordBytes = 8 + slots * 8;
  assert(bytes.length === count * recordBytes, `execute answered ${bytes.length} bytes for ${count} executions`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Array.from({ length: count }, (_, number) => {
    const from = number * recordBytes;
    const registers = Array.from({ length: slots }, (__, slot) => view.getBigUint64(from + 8 + slot * 8, true));
    return { signal: Number(view.getBigUint64(from, true)), registers };
  });
}
