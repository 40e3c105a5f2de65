// SPDX-License-Identifier: Apache-2.0
/**
 * A bounded queue between one writer and one reader, read as an async iterable. Full means the oldest go: the writer never
 * waits, and whoever must not lose an item counts them before.
 */
import { Bell } from "./bell.ts";

export class Queue<Item> {
  readonly #items: Item[] = [];
  readonly #bell = new Bell();

  constructor(private readonly itemsMax: number) {}

  push(item: Item): void {
    this.#items.push(item);
    if (this.#items.length > this.itemsMax) this.#items.shift();
    this.#bell.ring();
  }

  /** Ends by throwing the signal's reason. */
  async *read(signal: AbortSignal): AsyncGenerator<Item> {
    for (;;) {
      const item = this.#items.shift();
      if (item !== undefined) yield item;
      else await this.#bell.wait(signal);
    }
  }
}
