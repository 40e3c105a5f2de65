// SPDX-License-Identifier: Apache-2.0
/**
 * The lock: of which Debian packages an image and its tools were made, as `image/lock/NAME.tsv`. Gets what was unpacked;
 * tells what differs.
 *
 * Debian's archive keeps one version of a package and moves on, so a difference is told, and an error only where the
 * builder asks for the lock; an archive of snapshots (`--mirror`) has the versions of any day.
 */
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ImageError } from "./commands.ts";

/** `follow`: differences are told. `obey`: they end the build. `write`: the lock is made of what was unpacked. */
export type LockUse = "follow" | "obey" | "write";

const shownMax = 5;
const lockOf = (name: string): string => join(import.meta.dir, "lock", `${name}.tsv`);

/** @throws ImageError image.input where the lock is to be obeyed and is not met */
export async function compareWithLock(
  name: string,
  record: string,
  use: LockUse,
  tell: (text: string) => void,
): Promise<void> {
  const path = lockOf(name);
  const unpacked = await readFile(record, "utf8");
  if (use === "write") {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, unpacked);
    return tell(`image/lock/${name}.tsv is written`);
  }
  const locked = existsSync(path) ? await readFile(path, "utf8") : "";
  const differing = differences(locked, unpacked);
  if (differing.length === 0) return;
  const more = differing.length > shownMax ? ` and ${differing.length - shownMax} more` : "";
  const text = `${differing.length} packages of ${name} are not those of image/lock: ${differing.slice(0, shownMax).join(", ")}${more}`;
  if (use === "obey") throw new ImageError("image.input", text);
  tell(text);
}

/** What differs, as `NAME OLD > NEW`; `-` where it is absent. */
export function differences(locked: string, unpacked: string): string[] {
  const [before, after] = [versions(locked), versions(unpacked)];
  const names = [...new Set([...before.keys(), ...after.keys()])].sort();
  return names
    .filter((name) => before.get(name)?.line !== after.get(name)?.line)
    .map((name) => `${name} ${before.get(name)?.version ?? "-"} > ${after.get(name)?.version ?? "-"}`);
}

function versions(text: string): Map<string, { version: string; line: string }> {
  const lines = text.split("\n").filter((line) => line !== "");
  return new Map(
    lines.map((line) => {
      const [name, version] = line.split("\t") as [string, string];
      return [name, { version, line }];
    }),
  );
}
