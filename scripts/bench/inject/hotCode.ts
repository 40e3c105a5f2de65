// SPDX-License-Identifier: Apache-2.0
/**
 * Which functions of a program run all the time under load, and where in them a fault can be set up.
 *
 * Gets a running program under load and a relay on its stub; gives the functions of the program's own text, or of one of its
 * libraries, that threads enter in most of `windows` short windows. A function is what a frame description entry covers.
 * x86-64 only.
 */
import { readlinkSync } from "node:fs";
import { basename } from "node:path";
import { CodeMap } from "#binary/codeMap.ts";
import { type ElfImage, parseElf } from "#binary/elf.ts";
import { parseMaps } from "#binary/maps.ts";
import { NoReturn } from "#binary/noReturn.ts";
import type { Clock, Random } from "#clock.ts";
import { assert, ConfigError } from "#errors.ts";
import type { RelayPlace } from "./relayPlace.ts";

const windows = 5;
const windowMs = 200;
/** So long the stub takes to watch one function, where a program has thousands. */
const watchMs = 0.4;
/** Of a program that has more, every second, third, … is looked at. */
const functionsMax = 8_000;
const windowsMin = 4;
const waitMsMax = 5_000;
const scanStepBytes = 1_000_000;

export type CodeFunction = { readonly start: number; readonly end: number };

/** The text of one file of a running program, and how far it was moved. */
export class ProgramText {
  readonly image: ElfImage;
  readonly noReturn: NoReturn;
  readonly functions: readonly CodeFunction[];

  private constructor(
    readonly path: string,
    bytes: Uint8Array,
  ) {
    this.image = parseElf(bytes);
    this.noReturn = new NoReturn(this.image);
    while (this.noReturn.step(scanStepBytes));
    this.functions = functionsOf(this.image);
  }

  static async read(path: string): Promise<ProgramText> {
    return new ProgramText(path, await Bun.file(path).bytes());
  }

  /** Of the program itself, or of the library that the process has mapped under a name that begins so. @throws ConfigError */
  static async ofProcess(pid: number, library: string | null): Promise<ProgramText> {
    if (library === null) return await ProgramText.read(readlinkSync(`/proc/${pid}/exe`));
    const mapped = (await mapsOf(pid)).map(({ path }) => path ?? "");
    const path = mapped.find((one) => basename(one).startsWith(library));
    if (path !== undefined) return await ProgramText.read(path);
    const known = [...new Set(mapped.map((one) => basename(one)).filter((name) => name.includes(".so")))];
    throw new ConfigError("config.argument", `no library ${library} in this server; it has ${known.join(", ")}`);
  }

  /** Address in the process minus address in the file. */
  async biasIn(pid: number): Promise<number> {
    return await biasOf(pid, this.path, this.image);
  }
}

/** Functions with code of their own. The linkage stubs are one entry whose code calls nothing and returns nowhere. */
function functionsOf(image: ElfImage): CodeFunction[] {
  const stubs = image.layout.sections.filter(({ name }) => name.startsWith(".plt"));
  const found: CodeFunction[] = [];
  for (let index = 0; index < image.frames.count; index += 1) {
    const start = image.frames.startAt(index);
    const fde = image.fdeAt(start);
    if (fde === null || fde.start !== start || fde.end - fde.start < 8) continue;
    if (stubs.some(({ offset, lengthBytes }) => start >= offset && start < offset + lengthBytes)) continue;
    found.push({ start, end: fde.end });
  }
  return found;
}

const mapsOf = async (pid: number) => parseMaps(await Bun.file(`/proc/${pid}/maps`).text());

/** How far a file was moved in a process. @throws BinaryError */
export async function biasOf(pid: number, path: string, image: ElfImage): Promise<number> {
  const map = new CodeMap(await mapsOf(pid), new Map([[path, image]]));
  const module = map.modules[0];
  assert(module !== undefined, "the process does not map the file", { pid, path });
  return Number(module.bias);
}

/** The hot functions, in the order of their addresses. */
export async function findHot(
  text: ProgramText,
  pid: number,
  relay: RelayPlace,
  clock: Clock,
): Promise<readonly CodeFunction[]> {
  const bias = await text.biasIn(pid);
  const seen = new Map<number, number>();
  const stride = Math.ceil(text.functions.length / functionsMax);
  const watched = text.functions.filter((_, index) => index % stride === 0);
  for (let window = 0; window < windows; window += 1) {
    const from = relay.reports.length;
    relay.send({ order: "watch", pid, places: watched.map(({ start }) => start + bias) });
    await clock.sleep(Math.max(windowMs, watchMs * watched.length));
    relay.send({ order: "clear", pid });
    const cleared = await relay.waitFor(({ report }) => report === "cleared", waitMsMax, from);
    assert(cleared !== null, "the relay does not answer");
    for (const report of relay.reports.slice(from)) {
      if (report.report === "passed") seen.set(report.place - bias, (seen.get(report.place - bias) ?? 0) + 1);
    }
  }
  return text.functions.filter(({ start }) => (seen.get(start) ?? 0) >= windowsMin);
}

/** A random order that a seed repeats. */
export function shuffled<Item>(items: readonly Item[], random: Random): Item[] {
  const left = [...items];
  for (let at = left.length - 1; at > 0; at -= 1) {
    const other = Math.floor(random() * (at + 1));
    [left[at], left[other]] = [left[other]!, left[at]!];
  }
  return left;
}
