// SPDX-License-Identifier: Apache-2.0
/**
 * Learns the spine of each thread: the frames that are on its stack while it waits for work. Gets looks at blocked
 * threads; says of the frames of a stopped thread where its spine begins, and of a blocked thread whether it is idle.
 *
 * A spine frame is never abandoned: returning from it ends the thread's reason to live. Nothing here stops a thread.
 * Limits: 16 idle points a thread, 4,096 threads; the rarest point goes first, the oldest thread goes first.
 */
import type { Architecture, VirtualAddress } from "#fault.ts";
import type { BlockedThread } from "./processes.ts";
import { futexWait, type WaitKind, waitedDescriptor, waitKind } from "./waits.ts";

const idlePointsMax = 16;
const threadsMax = 4096;

/** What tells a frame from others: its activation, the function it belongs to, and where in it the thread is. */
export type SpineFrame = {
  readonly cfa: VirtualAddress | null;
  /** First byte of the function, null where neither call-frame information nor the call tells it. */
  readonly function: VirtualAddress | null;
  readonly pc: VirtualAddress;
  /** True for code that belongs to a function elsewhere, which jumps to it and back. */
  readonly isPart: boolean;
};

type IdlePoint = {
  readonly sp: VirtualAddress;
  readonly pc: VirtualAddress;
  kind: WaitKind;
  readonly frames: readonly SpineFrame[];
  seen: number;
  /** The one descriptor that it waits on there, a multiplexer or a connection; null or absent for other kinds of wait. */
  descriptor?: number | null;
};

/** Where each thread waits for work, as plain data: true of this process until it is replaced by another program. */
export type LearnedSpines = readonly (readonly [tid: number, point: IdlePoint])[];

export class Spines {
  readonly #threads = new Map<number, IdlePoint[]>();

  /** `unwind` gives the frames of a thread that is blocked, innermost first; it may give fewer than there are. */
  constructor(
    private readonly architecture: Architecture,
    private readonly unwind: (blocked: BlockedThread) => readonly SpineFrame[],
  ) {}

  /** Takes one look at a blocked thread into account. */
  observe(tid: number, blocked: BlockedThread): void {
    const kind = waitKind(blocked.syscall, this.architecture);
    if (kind === 0 || futexWait(blocked, this.architecture) === "lock") return;
    const points = this.#pointsOf(tid);
    const known = points.find((point) => point.sp === blocked.sp && point.pc === blocked.pc);
    const descriptor = waitedDescriptor(blocked, this.architecture);
    if (known !== undefined) {
      known.seen += 1;
      known.descriptor = descriptor ?? known.descriptor ?? null;
      if (kind > known.kind) known.kind = kind;
      return;
    }
    const frames = this.unwind(blocked);
    if (frames.length === 0) return;
    if (points.length >= idlePointsMax) points.splice(indexOfRarest(points), 1);
    points.push({ sp: blocked.sp, pc: blocked.pc, kind, frames, seen: 1, descriptor });
  }

  forget(tid: number): void {
    this.#threads.delete(tid);
  }

