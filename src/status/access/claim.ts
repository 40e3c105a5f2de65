// SPDX-License-Identifier: Apache-2.0
/**
 * The one-time code that makes the first admin: ten characters, 50 bits, told on the console only. There is no default
 * password. ETSI EN 303 645, provision 5.1-1.
 *
 * The window closes with its first use and after a day; it opens again with the next start of an unclaimed supervisor, or
 * by a file `claim` that somebody with access to the state directory puts there (its first line is the code).
 */
import { randomBytes, timingSafeEqual } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "#clock.ts";
import { limits } from "../settings.ts";
import { hashOf } from "./accounts.ts";

/** Crockford's letters: none that is taken for another. */
const letters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const codeLength = 10;
const fileCodeLeast = 10;

export class Claim {
  readonly #clock: Clock;
  readonly #directory: string;
  #hash: string | null = null;
  #endsNs = 0;

  constructor(directory: string, clock: Clock) {
    this.#directory = directory;
    this.#clock = clock;
  }

  /** Opens the window and gives the code for the console. */
  open(): string {
    const code = [...randomBytes(codeLength)].map((byte) => letters[byte % 32]!).join("");
    this.#set(code);
    return `${code.slice(0, 5)}-${code.slice(5)}`;
  }

  get isOpen(): boolean {
    this.#readFile();
    return this.#hash !== null && this.#clock.monotonicNs() < this.#endsNs;
  }

  /** True for the code, and only once. */
  use(code: string): boolean {
    if (!this.isOpen || this.#hash === null) return false;
    const right = timingSafeEqual(Buffer.from(hashOf(plain(code))), Buffer.from(this.#hash));
    if (right) this.#hash = null;
    return right;
  }

  #set(code: string): void {
    this.#hash = hashOf(plain(code));
    this.#endsNs = this.#clock.monotonicNs() + limits.claimMs * 1e6;
  }

  /** A claim file is taken once: it is removed as it is read. */
  #readFile(): void {
    const path = join(this.#directory, "claim");
    try {
      const code = readFileSync(path, "utf8").split("\n")[0]!.trim();
      rmSync(path);
      if (plain(code).length >= fileCodeLeast) this.#set(code);
    } catch {
      // Nobody has put one there.
    }
  }
}

/** As people type it: no matter the case, dashes and blanks, O for 0, I and L for 1. */
const plain = (code: string): string =>
  code.toUpperCase().replaceAll(/[\s-]/g, "").replaceAll("O", "0").replaceAll(/[IL]/g, "1");
