// SPDX-License-Identifier: Apache-2.0
/**
 * Signs of life of the threads of a program inside a guest, as the stub reads them in the guest's /proc.
 *
 * A look takes some round trips, so what is said here is of a moment ago; a look from before a thread's last stop says
 * nothing about it. Stops nothing. Source: proc(5).
 */
import type { Clock } from "#clock.ts";
import { type BlockedThread, type ProcessStatus, parseBlocked, parseStatus } from "../processes.ts";
import { type ReadFile, readText } from "./remoteCode.ts";

export type ThreadLook = {
  /** null: it was not blocked in the kernel. */
  readonly blocked: BlockedThread | null;
  readonly status: ProcessStatus;
  readonly atNs: number;
};

/** A look into a guest on an idle machine takes less. */
const usualLookMs = 10;
const slownessMax = 60;
/** Share of the newest look in what is known of their length. */
const newestShare = 0.2;

export class RemoteThreads {
  #lookMs = 0;
  readonly #looks = new Map<number, ThreadLook>();
  readonly #gone = new Set<number>();
  readonly #stoppedAtNs = new Map<number, number>();

  constructor(
    private readonly pid: number,
    private readonly readFile: ReadFile,
    private readonly clock: Clock,
  ) {}

  /** Reads one thread now; null where it is gone. @throws GdbError */
  async look(tid: number): Promise<ThreadLook | null> {
    const atNs = this.clock.monotonicNs();
    const folder = `/proc/${this.pid}/task/${tid}`;
    const [status, syscall] = await Promise.all([
      readText(this.readFile, `${folder}/status`),
      readText(this.readFile, `${folder}/syscall`),
    ]);
    if (status === null) {
      this.#gone.add(tid);
      this.#looks.delete(tid);
      return null;
    }
    this.#gone.delete(tid);
    const tookMs = (this.clock.monotonicNs() - atNs) / 1e6;
    this.#lookMs = this.#lookMs === 0 ? tookMs : this.#lookMs + (tookMs - this.#lookMs) * newestShare;
    const look = { blocked: parseBlocked(syscall ?? "running"), status: parseStatus(status, this.pid), atNs };
    this.#looks.set(tid, look);
    return look;
  }

  /** How many times as long as usual it takes to see anything: what waits for a sign of life waits so much longer. */
  get slowness(): number {
    return Math.min(slownessMax, Math.max(1, this.#lookMs / usualLookMs));
  }

  /** What the thread was seen doing since its last stop; null where that is not known. */
  seen(tid: number): ThreadLook | null {
    const look = this.#looks.get(tid);
    return look !== undefined && look.atNs > (this.#stoppedAtNs.get(tid) ?? 0) ? look : null;
  }

  isGone(tid: number): boolean {
    return this.#gone.has(tid);
  }

  stopped(tid: number): void {
    this.#stoppedAtNs.set(tid, this.clock.monotonicNs());
  }
}