  get learned(): LearnedSpines {
    return [...this.#threads].flatMap(([tid, points]) => {
      const idle = chooseIdlePoint(points);
      return idle === null ? [] : [[tid, idle] as const];
    });
  }

  /** Takes over what an earlier supervisor has learned of these threads. What is seen by ourselves is added to it. */
  restore(learned: LearnedSpines, tids: readonly number[]): void {
    for (const [tid, point] of learned) if (tids.includes(tid)) this.#pointsOf(tid).push({ ...point });
  }

  get threads(): number {
    return this.#threads.size;
  }

  /** True once the thread's way of waiting is known. */
  knows(tid: number): boolean {
    return (this.#threads.get(tid)?.length ?? 0) > 0;
  }

  /** Whether a blocked thread is back at the point where it waits for work. */
  isIdle(tid: number, blocked: Pick<BlockedThread, "sp" | "pc">): boolean {
    const idle = chooseIdlePoint(this.#threads.get(tid) ?? []);
    return idle !== null && idle.pc === blocked.pc && idle.sp === blocked.sp;
  }

  /** The descriptor that a thread waits on at its idle point; null where that is not one, or not known. */
  descriptorOf(tid: number): number | null {
    return chooseIdlePoint(this.#threads.get(tid) ?? [])?.descriptor ?? null;
  }

  /** The multiplexer on which a thread waits for work, and those of the others; null and none where they wait on other things. */
  multiplexersFor(tid: number): { readonly own: number | null; readonly others: readonly number[] } {
    const found = [...this.#threads].map(([of, points]) => [of, chooseIdlePoint(points)] as const);
    const on = ([, idle]: (typeof found)[number]): number[] =>
      idle?.kind === 2 && idle.descriptor != null ? [idle.descriptor] : [];
    const own = found.filter(([of]) => of === tid).flatMap(on)[0] ?? null;
    return { own, others: [...new Set(found.flatMap(on))].filter((fd) => fd !== own) };
  }

  /** Whether a thread waits on descriptors for its work, however many. */
  waitsOnDescriptors(tid: number): boolean {
    const idle = chooseIdlePoint(this.#threads.get(tid) ?? []);
    return idle !== null && (idle.kind === 2 || idle.descriptor != null);
  }

  /** The frames of a thread at its idle point, innermost first; empty where it was never seen there. */
  spineOf(tid: number): readonly SpineFrame[] {
    return chooseIdlePoint(this.#threads.get(tid) ?? [])?.frames ?? [];
  }

  /**
   * Index of the innermost spine frame among `frames`; null where nothing is known. A thread that was never seen
   * blocked is compared with the others by code alone.
   */
  spineIn(tid: number, frames: readonly SpineFrame[]): number | null {
    const own = chooseIdlePoint(this.#threads.get(tid) ?? []);
    if (own !== null) return innermostOf(innermostShared(own.frames, frames), sharedByCode(own.frames, frames));
    let best: number | null = null;
    for (const points of this.#threads.values()) {
      const idle = chooseIdlePoint(points);
      const index = idle === null ? null : sharedByCode(idle.frames, frames);
      if (index !== null && (best === null || index < best)) best = index;
    }
    return best;
  }

  #pointsOf(tid: number): IdlePoint[] {
    const known = this.#threads.get(tid);
    if (known !== undefined) return known;
    if (this.#threads.size >= threadsMax) this.#threads.delete(this.#threads.keys().next().value!);
    const points: IdlePoint[] = [];
    this.#threads.set(tid, points);
    return points;
  }
}

/** The point where a thread waits for work: the surest kind of wait, then the most often seen. Pure. */
export function chooseIdlePoint<Point extends { kind: WaitKind; seen: number }>(
  points: readonly Point[],
): Point | null {
  return points.reduce<Point | null>(
    (best, point) =>
      best === null || point.kind > best.kind || (point.kind === best.kind && point.seen > best.seen) ? point : best,
    null,
  );
}

/**
 * A stack that was put together by guesses has its activations elsewhere than they were: then the code still tells. The
 * fewer frames are left to be abandoned the better.
 */
const innermostOf = (byActivation: number | null, byCode: number | null): number | null =>
  byActivation === null || byCode === null ? byActivation : Math.min(byActivation, byCode);

function innermostShared(spine: readonly SpineFrame[], frames: readonly SpineFrame[]): number | null {
  const index = frames.findIndex((_, at) => spine.some((_known, place) => sameActivation(spine, place, frames, at)));
  return index < 0 ? null : index;
}

/** Whether frame `at` of a stack is the very activation that is frame `place` of a spine. */
export function sameActivation(
  spine: readonly SpineFrame[],
  place: number,
  frames: readonly SpineFrame[],
  at: number,
): boolean {
  const [known, frame] = [spine[place]!, frames[at]!];
  if (known.cfa === null || known.cfa !== frame.cfa) return false;
  return sameFunction(known, frame) || sameCall(known, spine[place + 1], frame, frames[at + 1]);
}

const sameFunction = (a: SpineFrame, b: SpineFrame): boolean => a.function !== null && a.function === b.function;

/**
 * Called by the same call, and either one is a part of some function, of which the other is the rest, or nothing is known of
 * both: no call-frame information, and a call through a pointer.
 */
function sameCall(
  a: SpineFrame,
  aOuter: SpineFrame | undefined,
  b: SpineFrame,
  bOuter: SpineFrame | undefined,
): boolean {
  if (aOuter === undefined || aOuter.pc !== bOuter?.pc) return false;
  return a.isPart !== b.isPart || (a.function === null && b.function === null);
}

/** From the outermost frame inwards, equal return addresses; the first that differs still belongs if its function does. */
function sharedByCode(spine: readonly SpineFrame[], frames: readonly SpineFrame[]): number | null {
  let shared = 0;
  while (shared < spine.length && shared < frames.length) {
    const known = spine[spine.length - 1 - shared]!;
    const frame = frames[frames.length - 1 - shared]!;
    const isSame = known.pc === frame.pc || sameFunction(known, frame);
    if (!isSame && (shared === 0 || known.isPart === frame.isPart)) break;
    shared += 1;
    if (known.pc !== frame.pc) break;
  }
  return shared === 0 ? null : frames.length - shared;
}

const indexOfRarest = (points: readonly IdlePoint[]): number =>
  points.reduce((rarest, point, index) => (point.seen < points[rarest]!.seen ? index : rarest), 0);
