// SPDX-License-Identifier: Apache-2.0
/**
 * Follows the event monitor's file as it grows. Gets a path and where to begin; gives events as they are written.
 *
 * The file is an ordinary one, not a pipe, so that events written while no supervisor runs are still there for the next.
 * The kernel's file notices wake the reader; a look every `lookMs` covers a box that has run out of them
 * and the notices that get lost under load (seen). Once all is
 * read and the file has more than `fileBytesMax`, it is cut to nothing.
 */
import { type FSWatcher, statSync, truncateSync, watch } from "node:fs";
import type { Clock } from "#clock.ts";
import { readFrom } from "./cappedFile.ts";
import { type MonitorEvent, MonitorFrames } from "./monitorEvent.ts";

export const lookMs = 250;
export const fileBytesMax = 1 << 20;
const pieceBytes = 64 << 10;

export type FollowOptions = {
  readonly clock: Clock;
  /** Ends the iteration, quietly, once what is written by then has been given. */
  readonly signal: AbortSignal;
  /** Bytes to leave out; those before it are old news. */
  readonly from?: number;
};

export async function* followEvents(
  path: string,
  { clock, signal, from = 0 }: FollowOptions,
): AsyncGenerator<MonitorEvent> {
  const frames = new MonitorFrames();
  using notices = new Notices(path);
  let at = from;
  for (;;) {
    const last = signal.aborted;
    const grown = notices.next();
    const piece = await readFrom(path, at, pieceBytes);
    at = piece.at;
    yield* frames.push(piece.bytes);
    if (piece.bytes.length > 0) continue;
    if (last) return;
    if (at > fileBytesMax && statSync(path).size === at) {
      truncateSync(path, 0);
      at = 0;
    }
    await firstOf(grown, clock, signal);
  }
}

/** Waits for a notice, a look, or the end. */
async function firstOf(notice: Promise<void>, clock: Clock, signal: AbortSignal): Promise<void> {
  using timer = linked(signal);
  // Aborted sleep is how the loser of the race is told; the loop looks at the signal itself.
  await Promise.race([notice, clock.sleep(lookMs, timer.signal).catch(() => {})]);
}

function linked(parent: AbortSignal): Disposable & { signal: AbortSignal } {
  const own = new AbortController();
  const follow = (): void => own.abort();
  if (parent.aborted) own.abort();
  parent.addEventListener("abort", follow);
  return {
    signal: own.signal,
    [Symbol.dispose]() {
      parent.removeEventListener("abort", follow);
      own.abort();
    },
  };
}

class Notices implements Disposable {
  readonly #watcher: FSWatcher | null;
  #next = Promise.withResolvers<void>();

  constructor(path: string) {
    try {
      this.#watcher = watch(path, () => this.#next.resolve());
      this.#watcher.on("error", () => {});
    } catch {
      // No notices left on this box (inotify limits): the look every second does.
      this.#watcher = null;
    }
  }

  /** Resolves at the first notice after this call. */
  next(): Promise<void> {
    this.#next = Promise.withResolvers<void>();
    return this.#next.promise;
  }

  [Symbol.dispose](): void {
    this.#watcher?.close();
  }
}
