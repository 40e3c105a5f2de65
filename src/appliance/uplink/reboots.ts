// SPDX-License-Identifier: Apache-2.0
/**
 * A restart of the machine that a fleet has asked for, across the restart. Gets the job; restarts, and tells the next boot's
 * supervisor which job it was for, so that it can be ended as done.
 */
import type { Storage } from "#storage/storage.ts";
import type { VerbResult } from "#verbs.ts";
import type { BoxRestart } from "../boxRestart.ts";

const noteName = "uplink/reboot";

type Note = { readonly job: string; readonly boot: string };

export class Reboots {
  readonly #found: Note | null;

  constructor(
    private readonly storage: Pick<Storage, "learned" | "learn">,
    private readonly boot: string,
    private readonly restart: BoxRestart | null,
    private readonly userId = process.getuid?.() ?? 0,
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
    const { restart } = this;
    if (restart === null) return { why: "this supervisor guards one program; it does not restart the machine" };
    if (this.userId !== 0) return { why: "the supervisor may not restart the machine: it is not root" };
    return async (job) => {
      this.storage.learn(noteName, { job, boot: this.boot } satisfies Note);
      try {
        await restart("operator");
      } catch (error) {
        this.storage.learn(noteName, null);
        throw error;
      }
    };
  }

  settle(end: (job: string, result: VerbResult) => Promise<void>): void {
    if (this.#found === null || this.#found.boot === this.boot) return;
    this.storage.learn(noteName, null);
    void end(this.#found.job, { kind: "succeeded" });
  }
}
