// SPDX-License-Identifier: Apache-2.0
/**
 * The look at one program that a guard keeps from stub to stub: a watch, and the tasks that learn of the program. Gets an
 * attached client; gives the watch that is there, or opens one.
 *
 * What was learned outlives a lost stub, and by a note our own death. It is void once the program has replaced itself.
 */
import type { Clock } from "#clock.ts";
import type { FaultId } from "#fault.ts";
import type { Log } from "#log.ts";
import type { GdbClient } from "#monitor/gdb/client.ts";
import { readThreads } from "#monitor/processes.ts";
import type { SharedCode } from "#monitor/sharedCode.ts";
import { Watch } from "#monitor/watch.ts";
import { TaskGroup } from "#tasks.ts";
import { noteSpines, readSpines, removeSpines } from "./spineNotes.ts";

export type Seen = { readonly watch: Watch; readonly looking: TaskGroup };

export type WatchingOptions = {
  readonly name: string;
  readonly pid: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly nextFaultId: () => FaultId;
  readonly runDirectory: string;
  readonly code?: SharedCode | undefined;
  /** True where a connection that is cut next may be held open by us. */
  readonly keepsCut: () => boolean;
};

export class Watching implements AsyncDisposable {
  #seen: Seen | null = null;

  constructor(
    private readonly options: WatchingOptions,
    private readonly parent: AbortSignal,
  ) {}

  /** The watch of now; null before the first look, and after a program has replaced itself. */
  get watch(): Watch | null {
    return this.#seen?.watch ?? null;
  }

  /** `fresh`: nothing is known of the program yet. @throws ProgramError, BinaryError */
  look(client: GdbClient): Seen & { readonly fresh: boolean } {
    if (this.#seen !== null) return { ...this.#seen, fresh: false };
    const { runDirectory, ...options } = this.options;
    const watch = this.open(options.pid, client);
    watch.spines.restore(readSpines(runDirectory), readThreads(options.pid));
    const looking = new TaskGroup(this.parent);
    this.#seen = { watch, looking };
    looking.start((signal) => watch.learn(signal));
    looking.start((signal) => watch.prepare(signal));
    looking.start((signal) => noteSpines(watch.spines, runDirectory, options.clock, signal));
    return { watch, looking, fresh: true };
  }

  /** A watch of this process, or of another that runs the same program. @throws ProgramError, BinaryError */
  open(pid: number, client: GdbClient): Watch {
    const { name, runDirectory: _, ...options } = this.options;
    return Watch.open({ ...options, pid, workload: name, architecture: client.architecture });
  }

  /** The program has replaced itself. */
  async forget(): Promise<void> {
    await this.#close();
    removeSpines(this.options.runDirectory);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }

  async #close(): Promise<void> {
    const seen = this.#seen;
    this.#seen = null;
    await seen?.looking[Symbol.asyncDispose]();
    seen?.watch[Symbol.dispose]();
  }
}
