// SPDX-License-Identifier: Apache-2.0
/**
 * Which threads burn processor time without coming back to where they wait for work. Gets, at each look, what is known of
 * each thread; gives those that have gone on for too long. Nothing is stopped, and time is the thread's own: one that gets
 * no processor makes no stretch.
 *
 *     waits ─▶ stretch ──waits again, or gets on──▶ its length is learned
 *                 └──over its limit──▶ suspect
 *
 * A stretch ends when the thread has given up the processor by itself, or when connections of its own were answered anew.
 * The limit is `waitedMs` where work waits that the thread would take if it came back, `unwaitedMs` else, and in both
 * cases at least `learnedFactor` times the longest stretch that ended by itself. A thread that goes on burning right after
 * an act on it has a quarter of that.
 */
export type HangLimits = {
  /** Processor time of one stretch while work waits in vain for the second half of it, ms. */
  readonly waitedMs: number;
  /** The same while nothing waits, ms. */
  readonly unwaitedMs: number;
};

export const defaultHangLimits: HangLimits = { waitedMs: 10_000, unwaitedMs: 300_000 };

const learnedFactor = 3;
/** Less than that since the last look is no burning: what a thread does in between two waits. */
const leastNs = 5e6;
/** From this part of the limit on a stretch is looked at closely. */
const closelyFrom = 1 / 8;
const afterActPart = 1 / 4;
const threadsMax = 4096;

/** Of one processor, in clock ticks of 10 ms: a program that does less between two looks has no thread that burns. */
const burningTicks = 1;

/** Whether a program may have burned between two looks. Gets the processor time of all its threads so far, in clock ticks. */
export class Burning {
  #ticks = 0;

  since(ticks: number): boolean {
    const ran = ticks - this.#ticks;
    this.#ticks = ticks;
    return ran >= burningTicks;
  }
}

/** What is to know of threads; implemented by ThreadProgress and RemoteBusy. */
export interface BusyScene<Mark> {
  threads(): readonly number[];
  /** Processor time so far, ns; null where the thread is gone. */
  processorNs(tid: number): number | null;
  /** Times the thread gave up the processor by itself. */
  switches(tid: number): number | null;
  isAwaited(tid: number): boolean;
  /** What `gotOn` compares with. */
  mark(tid: number): Mark;
  gotOn(tid: number, mark: Mark): boolean;
}

type Stretch<Mark> = {
  readonly switches: number;
  readonly beganNs: number;
  readonly afterAct: boolean;
  lastNs: number;
  mark: Mark | null;
  awaitedFromNs: number | null;
};

export class BusyStretches<Mark> {
  readonly #stretches = new Map<number, Stretch<Mark>>();
  /** Threads that were acted upon since the last look. */
  readonly #acted = new Set<number>();
  #longestNs = 0;

  constructor(
    private readonly scene: BusyScene<Mark>,
    private readonly limits: HangLimits,
  ) {}

  /** Length of the longest stretch that ended by itself, ms of processor time. */
  get longestMs(): number {
    return this.#longestNs / 1e6;
  }

  /** Looks once; gives the threads whose stretch is over its limit. */
  look(): number[] {
    const threads = this.scene.threads().slice(0, threadsMax);
    if (this.#stretches.size > threads.length) this.#forgetAllBut(new Set(threads));
    return threads.filter((tid) => this.#lookAt(tid));
  }

  /** The thread was stopped for its stretch, and goes on changed: that was no end of its own. */
  acted(tid: number): void {
    this.#stretches.delete(tid);
    this.#acted.add(tid);
  }

  /** The thread was found to get on after all: so long a stretch is nothing unusual here. */
  excuse(tid: number): void {
    const stretch = this.#stretches.get(tid);
    if (stretch !== undefined) this.#longestNs = Math.max(this.#longestNs, stretch.lastNs - stretch.beganNs);
    this.#stretches.delete(tid);
  }

  #lookAt(tid: number): boolean {
    const nowNs = this.scene.processorNs(tid);
    const known = this.#stretches.get(tid);
    if (nowNs === null || (known !== undefined && nowNs - known.lastNs < leastNs)) return false;
    const switches = this.scene.switches(tid);
    if (switches === null) return false;
    if (known === undefined || known.switches !== switches) {
      this.#begin(tid, known, nowNs, switches);
      return false;
    }
    known.lastNs = nowNs;
    const ranNs = nowNs - known.beganNs;
    if (ranNs < this.#limitNs(known, this.limits.waitedMs) * closelyFrom) return false;
    if (known.mark === null) known.mark = this.scene.mark(tid);
    else if (this.scene.gotOn(tid, known.mark)) {
      this.#begin(tid, known, nowNs, switches);
      return false;
    }
    return this.#isOver(tid, known, nowNs);
  }

  #isOver(tid: number, stretch: Stretch<Mark>, nowNs: number): boolean {
    stretch.awaitedFromNs = this.scene.isAwaited(tid) ? (stretch.awaitedFromNs ?? nowNs) : null;
    const ranNs = nowNs - stretch.beganNs;
    if (ranNs >= this.#limitNs(stretch, this.limits.unwaitedMs)) return true;
    const limitNs = this.#limitNs(stretch, this.limits.waitedMs);
    const awaitedNs = stretch.awaitedFromNs === null ? 0 : nowNs - stretch.awaitedFromNs;
    return ranNs >= limitNs && awaitedNs >= limitNs / 2;
  }

  #limitNs({ afterAct }: Stretch<Mark>, limitMs: number): number {
    const wholeNs = Math.max(limitMs * 1e6, learnedFactor * this.#longestNs);
    return afterAct ? wholeNs * afterActPart : wholeNs;
  }

  #begin(tid: number, before: Stretch<Mark> | undefined, nowNs: number, switches: number): void {
    if (before !== undefined && !before.afterAct) {
      this.#longestNs = Math.max(this.#longestNs, before.lastNs - before.beganNs);
    }
    const afterAct = this.#acted.delete(tid);
    const from = { switches, beganNs: nowNs, lastNs: nowNs, afterAct };
    this.#stretches.set(tid, { ...from, mark: null, awaitedFromNs: null });
  }

  #forgetAllBut(threads: ReadonlySet<number>): void {
    for (const tid of this.#stretches.keys()) if (!threads.has(tid)) this.#stretches.delete(tid);
  }
}
