// SPDX-License-Identifier: Apache-2.0
/**
 * Runs gdb with sampleStacks.py over a running or a new program. Gets what to sample; gives samples and the code map.
 *
 * gdb sees no separate debug files: the point is to compare on stripped programs. Limit: run time.
 */
import { closeSync, openSync, readSync } from "node:fs";
import { CodeMap } from "#binary/codeMap.ts";
import { type ElfImage, parseElf } from "#binary/elf.ts";
import { segmentFlags, segmentTypes } from "#binary/elfLayout.ts";
import { type Mapping, parseMaps } from "#binary/maps.ts";
import { fromHex, toHex } from "#bytes.ts";
import { ProgramError } from "#errors.ts";

const samplerPath = `${import.meta.dir}/sampleStacks.py`;
const settings = ["set debuginfod enabled off", "set debug-file-directory /nonexistent", "set auto-load off"];
const samplerMsMax = 900_000;
/** Mean time between two stops, ms. */
const gapMs = 4;

export type Emulated = {
  /** Directory with the program's libraries, as unpacked from its packages. */
  readonly root: string;
  /** Process of the emulator, and the socket file of its stub. */
  readonly pid: number;
  readonly stub: string;
};

export type SampleOrder = {
  /**
   * `random`: moments of a running program; `places`: random functions of an emulated one; `fault`: its first fatal signal;
   * `steps`: each instruction from main on.
   */
  readonly mode: "random" | "places" | "fault" | "steps";
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

/** Samples a program that waits in an emulator's stub, from its first instruction on; ends it. */
export async function sampleEmulated(executable: string, emulated: Emulated, order: SampleOrder): Promise<Sampled> {
  if (order.mode === "places") {
    const { frames } = parseElf(await Bun.file(executable).bytes());
    const starts = Array.from({ length: frames.count }, (_, index) => frames.startAt(index));
    await Bun.write(`${order.out}.places`, JSON.stringify(starts));
  }
  await runGdb([executable], order, emulated);
  const codeMap = await emulatedCode(await Bun.file(`${order.out}.maps`).text(), executable, emulated.root);
  const pages = JSON.parse(await Bun.file(`${order.out}.pages`).text()) as { from: string; bytes: string }[];
  const constant = pages.map(({ from, bytes }) => ({ from: BigInt(`0x${from}`), bytes: fromHex(bytes) }));
  return { samples: await readSamples(order.out), codeMap, constant };
}

/** The code map of an emulated program, from the mappings of its emulator, which hides what is code. */
export async function emulatedCode(maps: string, executable: string, root: string): Promise<CodeMap> {
  const mappings = parseMaps(maps);
  const own = mappings.filter(({ path }) => path === executable || path.startsWith(root));
  const images = await readImages(own, false);
  const seen = mappings.map((mapping) => ({ ...mapping, permissions: guestPermissions(mapping, images) }));
  return new CodeMap(seen, images);
}

/** The emulator maps code as data: what is code for the program is said by the file alone. */
function guestPermissions(mapping: Mapping, images: ReadonlyMap<string, ElfImage>): string {
  const image = images.get(mapping.path);
  const isCode = image?.layout.segments.some(
    ({ type, flags, position, fileBytes }) =>
      type === segmentTypes.load &&
      (flags & segmentFlags.execute) !== 0 &&
      mapping.fileOffset >= position - (position % 4096) &&
      mapping.fileOffset < position + fileBytes,
  );
  // Anonymous pages: among them is the emulator's signal trampoline.
  const isTrampoline = image === undefined && mapping.path === "";
  return isCode === true || isTrampoline ? `r${mapping.permissions[1]}xp` : mapping.permissions;
}

async function readImages(mappings: readonly Mapping[], onlyCode = true): Promise<Map<string, ElfImage>> {
  const images = new Map<string, ElfImage>();
  for (const { path, permissions } of mappings) {
    if (!path.startsWith("/") || images.has(path) || (onlyCode && permissions[2] !== "x")) continue;
    const bytes = await Bun.file(path).bytes();
    // Emulated programs map their locale files too, and the emulator hides which mappings are code.
    if (onlyCode || toHex(bytes.subarray(0, 4)) === "7f454c46") images.set(path, parseElf(bytes));
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

async function runGdb(target: readonly string[], order: SampleOrder, emulated?: Emulated): Promise<void> {
  const { mode, out, stacks, seed } = order;
  const sysroot = emulated === undefined ? [] : [`set sysroot ${emulated.root}`];
  const options = [...settings, ...sysroot].flatMap((setting) => ["-iex", setting]);
  const gdbName = emulated === undefined ? "gdb" : "gdb-multiarch";
  const log = `${out}.log`;
  const gdb = Bun.spawn([gdbName, "-nx", "-q", "--batch", ...options, "-x", samplerPath, ...target], {
    env: {
      ...process.env,
      SAMPLE_MODE: mode,
      SAMPLE_OUT: out,
      SAMPLE_STACKS: String(stacks),
      SAMPLE_SEED: String(seed),
      SAMPLE_GAP_MS: String(gapMs),
      ...(emulated === undefined ? {} : { SAMPLE_REMOTE: emulated.stub, SAMPLE_PID: String(emulated.pid) }),
    },
    stdio: ["ignore", Bun.file(log), Bun.file(log)],
    timeout: samplerMsMax,
  });
  if ((await gdb.exited) === 0 && (await Bun.file(out).exists())) return;
  const said = (await Bun.file(log).text()).trim().split("\n").slice(-3).join(" / ");
  throw new ProgramError("program.unsupported", `gdb could not sample: ${said}`, { exitCode: gdb.exitCode });
}
