// SPDX-License-Identifier: Apache-2.0
/**
 * The lane of one program: inputs one after the other through the supervision machine, and its effects done.
 *
 * Gets where the program comes from and its policy; gives its state and obeys commands. Whatever fails here stays here:
 * another program's lane never waits for it. Letting go of the lane leaves the program running.
 */
import { join } from "node:path";
import { systemRandom } from "#clock.ts";
import type { RestartPolicy } from "#config/schema.ts";
import { explain, explainInLine, HoldfastError, ProgramError } from "#errors.ts";
import { isAlive } from "#monitor/processes.ts";
import { requireTraceable } from "#monitor/traceable.ts";
import { TaskGroup } from "#tasks.ts";
import { Changes } from "../changes.ts";
import type { GuardNews } from "../family.ts";
import type { GuardedProgram, ProgramEnd } from "../guardedProgram.ts";
import { jittered } from "../restart.ts";
import { readMemory, type WorkloadMemory, writeMemory } from "../workloadMemory.ts";
import { Health, type HealthPolicy } from "./health.ts";
import { Life } from "./life.ts";
import type { LifeParts } from "./lifeParts.ts";
import { readOutOfMemoryKills } from "./outOfMemory.ts";
import { faultOfEnd } from "./programFault.ts";
import type { ProgramNotices } from "./programNotices.ts";
import type { ProgramSource } from "./programSource.ts";
import {
  newProgram,
  type Program,
  type ProgramCommand,
  type ProgramEffect,
  type ProgramInput,
  type ProgramPhase,
  superviseProgram,
} from "./supervision.ts";

export type ProgramLaneParts = Omit<LifeParts, "letGo" | "news"> & {
  readonly source: ProgramSource;
  readonly restart: RestartPolicy;
  readonly health: HealthPolicy;
  readonly stopMs: number;
  /** Start it when the lane opens, unless it was stopped before. */
  readonly start: boolean;
  readonly told: ProgramNotices;
};

type Seen = ProgramInput extends infer One ? (One extends unknown ? Omit<One, "atMs"> : never) : never;

const endLookMs = 20;
/** Between two looks for a program that somebody else starts. */
const appearLookMs = 250;

export class ProgramLane implements AsyncDisposable {
  #state: Program = newProgram;
  #life: Life | null = null;
  #lastEnd: ProgramEnd | null = null;
  #lastError: unknown = null;
  #timer: AbortController | null = null;
  readonly #changes = new Changes();
  readonly #letGo = new AbortController();
  readonly #tasks = new TaskGroup();
  readonly #health: Health;

