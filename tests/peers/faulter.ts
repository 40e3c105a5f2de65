// SPDX-License-Identifier: Apache-2.0
/**
 * Compiles and runs faulter.c, and talks to it line by line. Dispose it to end the program.
 */
import { existsSync, mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deadline } from "#clock.ts";
import { abortable } from "#tasks.ts";

const answerTimeoutMs = 10_000;

/** Path of the compiled program; compiled once a run of tests. */
export function compileFaulter(): string {
  const directory = join(tmpdir(), `holdfast-faulter-${process.pid}`);
  const binary = join(directory, "faulter");
  if (existsSync(binary)) return binary;
  mkdirSync(directory, { recursive: true });
  const source = join(import.meta.dir, "faulter.c");
  const made = Bun.spawnSync(["gcc", "-O1", "-g0", "-pthread", "-Wall", "-Werror", "-o", binary, source]);
  if (!made.success) throw new TypeError(`faulter.c does not compile: ${made.stderr.toString()}`);
  return binary;
}

export class Faulter implements AsyncDisposable {
  readonly #process = Bun.spawn([compileFaulter()], { stdin: "pipe", stdout: "pipe", stderr: "inherit" });
  readonly #output = this.#process.stdout.getReader();
  readonly #decoder = new TextDecoder();
  #rest = "";

  static async start(): Promise<Faulter> {
    const faulter = new Faulter();
    await faulter.until("ready");
    return faulter;
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** Exit code once it has ended, the signal's name where one ended it, null while it runs. */
  get ended(): number | string | null {
    return this.#process.exitCode ?? this.#process.signalCode;
  }

  async end(): Promise<number | string | null> {
    await this.#process.exited;
    return this.ended;
  }

  tell(command: string): void {
    this.#process.stdin.write(`${command}\n`);
    this.#process.stdin.flush();
  }

  /** The first line from now on that begins with `start`. */
  async until(start: string): Promise<string> {
    using limit = deadline(answerTimeoutMs, () => new TypeError(`faulter did not say ${start}`));
    for (;;) {
      const end = this.#rest.indexOf("\n");
      if (end < 0) {
        const { done, value } = await abortable(this.#output.read(), limit.signal);
        if (done) throw new TypeError(`faulter ended before it said ${start}`);
        this.#rest += this.#decoder.decode(value, { stream: true });
        continue;
      }
      const line = this.#rest.slice(0, end);
      this.#rest = this.#rest.slice(end + 1);
      if (line.startsWith(start)) return line;
    }
  }

  /** What its 16 counting threads have counted. */
  async count(): Promise<number> {
    this.tell("count");
    return Number((await this.until("count ")).slice("count ".length));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#process.exited;
  }
}
