// SPDX-License-Identifier: Apache-2.0
/**
 * A restart of the machine that a fleet has asked for, across the restart. Gets the job; restarts, and tells the next boot's
 * supervisor which job it was for, so that it can be ended as done.
 */
import type { Clock } from "#clock.ts";
import { NativeError } from "#errors.ts";
import type { Storage } from "#storage/storage.ts";
import type { VerbResult } from "#verbs.ts";

const noteName = "uplink/reboot";
/** The note must be on the disk before the machine goes. */
const flushMs = 5_000;

type Note = { readonly job: string; readonly boot: string };

export class Reboots {
  readonly #found: Note | null;

  constructor(
    private readonly storage: Pick<Storage, "learned" | "learn" | "flush">,
    private readonly boot: string,
    private readonly ownsMachine: boolean,
    private readonly clock: Clock,
  ) {
    const note = storage.learned.get(noteName) as Partial<Note> | undefined;
    const isWhole = typeof note?.job === "string" && typeof note.boot === "string";
    this.#found = isWhole ? { job: note.job!, boot: note.boot! } : null;
  }

  /** Why this boot is, as far as we know. */
  get reason(): string {
    return this.#found !== null && this.#found.boot !== this.boot ? "ordered" : "start";
  }

  get order(): ((job: string) => Promise<void>) | { readonly why: string } {
    if (!this.ownsMachine) return { why: "this supervisor guards one program; it does not restart the machine" };
    if ((process.getuid?.() ?? 0) !== 0) return { why: "the supervisor may not restart the machine: it is not root" };
    return (job) => this.#restart(job);
  }

  settle(end: (job: string, result: VerbResult) => Promise<void>): void {
    if (this.#found === null || this.#found.boot === this.boot) return;
    this.storage.learn(noteName, null);
    void end(this.#found.job, { kind: "succeeded" });
  }

  async #restart(job: string): Promise<void> {
    this.storage.learn(noteName, { job, boot: this.boot } satisfies Note);
    const patience = new AbortController();
    await Promise.race([this.storage.flush(patience.signal), this.clock.sleep(flushMs)]);
    patience.abort();
    const child = Bun.spawn(["systemctl", "reboot"], { stdio: ["ignore", "ignore", "ignore"] });
    if ((await child.exited) === 0) return;
    throw new NativeError("native.call", "systemctl reboot failed");
  }
}
