// SPDX-License-Identifier: Apache-2.0
/**
 * `image/run [FILE]`: boots an image in QEMU with the box's ports on this machine's loopback, so that anybody can try it.
 *
 * The image itself is not written: the box runs on a sparse copy beside it, larger, and finds its data again the next time.
 * The console is this terminal. Ends when the box is switched off, or with Ctrl-C.
 */
import { existsSync, readdirSync, statSync } from "node:fs";
import { rm, truncate } from "node:fs/promises";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { explain } from "#errors.ts";
import { ImageError, run } from "./commands.ts";
import { mib, partitionOf } from "./layout.ts";
import { machineWords } from "./machine.ts";
import type { ImageArchitecture } from "./packages.ts";

const usage = `usage: image/run [FILE.img] [--fresh] [--port 8443] [--forward HOST:BOX]… [--config holdfast.toml] [--claim CODE] [--shell]
                 [--memory MIB] [--processors N] [--size GIB] [--software]

  Boots FILE (default: the newest image that image/build made). The status page is then https://127.0.0.1:8443; the code
  to claim the box is told on the console. --fresh: a new box. --config: what it looks after. --shell: a root shell on
  the console. --software: without KVM, also where it is there. Needs QEMU and its firmware (apt-get install qemu-system-arm qemu-efi-aarch64); no root.`;

const out = join(import.meta.dir, "../.cache/image/out");
const pagePort = 8443;
const gib = 1_073_741_824;

type Trial = {
  readonly image: string;
  readonly isFresh: boolean;
  readonly sizeGiB: number;
  /** File on the boot partition to its text. */
  readonly files: Readonly<Record<string, string>>;
  readonly forwards: readonly (readonly [number, number])[];
  readonly memoryMiB: number;
  readonly processors: number;
  readonly isSoftware: boolean;
};

async function main(words: string[]): Promise<number> {
  const trial = await readTrial(words);
  if (trial === null) {
    console.log(usage);
    return 0;
  }
  const disk = `${trial.image}.box`;
  const machine = { ...trial, disk, architecture: architectureOf(trial.image) };
  const start = machineWords({ ...machine, hasGuests: true });
  if (trial.isFresh) await rm(disk, { force: true });
  if (!existsSync(disk)) await copyDisk(trial.image, disk, trial.sizeGiB * gib);
  await placeFiles(disk, trial.files);
  for (const [from, to] of trial.forwards) console.log(`image/run: 127.0.0.1:${from} is port ${to} of the box`);
  console.log(
    `image/run: the page will be https://127.0.0.1:${trial.forwards[0]![0]}; this is the console, Ctrl-C ends it`,
  );
  const child = Bun.spawn(start, { stdio: ["inherit", "inherit", "inherit"] });
  const ended = await child.exited;
  if (ended !== 0 && child.signalCode !== "SIGINT" && !trial.isSoftware)
    console.error(
      `image/run: QEMU ended with ${child.signalCode ?? ended}; --software boots the box without KVM, slower`,
    );
  return ended;
}

/** A box's disk from an image: sparse, and larger. */
export async function copyDisk(image: string, disk: string, bytes: number): Promise<void> {
  await run(["cp", "--sparse=always", "--reflink=auto", image, disk]);
  if (statSync(disk).size < bytes) await truncate(disk, bytes);
  if (architectureOf(image) === "x86_64") await placeText(disk, "grub/board.cfg", serialConsole);
}

/** A PC's console is its screen; here it is the serial line. */
const serialConsole = 'set board_options="console=ttyS0,115200"\n';

/** Files for the box, into the folder `holdfast` of its boot partition. Needs mtools. */
export async function placeFiles(disk: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, text] of Object.entries(files)) await placeText(disk, `holdfast/${name}`, text);
}

async function placeText(disk: string, path: string, text: string): Promise<void> {
  const at = `${disk}@@${partitionOf("esp").startMiB * mib}`;
  await run(["mcopy", "-o", "-i", at, "-", `::${path}`], { input: text }).catch((cause) => {
    if (!(cause instanceof ImageError) || cause.code !== "image.missing") throw cause;
    throw new ImageError("image.missing", "missing: mcopy (apt-get install mtools)", {}, cause);
  });
}

/** By the name that image/build gives an image. */
export function architectureOf(image: string): ImageArchitecture {
  return /x86_64[^/]*$/.test(image) ? "x86_64" : "arm64";
}

async function readTrial(words: string[]): Promise<Trial | null> {
  const { values, positionals } = parseArgs({
    args: words,
    allowPositionals: true,
    options: {
      fresh: { type: "boolean", default: false },
      port: { type: "string", default: String(pagePort) },
      forward: { type: "string", multiple: true, default: [] },
      config: { type: "string" },
      claim: { type: "string" },
      shell: { type: "boolean", default: false },
      memory: { type: "string", default: "1536" },
      processors: { type: "string", default: "2" },
      size: { type: "string", default: "8" },
      software: { type: "boolean", default: false },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) return null;
  const forwards = values.forward.map((text): readonly [number, number] => {
    const [from, to] = text.split(":");
    return [number(from, "--forward"), number(to, "--forward")];
  });
  const files: Record<string, string> = {};
  if (values.config !== undefined) files["holdfast.toml"] = await Bun.file(values.config).text();
  if (values.claim !== undefined) files["claim.txt"] = `${values.claim}\n`;
  if (values.shell) files.shell = "yes\n";
  return {
    image: imageOf(positionals[0]),
    isFresh: values.fresh,
    sizeGiB: number(values.size, "--size"),
    files,
    forwards: [[number(values.port, "--port"), pagePort], ...forwards],
    memoryMiB: number(values.memory, "--memory"),
    processors: number(values.processors, "--processors"),
    isSoftware: values.software,
  };
}

/** The one that is named, else the newest that was built. @throws ImageError image.input */
export function imageOf(named: string | undefined): string {
  if (named !== undefined) {
    if (!existsSync(named)) throw new ImageError("image.input", `there is no file ${named}`);
    return resolve(named);
  }
  const images = existsSync(out) ? readdirSync(out).filter((name) => name.endsWith(".img")) : [];
  const newest = images.map((name) => join(out, name)).sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)[0];
  if (newest === undefined) throw new ImageError("image.input", "no image is there yet: build one with image/build");
  return newest;
}

function number(text: string | undefined, option: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 65_535) {
    throw new ImageError("image.input", `${option} wants whole numbers from 1 to 65535, not ${text ?? "nothing"}`);
  }
  return value;
}

if (import.meta.main) {
  try {
    process.exit(await main(process.argv.slice(2)));
  } catch (error) {
    console.error(`image/run: ${explain(error)}`);
    process.exit(error instanceof ImageError && error.code === "image.missing" ? 69 : 1);
  }
}
