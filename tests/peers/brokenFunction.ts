// SPDX-License-Identifier: Apache-2.0
/**
 * A function of one running process, broken on purpose: its first instruction reads address 0. Gets a process and the name
 * of a function that its program exports; mends it when disposed.
 *
 * Written through /proc/PID/mem, so the page is that process's own copy: its siblings run the function as it was. Needs
 * root and `nm`. Nothing of Holdfast takes part.
 */
import { closeSync, openSync, readFileSync, readlinkSync, readSync, writeSync } from "node:fs";

/** `mov rax, [0]`, and `mov x16, xzr; ldr x16, [x16]`. */
const readNull: Readonly<Record<string, string>> = { x64: "488b042500000000", arm64: "f0031faa100240f9" };

export function breakFunction(pid: number, symbol: string, file = readlinkSync(`/proc/${pid}/exe`)): Disposable {
  const at = biasOf(pid, file) + offsetOf(symbol, file);
  const memory = openSync(`/proc/${pid}/mem`, "r+");
  const bytes = Buffer.from(readNull[process.arch]!, "hex");
  const before = Buffer.alloc(bytes.length);
  readSync(memory, before, 0, before.length, at);
  writeSync(memory, bytes, 0, bytes.length, at);
  return {
    [Symbol.dispose]() {
      try {
        writeSync(memory, before, 0, before.length, at);
      } catch {
        // It has ended: nothing is left to be mended.
      }
      closeSync(memory);
    },
  };
}

/** Address in memory minus address in the file, of a program that is mapped from its start. */
function biasOf(pid: number, file: string): number {
  const first = readFileSync(`/proc/${pid}/maps`, "latin1")
    .split("\n")
    .find((line) => line.endsWith(file));
  const type = Buffer.from(new Uint8Array(readFileSync(file).buffer, 16, 2)).readUInt16LE(0);
  return type === 2 ? 0 : Number.parseInt(first!.split("-")[0]!, 16);
}

function offsetOf(symbol: string, file: string): number {
  const listed = Bun.spawnSync(["nm", "-D", "--defined-only", file]).stdout.toString();
  const row = new RegExp(`^([0-9a-f]+) [Tt] ${symbol}(@.*)?$`, "m").exec(listed);
  if (row === null) throw new TypeError(`${file} exports no ${symbol}`);
  return Number.parseInt(row[1]!, 16);
}
