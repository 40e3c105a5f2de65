// SPDX-License-Identifier: Apache-2.0
/**
 * Checkpoints on the main thread: what there is, in memory, and every order to the checkpoint Worker, one at a time.
 *
 * Gets the state directory; gives lists at once and orders as promises. Nothing here touches a guest: who takes a checkpoint
 * asks Cloud Hypervisor between `listening` and the end. A connection whose guest stands still for too long is cut from here.
 * Limit: `cutAfter` times the order's own limit.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { shutDown } from "#board/native/unixStream.ts";
import { type Clock, deadline } from "#clock.ts";
import { HypervisorError, StorageError } from "#errors.ts";
import { type CheckpointRow, PageReader } from "#storage/pageReader.ts";
import { type CheckpointFacts, listFacts } from "./checkpointFacts.ts";
import { type DiskClone, decodeHead } from "./checkpointHead.ts";
import type { StoreOrder } from "./checkpointWorker.ts";
import { HeldRestore } from "./heldRestore.ts";
import { Restore, restoreWorker } from "./restore.ts";
import type { RestoreCall } from "./restoreWorker.ts";
import type { Keep } from "./retention.ts";
import type { RestoreOrder } from "./runRestore.ts";
import type { CheckpointOrder, Held, Sealed } from "./takeCheckpoint.ts";
import type { Damage } from "./verifyCheckpoint.ts";
import { WorkerPort } from "./workerPort.ts";

/** The Worker has its own limit for a guest that stands still; this is for a Worker that does not keep it. */
const cutAfter = 4;

export const pageFilePath = (stateDirectory: string): string => join(stateDirectory, "pages.db");

/** What is stored, without a supervisor. @throws StorageError */
export function readCheckpoints(stateDirectory: string): CheckpointFacts[] {
  if (!existsSync(pageFilePath(stateDirectory))) return [];
  using reader = PageReader.open(pageFilePath(stateDirectory));
  return listFacts(reader.checkpoints);
}

