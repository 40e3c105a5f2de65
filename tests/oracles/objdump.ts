// SPDX-License-Identifier: Apache-2.0
/** objdump as an oracle: gets an ELF file, gives the address and text of every instruction of its `.text`. */
import { assert } from "#errors.ts";

export type Listed = { readonly address: number; readonly text: string };

const outputBytesMax = 1 << 28;
const line = /^\s*([0-9a-f]+):\t(.*)$/;

export function listText(path: string, program = "objdump"): readonly Listed[] {
  const run = Bun.spawnSync([program, "-d", "--no-show-raw-insn", "-j", ".text", path], { maxBuffer: outputBytesMax });
  assert(run.exitCode === 0, `objdump ended with ${run.exitCode}`, { path });
  const listed: Listed[] = [];
  for (const row of run.stdout.toString().split("\n")) {
    const [, at, text] = line.exec(row) ?? [];
    if (at !== undefined && text !== undefined) listed.push({ address: Number.parseInt(at, 16), text });
  }
  return listed;
}
