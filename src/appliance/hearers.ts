// SPDX-License-Identifier: Apache-2.0
/** Those who hear every notice of a supervisor: first the workload book, later whoever is opened with it. */
import type { Notice } from "./notices.ts";

/** Must not throw. */
export type Hearer = (notice: Notice) => void;

export class Hearers {
  readonly #all: Hearer[];

  constructor(...first: Hearer[]) {
    this.#all = first;
  }

  readonly hear: Hearer = (notice) => {
    for (const hear of this.#all) hear(notice);
  };

  add(hearer: Hearer): Disposable {
    this.#all.push(hearer);
    return { [Symbol.dispose]: () => void this.#all.splice(this.#all.indexOf(hearer), 1) };
  }
}