export class Checkpoints implements Disposable {
  readonly #port: WorkerPort<StoreOrder>;
  #rows: readonly CheckpointRow[] = [];
  /** Kept warm as long as there is something to restore. */
  #spare: { readonly port: WorkerPort<RestoreCall>; readonly checkpoint: string } | null = null;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly directory: string,
    private readonly clock: Clock,
  ) {
    const worker = new URL("./checkpointWorker.ts", import.meta.url).href;
    this.#port = new WorkerPort(worker, "checkpoint", { kind: "open", directory });
    if (!existsSync(pageFilePath(directory))) return;
    try {
      using reader = PageReader.open(pageFilePath(directory));
      this.#rows = reader.checkpoints;
    } catch {
      // Damaged or half made: the Worker repairs or replaces it when it is needed, and says so then.
    }
  }

  get path(): string {
    return pageFilePath(this.directory);
  }

  /** Newest first. */
  get list(): CheckpointFacts[] {
    return listFacts(this.#rows);
  }

  /** The one to go back to: the newest good one of this guest that this build may restore; null where there is none. */
  lastGood(guest: string, build: string | null): CheckpointFacts | null {
    return this.list.find((each) => each.guest === guest && each.state === "good" && isOurs(each, build)) ?? null;
  }

  /** @throws StorageError storage.notFound */
  find(id: string): CheckpointFacts {
    const found = this.list.find((each) => each.id === id);
    if (found !== undefined) return found;
    throw new StorageError("storage.notFound", `there is no checkpoint ${JSON.stringify(id)}`, { checkpoint: id });
  }

  /** Disks that belong to it. @throws StorageError */
  disksOf(id: string): readonly DiskClone[] {
    const row = this.#rows.find((each) => each.id === id);
    return row === undefined ? [] : decodeHead(id, row.head).disks;
  }

  /**
   * Takes one. `listening`: now Cloud Hypervisor is to send itself. `confirm`: the guest goes on again; only then is the
   * checkpoint sealed. @throws HypervisorError, StorageError, NativeError: then nothing of it is kept
   */
  take(
    checkpoint: CheckpointOrder,
    listening: () => Promise<void>,
    confirm: () => Promise<void>,
    signal?: AbortSignal,
  ): Promise<Held & Sealed> {
    return this.#exclusive(async () => {
      signal?.throwIfAborted();
      let descriptor: number | null = null;
      let refused: unknown = null;
      const late = (): Error => new HypervisorError("hypervisor.peerSilent", "the checkpoint Worker is stuck");
      const cut = (): void => (descriptor === null ? undefined : shutDown(descriptor));
      let limit: (Disposable & { signal: AbortSignal }) | null = null;
      const held = await this.#call({ kind: "take", checkpoint }, (news) => {
        const { listening: ready, descriptor: opened, still } = news as TakeNews;
        if (ready === true) {
          listening().catch((error) => {
            refused = error;
          });
        }
        if (opened !== undefined) descriptor = opened;
        if (still === true) {
          limit = deadline(checkpoint.heldMsMax * cutAfter, late);
          limit.signal.addEventListener("abort", cut, { once: true });
        }
      }).catch((error) => {
        throw refused ?? error;
      });
      (limit as Disposable | null)?.[Symbol.dispose]();
      try {
        await confirm();
      } catch (error) {
        await this.#call({ kind: "discard" });
        throw error;
      }
      const [sealed, rows] = (await this.#call({ kind: "seal" })) as [Sealed, CheckpointRow[]];
      this.#rows = rows;
      return { ...(held as Held), ...sealed };
    });
  }

  /** Begins one; its Worker is warm where a restore was to be expected. */
  restore(order: Omit<RestoreOrder, "path">): Restore {
    const port = this.#spare?.port ?? restoreWorker();
    this.#spare = null;
    return new Restore({ ...order, path: this.path }, port);
  }

  /** Begins one as far as it can be begun before it is wanted. @throws StorageError, NativeError */
  hold(order: Omit<RestoreOrder, "path">): Promise<HeldRestore> {
    const spare = this.#spare?.checkpoint === order.checkpoint ? this.#spare.port : null;
    if (spare !== null) this.#spare = null;
    return HeldRestore.rehearse({ ...order, path: this.path }, spare ?? restoreWorker());
  }

  /** Makes ready for a restore of this guest, where there is something to restore. */
  expectRestore(guest: string): void {
    const wanted = this.lastGood(guest, null) ?? this.list.find((each) => each.guest === guest);
    if (wanted === undefined || this.#spare?.checkpoint === wanted.id) return;
    const port = this.#spare?.port ?? restoreWorker();
    this.#spare = { port, checkpoint: wanted.id };
    const how = { mode: "lazy", eagerBytesMax: 0, prefetchMsMax: 0, disks: {} } as const;
    const restore = { path: this.path, checkpoint: wanted.id, guest, ...how };
    // Whatever it meets, a real restore meets again and tells.
    port.call({ kind: "rehearse", restore }).catch(() => {});
  }

  async mark(id: string, mark: "good" | "bad" | "pinned" | "unpinned"): Promise<void> {
    this.#rows = (await this.#order({ kind: "mark", id, mark })) as CheckpointRow[];
  }

  async drop(id: string): Promise<void> {
    this.#rows = (await this.#order({ kind: "drop", id })) as CheckpointRow[];
  }

  async retain(guest: string, keep: Keep): Promise<string[]> {
    const [gone, rows] = (await this.#order({ kind: "retain", guest, keep })) as [string[], CheckpointRow[]];
    this.#rows = rows;
    return gone;
  }

  async touched(guest: string, pages: readonly number[]): Promise<void> {
    await this.#order({ kind: "touched", guest, pages });
  }

  async verify(id: string): Promise<Damage> {
    const [damage, rows] = (await this.#order({ kind: "verify", id })) as [Damage, CheckpointRow[]];
    this.#rows = rows;
    return damage;
  }

  async import(path: string): Promise<string[]> {
    const [ids, rows] = (await this.#order({ kind: "import", path })) as [string[], CheckpointRow[]];
    this.#rows = rows;
    return ids;
  }

  /** A name for a new one: when it was taken, and whose it is. */
  newId(guest: string): string {
    const at = new Date(this.clock.wallMs()).toISOString().replaceAll(/[-:]|\.\d+Z/g, "");
    const plain = `${guest}-${at}`;
    let id = plain;
    for (let n = 2; this.#rows.some((row) => row.id === id); n += 1) id = `${plain}.${n}`;
    return id;
  }

  [Symbol.dispose](): void {
    this.#port[Symbol.dispose]();
    this.#spare?.port[Symbol.dispose]();
  }

  #order(order: StoreOrder): Promise<unknown> {
    return this.#exclusive(() => this.#call(order));
  }

  /** One at a time, also across the messages of one checkpoint. */
  #exclusive<Value>(act: () => Promise<Value>): Promise<Value> {
    const mine = this.#queue.then(act);
    this.#queue = mine.catch(() => {});
    return mine;
  }

  #call(order: StoreOrder, news?: (news: unknown) => void): Promise<unknown> {
    return this.#port.call(order, news);
  }
}

type TakeNews = { readonly listening?: true; readonly descriptor?: number; readonly still?: true };

const isOurs = ({ build, architecture }: CheckpointFacts, wanted: string | null): boolean =>
  architecture === process.arch && (wanted === null || build === wanted);
