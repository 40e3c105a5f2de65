// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast guard` run as a user runs it: with an environment, a user id and words of one's own; what it prints is kept.
 *
 * Gets words; gives its events, its text and its exit code. Disposal ends the guard and what it guarded, by process id.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startTicksOf, tracerOf } from "#appliance/demo/processFacts.ts";
import { systemClock } from "#clock.ts";

export type GuardEvent = { readonly event: string; readonly [field: string]: unknown };

export type GuardRunOptions = {
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** Words before `bun`, such as setpriv with its options. */
  readonly under?: readonly string[];
  readonly directory?: string;
  /** Without: the text form, on standard error. */
  readonly json?: boolean;
  readonly stdout?: "pipe" | number;
};

const lookMs = 5;
const waitMsMax = 30_000;
const endMsMax = 5_000;
const verb = [process.execPath, join(import.meta.dir, "../../src/cli/main.ts"), "guard"];
let names = 0;

/** A name that no other test has. */
export function freshName(kind: string): string {
  names += 1;
  return `${kind}-${process.pid}-${names}`;
}

/** Looks until it holds. @throws TypeError where it does not within half a minute */
export async function until(holds: () => boolean, what = String(holds)): Promise<void> {
  const endNs = systemClock.monotonicNs() + waitMsMax * 1e6;
  while (!holds()) {
    if (systemClock.monotonicNs() > endNs) throw new TypeError(`never: ${what}`);
    await systemClock.sleep(lookMs);
  }
}

export class GuardRun implements AsyncDisposable {
  readonly scratch = mkdtempSync(join(tmpdir(), "holdfast-guard-"));
  readonly #child: Bun.Subprocess;
  readonly #outPath = join(this.scratch, "out");
  readonly #errorPath = join(this.scratch, "error");

  constructor(
    readonly words: readonly string[],
    { environment = {}, under = [], directory, json = true, stdout = "pipe" }: GuardRunOptions = {},
  ) {
    const state = words.includes("--state") ? [] : ["--state", join(this.scratch, "state")];
    const form = json ? ["--json"] : [];
    this.#child = Bun.spawn([...under, ...verb, ...form, ...state, ...words], {
      env: { ...process.env, ...environment },
      ...(directory === undefined ? {} : { cwd: directory }),
      stdin: "ignore",
      stdout: stdout === "pipe" ? Bun.file(this.#outPath) : stdout,
      stderr: Bun.file(this.#errorPath),
      detached: true,
    });
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Standard error so far. */
  get said(): string {
    return readText(this.#errorPath);
  }

  get out(): string {
    return readText(this.#outPath);
  }

  /** Whole lines of standard output that are events. */
  get events(): readonly GuardEvent[] {
    const lines = this.out.split("\n").slice(0, -1);
    return lines.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line) as GuardEvent);
  }

  seen(event: string): readonly GuardEvent[] {
    return this.events.filter((one) => one.event === event);
  }

  /** The event of that name, the nth (from 1), as soon as it is there. */
  async event(name: string, nth = 1): Promise<GuardEvent> {
    await until(() => this.seen(name).length >= nth || this.ended, `${name} ${nth}: ${this.out}${this.said}`);
    const found = this.seen(name)[nth - 1];
    if (found === undefined) throw new TypeError(`the guard ended without ${name}: ${this.out}${this.said}`);
    return found;
  }

  /** The process that is guarded. */
  async guarding(nth = 1): Promise<number> {
    return Number((await this.event("guarding", nth)).pid);
  }

  get ended(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** Its exit code. */
  async end(): Promise<number | null> {
    await until(() => this.ended, `the end of ${this.words.join(" ")}: ${this.out}${this.said}`);
    return this.#child.exitCode;
  }

  signal(name: NodeJS.Signals): void {
    process.kill(this.pid, name);
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.ended) await this.#endAll();
    rmSync(this.scratch, { recursive: true, force: true });
  }

  /** A guard that a test has not ended itself goes with its program; what else runs is the test's own affair. */
  async #endAll(): Promise<void> {
    this.#child.kill("SIGTERM");
    await Promise.race([this.#child.exited, systemClock.sleep(endMsMax)]);
    this.#child.kill("SIGKILL");
    for (const { event, pid, attached } of this.events) {
      if (event !== "guarding" || attached === true || startTicksOf(Number(pid)) === null) continue;
      for (const left of [Number(pid), tracerOf(Number(pid))]) if (left > 1) process.kill(left, "SIGKILL");
    }
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // Nothing was written yet.
  }
}
