// SPDX-License-Identifier: Apache-2.0
/**
 * Runs gdb with sampleStacks.py over a running or a new program. Gets what to sample; gives samples and the code map.
 *
 * gdb sees no separate debug files: the point is to compare on stripped programs. Limit: run time.
 */
import { closeSync, openSync, readSync } from "node:fs";
import { CodeMap } from "#binary/codeMap.ts";
import { type ElfImage, parseElf } from "#binary/elf.ts";
import { type Mapping, parseMaps } from "#binary/maps.ts";
import { ProgramError } from "#errors.ts";

const samplerPath = `${import.meta.dir}/sampleStacks.py`;
const settings = ["set debuginfod enabled off", "set debug-file-directory /nonexistent", "set auto-load off"];
const samplerMsMax = 900_000;
/** Mean time between two stops, ms. */
const gapMs = 4;

export type SampleOrder = {
  /** `random`: moments of a running program; `fault`: its first fatal signal; `steps`: each instruction from main on. */
  readonly mode: "random" | "fault" | "steps";
  readonly stacks: number;
  readonly seed: number;
  /** File the samples are written to. */
  readonly out: string;
};

/** One line of sampleStacks.py. Numbers are hex without prefix. */
export type Sample = {
  readonly thread: number;
  readonly registers: readonly string[];
  readonly frames: readonly {
    readonly pc: string;
    readonly sp: string;
    readonly type: "normal" | "signal";
    readonly saved: Readonly<Record<string, string>>;
  }[];
  readonly reason: string;
  readonly memory: readonly { readonly from: string; readonly bytes: string }[];
};

export type MemoryRange = { readonly from: bigint; readonly bytes: Uint8Array };

export type Sampled = {
  readonly samples: readonly Sample[];
  readonly codeMap: CodeMap;
  /** Memory that does not change after relocation (slots of the linkage tables), where it was read. */
  readonly constant: readonly MemoryRange[];
};

/** Samples a process that runs already. It runs on afterwards. */
export async function sampleRunning(pid: number, order: SampleOrder): Promise<Sampled> {
  await runGdb(["-p", String(pid)], order);
  const mappings = parseMaps(await Bun.file(`/proc/${pid}/maps`).text());
  const images = await readImages(mappings);
  const vdso = mappings.find((mapping) => mapping.path === "[vdso]");
  if (vdso !== undefined) {
    images.set(vdso.path, parseElf(readMemory(pid, vdso.start, Number(vdso.end - vdso.start)).bytes));
  }
  const codeMap = new CodeMap(mappings, images);
  const constant = codeMap.modules.flatMap(({ image: { relro }, bias }) =>
    relro === null ? [] : [readMemory(pid, bias + BigInt(relro.start), relro.end - relro.start)],
  );
  return { samples: await readSamples(order.out), codeMap, constant };
}

/** Starts a program under gdb, samples it, and ends it. Its vdso is not seen. */
export async function sampleStarted(command: readonly string[], order: SampleOrder): Promise<Sampled> {
  await runGdb(["--args", ...command], order);
  const mappings = parseMaps(await Bun.file(`${order.out}.maps`).text());
  return {
    samples: await readSamples(order.out),
    codeMap: new CodeMap(mappings, await readImages(mappings)),
    constant: [],
  };
}

async function readImages(mappings: readonly Mapping[]): Promise<Map<string, ElfImage>> {
  const images = new Map<string, ElfImage>();
  for (const { path, permissions } of mappings) {
    if (permissions[2] !== "x" || !path.startsWith("/") || images.has(path)) continue;
    images.set(path, parseElf(await Bun.file(path).bytes()));
  }
  return images;
}

function readMemory(pid: number, from: bigint, lengthBytes: number): MemoryRange {
  const memory = openSync(`/proc/${pid}/mem`, "r");
  try {
    const bytes = new Uint8Array(lengthBytes);
    return { from, bytes: bytes.subarray(0, readSync(memory, bytes, 0, lengthBytes, Number(from))) };
  } finally {
    closeSync(memory);
  }
}

async function readSamples(path: string): Promise<readonly Sample[]> {
  const lines = (await Bun.file(path).text()).trim().split("\n");
  return lines.filter((line) => line !== "").map((line) => JSON.parse(line) as Sample);
}

async function runGdb(target: readonly string[], { mode, out, stacks, seed }: SampleOrder): Promise<void> {
  const options = settings.flatMap((setting) => ["-iex", setting]);
  const log = `${out}.log`;
  const gdb = Bun.spawn(["gdb", "-nx", "-q", "--batch", ...options, "-x", samplerPath, ...target], {
    env: {
      ...process.env,
      SAMPLE_MODE: mode,
      SAMPLE_OUT: out,
      SAMPLE_STACKS: String(stacks),
      SAMPLE_SEED: String(seed),
      SAMPLE_GAP_MS: String(gapMs),
    },
    stdio: ["ignore", Bun.file(log), Bun.file(log)],
    timeout: samplerMsMax,
  });
  if ((await gdb.exited) === 0 && (await Bun.file(out).exists())) return;
  const said = (await Bun.file(log).text()).trim().split("\n").slice(-3).join(" / ");
  throw new ProgramError("program.unsupported", `gdb could not sample: ${said}`, { exitCode: gdb.exitCode });
}
