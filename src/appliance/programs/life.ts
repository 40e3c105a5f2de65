// SPDX-License-Identifier: Apache-2.0
/**
 * One life of a program: guarded from its start to its end, with the processes that it forks, wherever it goes.
 *
 *     guarded ──it went to the background──▶ guarded, as the process it is now
 *        │ ▲ released, taken back
 *        ▼ │
 *     released: its own again, and free for another debugger; we only wait for its end
 *
 * Gets a program that runs; gives how it ended, or null where it was let go.
 */
import { isAlive, readWaitStatus } from "#monitor/processes.ts";
import { TaskGroup } from "#tasks.ts";
import { type Portrait, portrayProgram } from "../daemon.ts";
import type { GuardNews } from "../family.ts";
import { runGuard } from "../guard.ts";
import { type GuardedProgram, noteProgram, type ProgramEnd, readEnd } from "../guardedProgram.ts";
import type { GuardEnd } from "../guardParts.ts";
import { withoutInterruptions } from "../interruptions.ts";
import { Nursery } from "../nursery.ts";
import { noteServed } from "../runRecord.ts";
import { Trials } from "../trials.ts";
import { Children } from "./children.ts";
import type { LifeParts } from "./lifeParts.ts";

const endLookMs = 50;

export class Life {
  #program: GuardedProgram;
  #serves = false;
  #released = new AbortController();
  #takenBack = Promise.withResolvers<void>();
  #free = Promise.withResolvers<void>();
  readonly #nursery = new Nursery();
  readonly #children: Children;

  constructor(
    private readonly parts: LifeParts,
    program: GuardedProgram,
  ) {
    this.#program = program;
    const trials = new Trials(withoutInterruptions(parts.storage.history), parts.rescues);
    this.#children = new Children(parts, { trials }, this.#nursery);
  }

  get program(): GuardedProgram {
    return this.#program;
  }

  get isReleased(): boolean {
    return this.#released.signal.aborted;
  }

  get childCount(): number {
    return this.#children.count;
  }

  /** Lets go of it, so that another debugger may attach; resolves once that is so, or it has ended. */
  async release(signal: AbortSignal): Promise<void> {
    this.#takenBack = Promise.withResolvers<void>();
    this.#free = Promise.withResolvers<void>();
    this.#released.abort();
    await Promise.race([this.#free.promise, aborted(signal)]);
    signal.throwIfAborted();
  }

  takeBack(): void {
    this.#released = new AbortController();
    this.#takenBack.resolve();
  }

  /** null: let go. @throws GdbError, ProgramError where it could not be guarded even once */
  async untilEnd(): Promise<ProgramEnd | null> {
    try {
      return await this.#untilEnd();
    } finally {
      this.#free.resolve();
    }
  }

  async #untilEnd(): Promise<ProgramEnd | null> {
    const { letGo, name, notices } = this.parts;
    for (;;) {
      const end = await this.#guarded();
      if (end !== null && end.successor === null) return end;
      if (end?.successor != null) this.#moveTo(end.successor);
      else if (letGo.aborted) {
        if (this.parts.remembered) this.#note();
        return null;
      } else {
        const reason = `released for another debugger; take it back with: holdfast release ${name} --take-back`;
        notices.tell({ event: "unguarded", workload: name, pid: this.#program.pid, reason });
        this.#free.resolve();
        const ended = await this.#untilTakenBack();
        if (ended !== null || letGo.aborted) return ended;
      }
    }
  }

  /** Guards it and its children until it ends, or they are to be let go. */
  async #guarded(): Promise<GuardEnd | null> {
    await using tasks = new TaskGroup();
    const letGo = AbortSignal.any([this.parts.letGo, this.#released.signal]);
    const ended = new AbortController();
    // Its children go on by themselves where it has ended: whoever adopts them has not asked for them to be guarded.
    const childrenLetGo = AbortSignal.any([letGo, ended.signal]);
    const { pid, served } = this.#program;
    tasks.start((signal) => this.#children.follow(pid, () => served || this.#serves, childrenLetGo, signal));
    try {
      const heir = (portrait: Portrait): number | null => this.#children.heir(portrait);
      const news = (one: GuardNews): void => this.#take(one);
      return await runGuard({ ...this.parts, program: this.#program, letGo, news, heir, nursery: this.#nursery });
    } finally {
      ended.abort();
      await this.#children.letGo();
      this.#nursery.end();
    }
  }

  #take(news: GuardNews): void {
    if (news.kind === "guarding") this.#serves ||= news.serving;
    this.parts.news?.(news);
  }

  #moveTo(pid: number): void {
    const { name, notices, storage, runDirectory, command } = this.parts;
    storage.event("program.moved", name, { from: this.#program.pid, to: pid });
    const text = `process ${this.#program.pid} has gone to the background as process ${pid}, which is guarded from now on`;
    notices.tell({ event: "warning", workload: name, text });
    noteProgram(runDirectory, pid, command);
    this.#program = { pid, origin: "takenOver", served: false, portrait: portrayProgram(pid), ended: null };
    this.parts.lives?.(this.#program);
  }

  /** Letting go forgets it; whoever comes next is to find it all the same. */
  #note(): void {
    const { runDirectory, command } = this.parts;
    const { pid, served } = this.#program;
    if (!isAlive(pid)) return;
    noteProgram(runDirectory, pid, command);
    noteServed(runDirectory, served || this.#serves);
  }

  /** How it ended meanwhile; null where it is to be guarded again, or let go. */
  async #untilTakenBack(): Promise<ProgramEnd | null> {
    const { clock, letGo } = this.parts;
    const { pid, ended } = this.#program;
    this.#note();
    while (!letGo.aborted && this.isReleased) {
      if (!isAlive(pid)) return ended !== null ? await ended : readEnd(readWaitStatus(pid));
      await Promise.race([this.#takenBack.promise, clock.sleep(endLookMs, letGo).catch(() => {})]);
    }
    this.#program = { ...this.#program, served: true };
    return null;
  }
}

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
