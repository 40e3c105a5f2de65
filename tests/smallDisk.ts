// SPDX-License-Identifier: Apache-2.0
/**
 * A small file system in memory at a directory, to be filled, made read-only and unmounted. Needs root and mount(8).
 */
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert } from "#errors.ts";

const mountBytes = 2 * 1024 * 1024;
const smallestBytes = 512;

export class SmallDisk implements Disposable {
  /** Makes and mounts `directory`. */
  constructor(readonly directory: string) {
    mkdirSync(directory, { recursive: true });
    run("mount", "-t", "tmpfs", "-o", `size=${mountBytes},mode=0700`, "none", directory);
  }

  /** Fills it to the last byte. */
  fill(): void {
    for (let bytes = mountBytes; bytes >= smallestBytes; bytes = Math.floor(bytes / 2)) {
      try {
        for (let part = 0; ; part += 1) writeFileSync(this.#filler(`${bytes}-${part}`), Buffer.alloc(bytes));
      } catch {
        // Full for this size: smaller ones may still fit.
      }
    }
  }

  makeRoom(): void {
    for (const name of readdirSync(this.directory)) {
      if (name.startsWith("filler")) rmSync(join(this.directory, name));
    }
  }

  setWritable(writable: boolean): void {
    run("mount", "-o", `remount,${writable ? "rw" : "ro"}`, this.directory);
  }

  [Symbol.dispose](): void {
    run("umount", this.directory);
  }

  #filler(name: string): string {
    return join(this.directory, `filler-${name}`);
  }
}

function run(...words: string[]): void {
  const { exitCode, stderr } = Bun.spawnSync(words);
  assert(exitCode === 0, `${words.join(" ")}: ${stderr.toString()}`);
}
