// SPDX-License-Identifier: Apache-2.0
/**
 * A restore that is held ready on the main thread, before anybody wants it: its Worker has read what the guest wants first,
 * and has given a waiting Cloud Hypervisor all that needs no guest.
 *
 * Gets an order and a Worker; gives the Restore that goes on from there. Whoever lets go of it ends the Worker, and with it the
 * connection: Cloud Hypervisor then has nothing. Limit: what is held in memory, `readyPagesMax` of runRestore.ts.
 */
import { Restore, type RestoreProgress } from "./restore.ts";
import type { RestoreCall } from "./restoreWorker.ts";
import type { RestoreOrder } from "./runRestore.ts";
import type { WorkerPort } from "./workerPort.ts";

export class HeldRestore implements Disposable {
  #begun = false;

  private constructor(
    readonly order: RestoreOrder,
    /** How its memory will come: Cloud Hypervisor must be told before. */
    readonly mode: RestoreProgress["mode"],
    private readonly port: WorkerPort<RestoreCall>,
  ) {}

  /** Owns the Worker. @throws StorageError, NativeError */
  static async rehearse(order: RestoreOrder, port: WorkerPort<RestoreCall>): Promise<HeldRestore> {
    try {
      const mode = (await port.call({ kind: "rehearse", restore: order })) as RestoreProgress["mode"];
      return new HeldRestore(order, mode, port);
    } catch (error) {
      port[Symbol.dispose]();
      throw error;
    }
  }

  /** `all`: with the configuration, which Cloud Hypervisor acts upon. @throws HypervisorError, NativeError */
  async offer(socket: string, hypervisorPid: number, all: boolean): Promise<void> {
    await this.port.call({ kind: "offer", socket, hypervisorPid, all });
  }

  /** Gives its Worker away with the restore. */
  begin(): Restore {
    this.#begun = true;
    return new Restore(this.order, this.port);
  }

  [Symbol.dispose](): void {
    if (!this.#begun) this.port[Symbol.dispose]();
  }
}
