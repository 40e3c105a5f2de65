// SPDX-License-Identifier: Apache-2.0
/**
 * One restore on the main thread: its Worker, what it has brought so far, and its end.
 *
 * Gets an order; gives `running` (the guest runs), `served` (it no longer needs us) and progress at any
 * time. Between the two the guest lives by this process: whoever ends it early ends the guest. A page that cannot be
 * served ends Cloud Hypervisor before its connection is closed, so that the guest never computes on zeros.
 */
import { pageBytes } from "#vm/offload/guestRam.ts";
import { type PageWaits, readWaits, waitUsWithin } from "./pageWaits.ts";
import { progressBytes, progressPlaces, waitsOffset } from "./restoreProgress.ts";
import type { RestoreCall } from "./restoreWorker.ts";
import type { Prepared, RestoreOrder } from "./runRestore.ts";
import { WorkerPort } from "./workerPort.ts";

export type RestoreProgress = {
  readonly checkpoint: string;
  readonly mode: "lazy" | "eager";
  readonly contentBytes: number;
  /** Written before the guest ran, because it asked, and behind its back. */
  readonly prefetchedBytes: number;
  readonly demandedBytes: number;
  readonly backgroundBytes: number;
  /** Microseconds that the guest waited for a page it touched: half of the waits at most, 99 % at most. Null without any. */
  readonly waitUsP50: number | null;
  readonly waitUsP99: number | null;
};

/** A Worker for one restore; `warm` it where a restore is to be expected, for it takes longer to start than a guest. */
export const restoreWorker = (): WorkerPort<RestoreCall> =>
  new WorkerPort(new URL("./restoreWorker.ts", import.meta.url).href, "restore", null, { kind: "close" });

export class Restore implements Disposable {
  readonly #shared = new SharedArrayBuffer(progressBytes);
  readonly #progress = new BigInt64Array(this.#shared);
  readonly #preparing: Promise<unknown>;

  prepared: Prepared = { mode: "lazy", contentBytes: 0, prefetchedBytes: 0 };

  /** Begins to bring what the guest needs first. Nothing of Cloud Hypervisor is needed yet. Owns the Worker. */
  constructor(
    private readonly order: RestoreOrder,
    private readonly port: WorkerPort<RestoreCall> = restoreWorker(),
  ) {
    this.#preparing = port.call({ kind: "prepare", restore: order, progress: this.#shared });
    this.#preparing.catch(() => {});
  }

  /** Cloud Hypervisor is there: what has not been brought yet follows later. @throws StorageError, NativeError */
  async ready(): Promise<Prepared> {
    Atomics.store(this.#progress, progressPlaces.wanted, 1n);
    this.prepared = (await this.#preparing) as Prepared;
    return this.prepared;
  }

  /**
   * Hands the guest over. `running` resolves once it runs, `served` once it needs us no longer, with its first touches in
   * order. Both reject with HypervisorError, StorageError or NativeError; Cloud Hypervisor is gone then if it had the guest.
   */
  run(socket: string, hypervisorPid: number): { running: Promise<void>; served: Promise<readonly number[]> } {
    const { promise: running, resolve, reject } = Promise.withResolvers<void>();
    const served = this.port.call({ kind: "run", socket, hypervisorPid }, () => resolve()) as Promise<
      readonly number[]
    >;
    served.catch(reject);
    running.catch(() => {});
    return { running, served };
  }

  get progress(): RestoreProgress {
    const { mode, contentBytes } = this.prepared;
    const { waits } = this;
    const bytesAt = (place: number): number => Number(this.#progress[place]!) * pageBytes;
    return {
      checkpoint: this.order.checkpoint,
      mode,
      contentBytes,
      prefetchedBytes: bytesAt(progressPlaces.prefetched),
      demandedBytes: bytesAt(progressPlaces.demanded),
      backgroundBytes: bytesAt(progressPlaces.background),
      waitUsP50: waitUsWithin(waits, 0.5),
      waitUsP99: waitUsWithin(waits, 0.99),
    };
  }

  get waits(): PageWaits {
    return readWaits(new BigInt64Array(this.#shared, waitsOffset));
  }

  [Symbol.dispose](): void {
    this.port[Symbol.dispose]();
  }
}
