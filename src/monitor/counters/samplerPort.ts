// SPDX-License-Identifier: Apache-2.0
/**
 * The sampling Worker as the main thread sees it. Gets targets; gives snapshots once a second, and the sample board, which
 * can be read at any time without asking.
 *
 * A Worker that ends is not started again within this run: what it would see is absent from then on, and `ended` says why.
 */
import type { Box } from "#board/box.ts";
import { announce, type Mailbox, openMailbox, post } from "#mailbox.ts";
import { controlBytes, controlWords, type SamplerStart, type Snapshot, type Target } from "../snapshot.ts";
import { type EventPlan, planEvents } from "./eventPlan.ts";
import { provenPlan } from "./provenPlan.ts";
import { SampleBoard } from "./sampleBoard.ts";

export type SamplerOptions = {
  readonly box: Box;
  /** 1 to 1,000. */
  readonly rateHz: number;
  /** Directories whose file systems are watched. */
  readonly places: readonly string[];
  readonly snapshot: (snapshot: Snapshot) => void;
  readonly ended: (why: string) => void;
};

export class SamplerPort implements Disposable {
  readonly plan: EventPlan;
  readonly board: SampleBoard;
  readonly #control = new Int32Array(new SharedArrayBuffer(controlBytes));
  readonly #worker: Worker;
  readonly #targets: Mailbox;
  #closed = false;

  constructor({ box, rateHz, places, snapshot, ended }: SamplerOptions) {
    this.plan = provenPlan(planEvents(box), box);
    this.board = SampleBoard.create(this.plan);
    // smol: it holds little, and a small heap is what the box has room for.
    this.#worker = new Worker(new URL("./samplerWorker.ts", import.meta.url).href, { smol: true } as WorkerOptions);
    this.#worker.onmessage = (event: MessageEvent<string>): void => {
      if (!this.#closed) snapshot(JSON.parse(event.data) as Snapshot);
    };
    this.#worker.onerror = (event): void => {
      if (!this.#closed) ended(event.message);
    };
    const control = this.#control.buffer as SharedArrayBuffer;
    const [ours, mailbox] = openMailbox();
    this.#targets = ours;
    const start = { plan: this.plan, buffer: this.board.buffer, control, rateHz, places, mailbox };
    this.#worker.postMessage(start satisfies SamplerStart, [mailbox.port]);
    // Nobody waits for it at the end of the process.
    this.#worker.unref();
  }

  /** Rounds that it has served: stands still where it hangs. */
  get beats(): number {
    return Atomics.load(this.#control, controlWords.beats);
  }

  watch(targets: readonly Target[]): void {
    post(this.#targets, targets);
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    Atomics.store(this.#control, controlWords.end, 1);
    announce(this.#targets);
    this.#worker.terminate();
  }
}
