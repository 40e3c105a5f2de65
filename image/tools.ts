// SPDX-License-Identifier: Apache-2.0
/**
 * The folder of tools: a small Debian tree of this machine's own architecture, so that every builder uses the same versions.
 *
 * Gets a cache; gives a way to run a tool. Nothing is mounted: a tool sees the files of one build under `/build`, which is a
 * folder inside the tree, one for each build that runs (the words of a tool are put right as it is run). Needs root (chroot) and mmdebstrap. About 400 MB, made once.
 */
import { existsSync } from "node:fs";
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { ImageError, run } from "./commands.ts";
import { compareWithLock, type LockUse } from "./lock.ts";
import { suite, toolPackages, toolsVersion } from "./packages.ts";

/** Where Debian's packages come from (null: as this machine's own apt is told), and what the lock is worth. */
export type Archive = { readonly mirror: string | null; readonly lock: LockUse };

export type Tools = {
  /** The folder that the tools see as /build. */
  readonly work: string;
  /** Runs a tool; paths in its words are as it sees them. */
  readonly run: (words: readonly string[], input?: string) => Promise<string>;
  readonly root: string;
  readonly sourceDateEpoch: number;
};

const path = "/usr/sbin:/usr/bin:/sbin:/bin";

/** `sourceDateEpoch`: the seconds that every tool takes for now. */
export async function openTools(
  archive: Archive,
  cache: string,
  sourceDateEpoch: number,
  tell: (text: string) => void,
): Promise<Tools> {
  const own = process.arch === "arm64" ? "arm64" : "amd64";
  const root = join(cache, `tools-${own}-${toolsVersion}`);
  if (!existsSync(root)) {
    tell(`making the folder of tools (Debian ${suite}, ${own}), once`);
    await unpackDebian(archive, own, toolPackages, root);
  }
  await compareWithLock(`tools-${own}`, join(root, packageRecord), archive.lock, tell);
  for (const name of await readdir(root)) {
    const isLeft = /^build-\d+$/.test(name) && !existsSync(`/proc/${name.slice("build-".length)}`);
    if (isLeft) await rm(join(root, name), { recursive: true });
  }
  const inside = `/build-${process.pid}`;
  const work = join(root, inside);
  await mkdir(work, { recursive: true });
  const environment = {
    PATH: path,
    SOURCE_DATE_EPOCH: String(sourceDateEpoch),
    MTOOLS_SKIP_CHECK: "1",
    HOME: "/root",
    TMPDIR: inside,
  };
  return {
    work,
    root,
    sourceDateEpoch,
    run: (words, input) =>
      run(["chroot", root, ...words.map((word) => word.replaceAll(/\/build\b(?!-)/g, inside))], {
        environment,
        ...(input === undefined ? {} : { input }),
      }),
  };
}

/** Of what a tree was made: a line a package, with name, version, architecture and the SHA-256 of its file. */
export const packageRecord = "packages.tsv";
const recordPackages = join(import.meta.dir, "system/record-packages");

/**
 * Packages and all they need, unpacked; no script of theirs runs, so any architecture can be unpacked on any. `prune` takes
 * out what is not to be kept.
 */
export async function unpackDebian(
  archive: Archive,
  architecture: string,
  packages: readonly string[],
  target: string,
  prune: (draft: string) => Promise<void> = async () => {},
): Promise<void> {
  if (process.getuid?.() !== 0) throw new ImageError("image.input", "unpacking Debian packages needs root");
  const draft = `${target}.draft`;
  await rm(draft, { recursive: true, force: true });
  // Its own sandbox user must be able to reach the tree, whatever our umask is.
  const umask = process.umask(0o022);
  try {
    const include = `--include=${packages.join(",")}`;
    const hook = `--extract-hook=${recordPackages}`;
    await run([
      "mmdebstrap",
      "--variant=extract",
      `--architectures=${architecture}`,
      include,
      hook,
      suite,
      draft,
      ...(archive.mirror === null ? [] : [archive.mirror]),
    ]);
  } finally {
    process.umask(umask);
  }
  await prune(draft);
  await rename(draft, target);
}
