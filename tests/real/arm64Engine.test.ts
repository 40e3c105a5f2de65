// SPDX-License-Identifier: Apache-2.0
/**
 * The engine on AArch64 programs, on any machine: servers of the zoo under QEMU's user emulation fault in a request; the
 * first edit is carried out through the emulator's stub, and the sessions of others are as they were.
 *
 * All of it on a whole AArch64 machine, with gdbserver: `bun scripts/lab.ts native --arch arm64`.
 */
import { afterAll, beforeAll, expect } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { decide } from "#appliance/decide.ts";
import { systemClock } from "#clock.ts";
import { ProgramError } from "#errors.ts";
import { apply } from "#suppression/apply.ts";
import { defaultPolicy, plan } from "#suppression/plan.ts";
import { armLibrary } from "#tests/oracles/execute.ts";
import { EmulatedProgram } from "#tests/peers/emulatedProgram.ts";
import { long, need } from "#tests/skip.ts";
import { Client, wordOf } from "./zoo/client.ts";

const timeoutMs = 60_000;
const compiler = "aarch64-linux-gnu-gcc";
const programs = join(import.meta.dir, "zoo/programs");
const settleMs = 20;
const settleTries = 250;

type Case = {
  readonly source: string;
  readonly flags?: readonly string[];
  /** One crash for each word after `die`. */
  readonly words: readonly string[];
  /** What the culprit hears; usually that its request failed, or its end. */
  readonly heard?: RegExp;
};

const lost = /^(cut|said error)$/;
/** The pointer's caller takes -1 for an answer like any other. */
const madeUp = /^(cut|said alive 1)$/;

const cases: readonly Case[] = [
  { source: "registers.c", words: ["direct", "deep"], heard: /^(cut|said error whole)$/ },
  { source: "memory.c", words: ["load", "store", "wild", "noncanonical", "kernel", "readonly", "copy", "length"] },
  { source: "calls.c", words: ["null", "data", "heap", "stack", "unmapped", "kernel"], heard: madeUp },
  { source: "calls.c", words: ["jump"] },
  { source: "depth.c", words: ["small", "large", "alloca", "mutual"] },
  { source: "aborts.c", words: ["abort", "assert", "raise", "tgkill", "own"] },
  { source: "aborts.c", flags: ["-D_FORTIFY_SOURCE=2"], words: ["fortify"] },
  { source: "instructions.c", flags: ["-lm"], words: ["illegal", "trap", "breakpoint", "privileged"] },
  { source: "heap.c", words: ["double", "pointer", "list"] },
  { source: "mapped.c", words: ["read", "write", "copy"] },
];

/** The same programs as other people build theirs; the first of them in every run. */
const builds: readonly (readonly string[])[] = [
  ["-O3", "-fomit-frame-pointer", "-flto", "-mbranch-protection=standard"],
  ["-O0"],
  ["-Os"],
  ["-O2", "-flto"],
  ["-O3", "-fomit-frame-pointer"],
  ["-mbranch-protection=pac-ret+leaf"],
  ["-moutline-atomics", "-march=armv8.2-a"],
];
const rebuilt: readonly Case[] = [
  { source: "registers.c", words: ["deep", "direct"], heard: /^(cut|said error whole)$/ },
  { source: "memory.c", words: ["load", "store"] },
  { source: "calls.c", words: ["null", "heap"], heard: madeUp },
  { source: "depth.c", words: ["small"] },
  { source: "aborts.c", words: ["abort", "assert"] },
  { source: "heap.c", words: ["double"] },
];
const allCases: readonly Case[] = [
  ...cases,
  ...(long("real")
    ? builds.flatMap((flags) => rebuilt.map((one) => ({ ...one, flags })))
    : rebuilt.slice(0, 1).map((one) => ({ ...one, flags: builds[0]! }))),
];

let directory = "";
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "holdfast-arm64-"));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function compile(source: string, flags: readonly string[]): string {
  const output = join(directory, [source, ...flags].join(""));
  if (existsSync(output)) return output;
  const built = Bun.spawnSync([compiler, "-O2", "-w", "-pthread", "-o", output, join(programs, source), ...flags]);
  if (!built.success) throw new ProgramError("program.unsupported", built.stderr.toString());
  return output;
}

async function until<Value>(look: () => Value | null): Promise<Value> {
  for (let tries = 0; tries < settleTries; tries += 1) {
    const found = look();
    if (found !== null) return found;
    await systemClock.sleep(settleMs);
  }
  throw new ProgramError("program.busy", "the emulated program does not get there");
}

for (const { source, flags = [], words, heard = lost } of allCases) {
  for (const word of long("real") ? words : words.slice(0, 2)) {
    need(compiler, "qemu-aarch64-static", armLibrary)(
      `AArch64: ${[source, ...flags].join(" ")} die ${word}`,
      () => crash(compile(source, flags), word, heard),
      timeoutMs,
    );
  }
}

async function crash(executable: string, word: string, expected: RegExp): Promise<void> {
  const place = mkdtempSync(join(directory, "run-"));
  const portFile = join(place, "port");
  await using program = await EmulatedProgram.start(executable, ["epoll", `tcp:${portFile}`], place);
  program.run();
  const port = await until(() => (existsSync(portFile) ? Number(readFileSync(portFile, "utf8")) : null));
  const there = { kind: "tcp", host: "127.0.0.1", port, tls: false } as const;
  using bystander = await Client.open(there);
  using culprit = await Client.open(there);
  expect(wordOf(await bystander.ask("add 20"))).toBe("said 20");
  await program.learnSpine();
  const answer = culprit.ask(`die ${word}`);
  const { report, control } = await program.nextFault();
  const decision = decide(report, plan(report, [], defaultPolicy), [], defaultPolicy);
  const { rung, cutFailure } = await apply(report, decision, control);
  expect(cutFailure).toBeNull();
  expect(["abandon", "quarantine"]).toContain(rung);
  expect(wordOf(await answer)).toMatch(rung === "quarantine" ? /^cut$/ : expected);
  expect(wordOf(await bystander.ask("add 22"))).toBe("said 42");
}
