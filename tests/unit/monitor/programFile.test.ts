// SPDX-License-Identifier: Apache-2.0
/**
 * Which commands can be guarded. Gets real files in a scratch folder; gives the file that runs, or the error a user sees.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HoldfastError } from "#errors.ts";
import { resolveProgram, scriptInterpreter } from "#monitor/programFile.ts";

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "holdfast-program-"));
  const elf = (bits: number, machine: number): Uint8Array => {
    const head = new Uint8Array(64);
    head.set([0x7f, 0x45, 0x4c, 0x46, bits, 1, 1]);
    head[18] = machine;
    return head;
  };
  const put = (name: string, content: string | Uint8Array, mode = 0o755): void => {
    writeFileSync(join(folder, name), content);
    chmodSync(join(folder, name), mode);
  };
  put("server", elf(2, 62));
  put("arm", elf(2, 183));
  put("old", elf(1, 3));
  put("riscv", elf(2, 243));
  put("plain", "just text\n");
  put("denied", elf(2, 62), 0o644);
  put("script", `#!${join(folder, "server")} -x\n`);
  put("byEnv", "#!/usr/bin/env -S server --now\n");
  put("orphan", "#!/no/such/interpreter\n");
  put("loop", `#!${join(folder, "loop")}\n`);
});
afterAll(() => rmSync(folder, { recursive: true }));

const resolve = (command: string): string => resolveProgram(command, `/nowhere:${folder}`, "x86_64");
const codeOf = (command: string): string => {
  try {
    return `found ${resolve(command)}`;
  } catch (error) {
    return error instanceof HoldfastError ? error.code : String(error);
  }
};

test("found on PATH, by path, and through scripts", () => {
  expect(resolve("server")).toBe(join(folder, "server"));
  expect(resolve(join(folder, "server"))).toBe(join(folder, "server"));
  expect(resolve("script")).toBe(join(folder, "server"));
  expect(resolve("byEnv")).toBe(join(folder, "server"));
});

test("everything else is refused with its own code", () => {
  expect(["absent", "./absent", "orphan"].map(codeOf)).toEqual(Array(3).fill("program.notFound"));
  expect(["denied", folder].map(codeOf)).toEqual(Array(2).fill("program.notExecutable"));
  expect(["old", "riscv", "arm", "plain", "loop"].map(codeOf)).toEqual(Array(5).fill("program.unsupported"));
});

test("an interpreter line without an interpreter is none", () => {
  const of = (text: string): string | null => scriptInterpreter(new TextEncoder().encode(text));
  expect([of("#!"), of("#! \n"), of("#!/usr/bin/env\n"), of("no"), of("")]).toEqual([null, null, null, null, null]);
  expect(of("#!/usr/bin/env A=1 python3 -u\n")).toBe("python3");
});