  constructor(readonly parts: ProgramLaneParts) {
    this.#health = new Health(parts.health, parts.clock, (why) =>
      this.#tell({ kind: "fault", fault: { kind: "zombie", why } }),
    );
  }

  get name(): string {
    return this.parts.name;
  }

  get state(): Program {
    return this.#state;
  }

  get life(): Life | null {
    return this.#life;
  }

  /** How the program ended last; null while nobody has seen it end. */
  get lastEnd(): ProgramEnd | null {
    return this.#lastEnd;
  }

  /** Why it could not be started or guarded, where that was the last that happened. */
  get lastError(): unknown {
    return this.#lastError;
  }

  /** Rejects where a bug of ours has ended the lane. Never resolves. */
  get failed(): Promise<never> {
    return this.#tasks.failed;
  }

  /** Takes over what runs, or starts what should, once `ready` has resolved. */
  async open(ready: () => Promise<void> = async () => {}): Promise<void> {
    const memory = this.parts.remembered ? readMemory(this.#memoryPath) : null;
    if (memory !== null) this.#state = { ...this.#state, attempts: memory.attempts };
    const found = this.parts.source.adopt();
    if (found !== null) this.#adopt(found);
    else await this.#nothingFound(memory, ready);
    if (this.parts.source.appeared !== undefined) this.#tasks.start((signal) => this.#awaitAppearance(signal));
  }

  /** It cannot be run here at all: the reason is its state. */
  refuse(why: string): void {
    this.#set({ ...this.#state, phase: { kind: "error", why } });
  }

  /**
   * Resolves once the command has been done. @throws ProgramError program.state where it makes no sense now or has failed
   */
  async command(command: ProgramCommand, signal: AbortSignal): Promise<void> {
    this.#input({ kind: "command", command });
    await this.until(({ phase }) => reached[command].includes(phase.kind), signal);
    const { phase } = this.#state;
    if (phase.kind !== "error") return;
    throw new ProgramError("program.state", `${this.name}: ${command} failed: ${phase.why}`);
  }

  /** The program was asked to end past us: its end is no fault. */
  asked(why: string): void {
    this.#input({ kind: "asked", why });
  }

  /** Frees the program for another debugger. @throws ProgramError program.state */
  async release(signal: AbortSignal): Promise<void> {
    const life = this.#requireLife("release");
    if (life.isReleased) throw new ProgramError("program.state", `${this.name} is released already`);
    await life.release(signal);
    this.parts.storage.event("program.released", this.name, { pid: life.program.pid });
  }

  /** @throws ProgramError program.state, program.busy where the other debugger is still there */
  takeBack(): void {
    const life = this.#requireLife("take back");
    if (!life.isReleased) throw new ProgramError("program.state", `${this.name} is not released`);
    requireTraceable(life.program.pid);
    life.takeBack();
    this.parts.storage.event("program.takenBack", this.name, { pid: life.program.pid });
  }

  /** Resolves once `done` holds of the state. @throws the signal's reason */
  until(done: (state: Program) => boolean, signal: AbortSignal): Promise<void> {
    return this.#changes.until(() => done(this.#state), signal);
  }

  /** Lets go of the program, which runs on, unguarded. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#letGo.abort();
    this.#timer?.abort();
    await this.#health[Symbol.asyncDispose]();
    await this.#tasks[Symbol.asyncDispose]();
  }

  #adopt(found: GuardedProgram): void {
    this.#input({ kind: "adopted", serves: found.served });
    this.#begin(found);
    this.parts.told.takenOver(found.pid);
    this.parts.lives?.(found);
  }

  async #awaitAppearance(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.parts.clock.sleep(appearLookMs, signal).catch(() => {});
      const { kind } = this.#state.phase;
      if (signal.aborted || this.#life !== null || (kind !== "stopped" && kind !== "error")) continue;
      const found = this.parts.source.appeared!();
      if (found !== null) this.#adopt(found);
    }
  }

  async #nothingFound(memory: WorkloadMemory | null, ready: () => Promise<void>): Promise<void> {
    const put = (phase: ProgramPhase): void => this.#set({ ...this.#state, phase });
    if (memory?.held != null) put({ kind: "error", why: memory.held });
    else if (memory !== null && !memory.wanted) put({ kind: "stopped", why: "it was stopped before" });
    else if (memory?.ran) {
      // It ran when a supervisor was last here, and has ended since: that is news like any other end.
      put({ kind: "running", serves: true });
      this.#state = { ...this.#state, everServed: true };
      this.#input({ kind: "ended", fault: faultOfEnd({ code: null, signal: null }, false) });
    } else if (memory === null && !this.parts.start) put({ kind: "stopped", why: "start = false" });
    else {
      await ready();
      // Somebody may have started it meanwhile.
      if (this.#state.phase.kind === "stopped") this.#input({ kind: "command", command: "start" });
    }
  }

  #tell(seen: Seen): void {
    if (!this.#letGo.signal.aborted) this.#input(seen);
  }

  #input(seen: Seen): void {
    const input = { ...seen, atMs: this.parts.clock.wallMs() } as ProgramInput;
    const step = superviseProgram(this.#state, input, this.parts.source.policyFor(input, this.parts.restart));
    // Only commands are ever refused.
    if (step.kind === "violation") throw new ProgramError("program.state", `${this.name}: ${step.reason}`);
    for (const effect of step.effects) this.parts.told.effect(effect);
    this.#set(step.state);
    for (const effect of step.effects) this.#do(effect);
  }

  #set(state: Program): void {
    const before = this.#state.phase.kind;
    this.#state = state;
    if (before !== state.phase.kind) {
      this.parts.log("info", "program.phase", { from: before, to: state.phase.kind });
      if (state.phase.kind !== "backoff") this.#timer?.abort();
      this.parts.told.phase(state.phase, this.#life?.program.pid ?? null);
    }
    this.#remember();
    this.#changes.tell();
  }

  #remember(): void {
    if (!this.parts.remembered) return;
    const { phase, attempts } = this.#state;
    const wanted = phase.kind !== "stopped" && !(phase.kind === "ending" && phase.after.kind === "stopped");
    try {
      const held = phase.kind === "error" ? phase.why : null;
      const ran = phase.kind === "running" || phase.kind === "ending";
      writeMemory(this.#memoryPath, { wanted, ran, held, attempts });
    } catch (error) {
      this.parts.log("warn", "program.notRemembered", { why: explain(error) });
    }
  }

  get #memoryPath(): string {
    return join(this.parts.runDirectory, "memory.json");
  }

  #do(effect: ProgramEffect): void {
    switch (effect.kind) {
      case "launch":
        this.#tasks.start(() => this.#launch());
        break;
      case "stop":
        this.#tasks.start((signal) => this.#stop(signal));
        break;
      case "wait":
        this.#wait(effect.waitMs);
        break;
      case "fault":
      case "outcome":
        break;
    }
  }

  async #launch(): Promise<void> {
    this.#lastError = null;
    try {
      const program = await this.parts.source.start(this.#letGo.signal);
      this.#begin(program);
      this.#tell({ kind: "started" });
      this.parts.lives?.(program);
    } catch (error) {
      this.#failed(error);
    }
  }

  #begin(program: GuardedProgram): void {
    const { parts } = this;
    this.#health.begin();
    const { source } = parts;
    const relatives = source.relatives === undefined ? undefined : () => source.relatives!();
    const life = new Life(
      { ...parts, relatives, letGo: this.#letGo.signal, news: (news) => this.#heed(news) },
      program,
    );
    this.#life = life;
    const killsBefore = readOutOfMemoryKills();
    this.#tasks.start(async () => {
      try {
        const end = await life.untilEnd();
        if (end !== null) this.#ended(end, readOutOfMemoryKills() > killsBefore);
      } catch (error) {
        this.#failed(error);
      }
    });
  }

  #ended(end: ProgramEnd, outOfMemory: boolean): void {
    this.#health.end();
    this.#lastEnd = end;
    this.#life = null;
    this.#tell({ kind: "ended", fault: faultOfEnd(end, outOfMemory) });
  }

  /** It could not be started, or not be guarded even once; a bug of ours goes on to whoever owns the lane. */
  #failed(error: unknown): void {
    this.#health.end();
    this.#life = null;
    this.#lastError = error;
    if (!(error instanceof HoldfastError) || error.code === "bug") throw error;
    const final = finalCodes.includes(error.code);
    this.#tell({ kind: "startFailed", why: explainInLine(error), final });
  }

  #heed(news: GuardNews): void {
    if (news.kind === "guarding") {
      this.#health.serves();
      this.#tell({ kind: "serves" });
    } else if (news.kind === "ill") this.#health.suspect(news);
  }

  async #stop(signal: AbortSignal): Promise<void> {
    const { source, clock, stopMs } = this.parts;
    const life = this.#life;
    if (life === null) return;
    await source.stop(life.program, "inOrder");
    const endNs = clock.monotonicNs() + stopMs * 1e6;
    while (this.#life === life && isAlive(life.program.pid) && clock.monotonicNs() < endNs) {
      await clock.sleep(endLookMs, signal).catch(() => {});
      if (signal.aborted) return;
    }
    if (this.#life === life && isAlive(life.program.pid)) await source.stop(life.program, "byForce");
  }

  #wait(waitMs: number): void {
    this.#timer?.abort();
    const timer = new AbortController();
    this.#timer = timer;
    this.#tasks.start(async () => {
      // Overtaken by a command, or by our own end: then the timer is nobody's business.
      await this.parts.clock.sleep(jittered(waitMs, systemRandom), timer.signal).catch(() => {});
      if (!timer.signal.aborted) this.#tell({ kind: "timer" });
    });
  }

  #requireLife(what: string): Life {
    if (this.#life !== null) return this.#life;
    const { phase } = this.#state;
    throw new ProgramError("program.state", `${this.name}: cannot ${what}: the program is ${phase.kind}`);
  }
}

/** Where a command leads, in the good case or in the end. */
const reached: Readonly<Record<ProgramCommand, readonly ProgramPhase["kind"][]>> = {
  start: ["running", "error", "stopped", "backoff"],
  stop: ["stopped"],
  restart: ["running", "error", "stopped", "backoff"],
};

/** Trying again would end the same way until somebody changes something on this box. */
const finalCodes: readonly string[] = [
  "program.notFound",
  "program.notExecutable",
  "program.unsupported",
  "program.permission",
  "gdb.permission",
  "gdb.version",
  "config.value",
];
