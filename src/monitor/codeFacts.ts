// SPDX-License-Identifier: Apache-2.0
/**
 * What is prepared of a program's code before any fault: the callees that never return, module by module, in the
 * background. Gets the code map; answers at once, with what is known so far.
 *
 * Limit: 64 KiB of code a step, so that nothing else waits longer than a millisecond for its turn.
 */
import type { CodeMap } from "#binary/codeMap.ts";
import type { ElfImage } from "#binary/elf.ts";
import { NoReturn } from "#binary/noReturn.ts";
import type { Clock } from "#clock.ts";

const stepBytes = 64 * 1024;
const pauseMs = 1;

export class CodeFacts {
  readonly #byImage = new WeakMap<ElfImage, NoReturn>();

  /** False where no code can go on at this return address: see NoReturn. */
  canFollow(map: CodeMap, module: number, offset: number): boolean {
    return this.#of(map.modules[module]!.image).canFollow(offset);
  }

  /** Looks at all code of the program, the main program first. Answers given before stay as they were given. */
  async prepare(map: CodeMap, clock: Clock, signal: AbortSignal): Promise<void> {
    for (const { image } of map.modules) {
      while (!signal.aborted && this.#of(image).step(stepBytes)) await clock.sleep(pauseMs, signal).catch(() => {});
    }
  }

  #of(image: ElfImage): NoReturn {
    const known = this.#byImage.get(image);
    if (known !== undefined) return known;
    const made = new NoReturn(image);
    this.#byImage.set(image, made);
    return made;
  }
}
