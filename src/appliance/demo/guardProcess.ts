// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast guard --json` as a child process: started, read line by line, stopped.
 *
 * Gets what to guard; gives the events in order and waits for some of them. The guard stops what it started when it is told
 * to stop. Keeps all events of a run, at most `eventsMax`; output of the guarded program goes to a file.
 */
import { deadline } from "#clock.ts";
import { ProgramError } from "#errors.ts";
import { type GuardEvent, type GuardingEvent, type OutcomeEvent, readGuardLine } from "./guardEvents.ts";
import { tracerOf } from "./processFacts.ts";
import { type ServerExit, signalName } from "./serverProcess.ts";

export type GuardOptions = {
  /** How `holdfast` is run; the verb and its options are added. */
  readonly holdfast: readonly string[];
  /** What comes after `guard --json`: `-- COMMAND ARGS…` or `--pid PID`, and options before it. */
  readonly guardArguments: readonly string[];
  /** Standard error of the guard, and with it the output of the program, goes to this file. */
  readonly logPath: string;
  /** Each line as it came, before it is read. */
  readonly onLine?: (line: string) => void;
};

const eventsMax = 1_000_000;
const guardingMsMax = 180_000;
const stopMsMax = 20_000;

export class GuardProcess implements AsyncDisposable {
  readonly events: GuardEvent[] = [];
  /** Lines that broke the contract, in words. */
  readonly violations: string[] = [];
  /** Names of the events that are no part of the contract's first form, in order. */
  readonly otherEvents: string[] = [];
  readonly exited: Promise<ServerExit>;
  readonly #child: Bun.Subprocess<"ignore", "pipe", Bun.BunFile>;
  readonly #reading: Promise<void>;
  #ended = false;
  #wake = Promise.withResolvers<void>();

  constructor(private readonly options: GuardOptions) {
    // A session of its own: Ctrl-C on our terminal reaches us alone, and we stop the guard in order.
    this.#child = Bun.spawn([...options.holdfast, "guard", "--json", ...options.guardArguments], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: Bun.file(options.logPath),
      detached: true,
    });
    this.#reading = this.#read();
    this.exited = this.#reading.then(async () => {
      await this.#child.exited;
      return { code: this.#child.exitCode, signal: signalName(this.#child) };
    });
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Waits until the program is guarded. @throws ProgramError `program.gone` or `program.busy`. */
  async guarding(): Promise<GuardingEvent> {
    const event = await this.waitFor((seen) => seen.event === "guarding", guardingMsMax);
    if (event?.event === "guarding") return event;
    const said = (await Bun.file(this.options.logPath).text()).trim().slice(-400);
    if (this.#ended) {
      const { code, signal } = await this.exited;
      const told = this.events.slice(-2).map((seen) => JSON.stringify(seen));
      const end = signal ?? `exit code ${code}`;
      throw new ProgramError(
        "program.gone",
        `the guard ended (${end}) before it guarded: ${[...told, said].join(" ")}`,
      );
    }
    throw new ProgramError("program.busy", `the guard did not begin: ${said}`, { waitedMs: guardingMsMax });
  }

  /** The first event from index `from` on that fits, as soon as it is there; null when time is up or the guard ended. */
  async waitFor(
    fits: (event: GuardEvent) => boolean,
    waitMsMax: number,
    from = 0,
    parent?: AbortSignal,
  ): Promise<GuardEvent | null> {
    using late = deadline(waitMsMax, () => new DOMException("no such event", "TimeoutError"), parent);
    const expired = Promise.withResolvers<void>();
    late.signal.addEventListener("abort", () => expired.resolve(), { once: true });
    for (let at = from; ; ) {
      for (; at < this.events.length; at += 1) if (fits(this.events[at]!)) return this.events[at]!;
      if (this.#ended || late.signal.aborted) return null;
      await Promise.race([this.#wake.promise, expired.promise]);
    }
  }

  /** Every trial of the program so far. */
  outcomes(): readonly OutcomeEvent[] {
    return this.events.filter((event) => event.event === "outcome");
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  /** Stops guard and program in order; kills the guard where that takes too long. */
  async stop(): Promise<ServerExit> {
    this.#child.kill("SIGTERM");
    using late = deadline(stopMsMax, () => new DOMException("still running", "TimeoutError"));
    late.signal.addEventListener("abort", () => this.#killAll(), { once: true });
    return await this.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** The last resort: a guard that is killed leaves its program running, so the program and its tracer go too. */
  #killAll(): void {
    const guarded = this.events.find((event) => event.event === "guarding");
    const tracerPid = guarded === undefined ? 0 : tracerOf(guarded.pid);
    this.#child.kill("SIGKILL");
    for (const pid of [guarded?.pid ?? 0, tracerPid]) if (pid > 1) killQuietly(pid);
  }

  async #read(): Promise<void> {
    let rest = "";
    const decoder = new TextDecoder();
    for await (const chunk of this.#child.stdout) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.#take(line);
    }
    if (rest !== "") this.#take(rest);
    this.#ended = true;
    this.#wake.resolve();
  }

  #take(line: string): void {
    this.options.onLine?.(line);
    const read = readGuardLine(line);
    if (read.kind === "violation") this.violations.push(read.reason);
    if (read.kind === "other" && this.otherEvents.length < eventsMax) this.otherEvents.push(read.name);
    if (read.kind !== "event" || this.events.length >= eventsMax) return;
    this.events.push(read.event);
    const woken = this.#wake;
    this.#wake = Promise.withResolvers<void>();
    woken.resolve();
  }
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // gone already, which is what was wanted
  }
}

/** How this very program is run again: by itself where it is compiled, else by Bun with its source. */
export function ownCommand(): readonly string[] {
  const compiled = Bun.main.startsWith("/$bunfs/");
  return compiled ? [process.execPath] : [process.execPath, ...process.execArgv, Bun.main];
}
