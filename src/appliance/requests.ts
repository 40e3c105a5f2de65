// SPDX-License-Identifier: Apache-2.0
/**
 * What the signals that a supervisor gets mean for its program. Gets the process's signals; gives one AbortSignal, which
 * aborts when the program is to be let go, and asks the program to end where that is what was meant.
 *
 *                 started, or taken over             --detach-on-exit     attached by pid
 *     INT, TERM   passed on; again: SIGKILL          let go               let go
 *     HUP, QUIT   passed on                          passed on            let go
 *     TSTP        refused: a supervisor that sleeps would leave a faulting thread stopped
 */
import { constants } from "node:os";
import type { Clock } from "#clock.ts";
import { readStartTicks } from "#monitor/processes.ts";
import type { GuardedProgram } from "./guardedProgram.ts";
import { signalProgram } from "./guardedProgram.ts";
import type { Notices } from "./notices.ts";

/** Wrappers pass on a Ctrl-C that the terminal has sent us already: what comes so soon is the same request. */
const sameRequestMs = 400;

export type RequestOptions = {
  readonly name: string;
  /** Let go of a started program too, instead of ending it. */
  readonly detach: boolean;
  /** It is never ours to end, also while there is none. */
  readonly attached: boolean;
  readonly notices: Notices;
  readonly clock: Clock;
};

export class Requests {
  readonly #letGo = new AbortController();
  #program: GuardedProgram | null = null;
  #askedAtNs: number | null = null;
  #asked: () => void = () => {};
  /** Requests from before there was a program. */
  #early: NodeJS.Signals[] = [];

  constructor(private readonly options: RequestOptions) {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const) {
      process.on(signal, () => this.take(signal));
    }
    process.on("SIGTSTP", () => this.#refuseSleep());
  }

  get letGo(): AbortSignal {
    return this.#letGo.signal;
  }

  /** The program that requests are about; null before the first. */
  get program(): GuardedProgram | null {
    return this.#program;
  }

  /** The program that all requests are about from now on; `asked` is called where it is asked to end. */
  serve(program: GuardedProgram, asked: () => void = () => {}): void {
    this.#program = program;
    this.#asked = asked;
    for (const signal of this.#early.splice(0)) this.take(signal);
  }

  take(signal: NodeJS.Signals): void {
    const program = this.#program;
    if (this.options.attached) {
      this.#letGo.abort();
      return;
    }
    if (program === null) {
      this.#early.push(signal);
      return;
    }
    const ends = signal === "SIGINT" || signal === "SIGTERM";
    if (ends && this.options.detach) this.#letGo.abort();
    else if (ends) this.#stopInOrder(program, signal);
    else this.#send(program, signal);
  }

  /** Asks the program to end, as a service manager would; a second request ends it at once. */
  #stopInOrder(program: GuardedProgram, signal: NodeJS.Signals): void {
    const nowNs = this.options.clock.monotonicNs();
    if (this.#askedAtNs === null) {
      this.#askedAtNs = nowNs;
      this.#asked();
      this.options.notices.tell({ event: "stopping", workload: this.options.name, pid: program.pid, signal });
      this.#send(program, signal);
    } else if (nowNs - this.#askedAtNs > sameRequestMs * 1e6) {
      this.#send(program, "SIGKILL");
    }
  }

  #send(program: GuardedProgram, signal: NodeJS.Signals): void {
    // It may have ended just now, and its number be somebody else's.
    if (program.portrait !== null && readStartTicks(program.pid) !== program.portrait.startTicks) return;
    const refused = signalProgram(program.pid, signal);
    if (refused === null) return;
    const text = `${signal} could not be passed on to ${this.options.name} (process ${program.pid}): ${refused}`;
    this.options.notices.tell({ event: "warning", workload: this.options.name, text });
  }

  #refuseSleep(): void {
    const text = `not suspended (signal ${constants.signals.SIGTSTP}): a sleeping supervisor cannot protect ${this.options.name}; start it with & or in another terminal`;
    this.options.notices.tell({ event: "warning", workload: this.options.name, text });
  }
}
