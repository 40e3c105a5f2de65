// SPDX-License-Identifier: Apache-2.0
/**
 * The Worker of one restore: the page server. It blocks on its socket, so that a page costs one thread wake-up and nothing
 * else of the supervisor can delay it. What it does is in runRestore.ts; progress is in shared memory.
 */
import { progressBytes, progressPlaces, waitsOffset } from "./restoreProgress.ts";
import { type Prepared, type RestoreOrder, Restoring } from "./runRestore.ts";
import { answerCalls } from "./workerPort.ts";

declare const self: Worker;

export type RestoreCall =
  /** Does what a restore begins with, so that it finds everything compiled, and what the guest wants first in memory. */
  | { readonly kind: "rehearse"; readonly restore: RestoreOrder }
  /** Gives a Cloud Hypervisor that stands by what needs no guest yet, for the very order that was rehearsed. */
  | { readonly kind: "offer"; readonly socket: string; readonly hypervisorPid: number; readonly all: boolean }
  | { readonly kind: "prepare"; readonly restore: RestoreOrder; readonly progress: SharedArrayBuffer }
  /** Tells `running` once it does, and is done once the guest needs us no longer. */
  | { readonly kind: "run"; readonly socket: string; readonly hypervisorPid: number }
  /** It will not be asked again. */
  | { readonly kind: "close" };

let rehearsed: Restoring | null = null;
let restoring: Restoring | null = null;
let progress = new BigInt64Array(new SharedArrayBuffer(progressBytes));

answerCalls<RestoreCall>(self, (call, tell): Restoring["mode"] | Prepared | readonly number[] => {
  switch (call.kind) {
    case "rehearse":
      rehearsed?.[Symbol.dispose]();
      rehearsed = null;
      rehearsed = new Restoring(call.restore);
      rehearsed.rehearse();
      return rehearsed.mode;
    case "offer":
      rehearsed!.offer(call.socket, call.hypervisorPid, call.all);
      return [];
    case "prepare":
      progress = new BigInt64Array(call.progress);
      restoring = begin(call.restore);
      return restoring.prepare(() => Atomics.load(progress, progressPlaces.wanted) !== 0n);
    case "run":
      return run(restoring!, call, tell);
    case "close":
      rehearsed?.[Symbol.dispose]();
      restoring?.[Symbol.dispose]();
      [rehearsed, restoring] = [null, null];
      return [];
  }
});

function begin(order: RestoreOrder): Restoring {
  const before = rehearsed;
  rehearsed = null;
  if (before?.stands(order) === true) return before;
  try {
    return new Restoring(order, before);
  } finally {
    before?.[Symbol.dispose]();
  }
}

function run(
  open: Restoring,
  { socket, hypervisorPid }: Extract<RestoreCall, { kind: "run" }>,
  tell: (news: unknown) => void,
): readonly number[] {
  try {
    open.start(socket, hypervisorPid, new BigInt64Array(progress.buffer, waitsOffset));
    publish();
    tell({ running: true });
    return open.serve(publish);
  } catch (error) {
    // Before its connection is closed: it would let the guest go on with zeros in place of what is missing.
    if (open.fill.live) killQuietly(hypervisorPid);
    throw error;
  } finally {
    publish();
    restoring = null;
    open[Symbol.dispose]();
  }
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended by itself.
  }
}

function publish(): void {
  const { prefetched, demanded, background, empty } = restoring!.fill.counts;
  progress[progressPlaces.prefetched] = BigInt(prefetched);
  progress[progressPlaces.demanded] = BigInt(demanded);
  progress[progressPlaces.background] = BigInt(background);
  progress[progressPlaces.empty] = BigInt(empty);
}
