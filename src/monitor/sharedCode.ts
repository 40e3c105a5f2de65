// SPDX-License-Identifier: Apache-2.0
/**
 * Code that was read once, for all processes that run it: the files of a program's modules, and what was found in them.
 *
 * A file is the same for two processes by its identity (device, inode, size and time of change). Files are held weakly:
 * those that no program runs any more go.
 */
import type { ElfImage } from "#binary/elf.ts";
import { CodeFacts } from "./codeFacts.ts";

/** Names of files that are gone are swept at this many. */
const sweepAt = 256;

export class SharedCode {
  readonly facts = new CodeFacts();
  readonly #images = new Map<string, WeakRef<ElfImage>>();

  find(identity: string): ElfImage | undefined {
    return this.#images.get(identity)?.deref();
  }

  keep(identity: string, image: ElfImage): void {
    if (this.#images.size >= sweepAt) this.#sweep();
    this.#images.set(identity, new WeakRef(image));
  }

  #sweep(): void {
    for (const [identity, image] of this.#images) if (image.deref() === undefined) this.#images.delete(identity);
  }
}
