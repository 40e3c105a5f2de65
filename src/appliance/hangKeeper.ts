// SPDX-License-Identifier: Apache-2.0
/**
 * Finds threads that hang, and has the lane work on them as on a fault, in a guest as beside us. Gets the protection of now.
 *
 *     look every 500 ms ─▶ a stretch over its limit ─▶ its stack, several times ─▶ goes round in one frame ─▶ told to the lane
 *                                                            └─moved, or came back─▶ left alone
 *
 * A look stops nothing, and costs one read of /proc where the program does nothing. Only a thread that has burned its
 * whole limit is stopped, for some 100 µs each time, and goes on at once unless the last look settles it.
 */
import { ByteReader } from "#bytes.ts";
import { type Clock, seededRandom, sleepToBeat } from "#clock.ts";
import { explain, GdbError } from "#errors.ts";
import { address, type Registers, type VirtualAddress } from "#fault.ts";
import type { Log } from "#log.ts";
import { type BusyScene, BusyStretches, type HangLimits } from "#monitor/busyStretches.ts";
import type { GdbClient } from "#monitor/gdb/client.ts";
import { loopFrame, type StackLook } from "#monitor/loopFrame.ts";
import type { Storage } from "#storage/storage.ts";
import type { TaskGroup } from "#tasks.ts";

const lookMs = 500;
/** A look that takes long, into a guest, is followed by a rest of so many times its length. */
const restToLook = 10;
const stackLooks = 6;
/** Reads of one return address, 1 ms apart. */
const slotReads = 50;
const pointerBytes = 8n;
/** Between two looks at a stack: at no fixed distance, so that no rhythm of the program hides its moves. */
const stackLookMs = { least: 5, most: 45 };

/** What the keeper needs of a program; implemented by the watch, and by that of a guest's program. */
export interface HangScene {
  /** `refresh` reads what is not read at once, and is false where no thread can have burned since the last time. */
  readonly busy: BusyScene<unknown> & { refresh(): boolean | Promise<boolean> };
  /** The stack of a stopped thread. */
  stackOf(tid: number, registers: Registers): StackLook | Promise<StackLook>;
  readMemory(from: VirtualAddress, lengthBytes: number): Uint8Array | Promise<Uint8Array>;
}
/** Watch and client of the protection of now; null where there is none. */
export type HangPresent = { readonly watch: HangScene; readonly client: GdbClient } | null;

export type HangParts = {
  readonly clock: Clock;
  readonly limits: HangLimits;
  /** Told once for each thread that is given to the lane. */
  readonly found: (tid: number) => void;
  readonly failed: (why: string) => void;
};

/** What a guard gives. */
export type HangGuard = {
  readonly name: string;
  readonly clock: Clock;
  readonly hangs: HangLimits | null;
  readonly storage: Pick<Storage, "event">;
  readonly log: Log;
};

export function startHangKeeper(
  { name, clock, hangs, storage, log }: HangGuard,
  tasks: TaskGroup,
  present: () => HangPresent,
): void {
  if (hangs === null) return;
  const found = (tid: number): void => storage.event("hang.found", name, { tid });
  const failed = (why: string): void => log("warn", "hang.unclear", { why });
  tasks.start((signal) => new HangKeeper({ clock, limits: hangs, found, failed }, present).run(signal));
}

export class HangKeeper {
  #stretches: BusyStretches<unknown> | null = null;
  #of: HangScene | null = null;

  constructor(
    private readonly parts: HangParts,
    private readonly present: () => HangPresent,
  ) {}

  /** Looks until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.parts;
    for (let restMs = lookMs; !signal.aborted; ) {
      await sleepToBeat(clock, restMs, signal).catch(() => {});
      const now = this.present();
      if (now === null || signal.aborted) continue;
      const stretches = this.#stretchesOf(now.watch);
      const beganNs = clock.monotonicNs();
      const ran = await now.watch.busy.refresh();
      restMs = Math.max(lookMs, ((clock.monotonicNs() - beganNs) / 1e6) * restToLook);
      if (ran) for (const tid of stretches.look()) await this.#confirm(tid, now, stretches);
    }
  }

  #stretchesOf(watch: HangScene): BusyStretches<unknown> {
    if (this.#stretches === null || this.#of !== watch) {
      this.#stretches = new BusyStretches(watch.busy, this.parts.limits);
      this.#of = watch;
    }
    return this.#stretches;
  }

  async #confirm(tid: number, now: NonNullable<HangPresent>, stretches: BusyStretches<unknown>): Promise<void> {
    try {
      const loop = await this.#lookAtStack(tid, now);
      if (loop === null) return stretches.excuse(tid);
      stretches.acted(tid);
      this.parts.found(tid);
      now.client.tellHung(tid, loop);
    } catch (error) {
      stretches.excuse(tid);
      if (error instanceof GdbError && error.code === "gdb.gone") return;
      this.parts.failed(`whether thread ${tid} hangs could not be found out: ${explain(error)}`);
    }
  }

  /** The frame that a thread goes round in, the thread then being stopped; null where there is none, and it runs. */
  async #lookAtStack(tid: number, present: NonNullable<HangPresent>): Promise<VirtualAddress | null> {
    const { client } = present;
    const looks: StackLook[] = [];
    const random = seededRandom(tid);
    for (let look = 1; look <= stackLooks; look += 1) {
      if (client.isStopped(tid)) return null;
      // Where it has stopped by itself meanwhile, it is the lane's.
      const { signal, registers } = await client.stopThread(tid);
      if (signal !== "SIGSTOP") return null;
      let stays = false;
      try {
        looks.push(await present.watch.stackOf(tid, registers));
        const loop = looks.length === 1 ? null : loopFrame(looks);
        stays = look === stackLooks && loop !== null;
        if (stays) return loop;
        if (looks.length > 1 && loop === null) return null;
      } finally {
        if (!stays) await client.control(tid).resume();
      }
      if (look === 1 && (await this.#moves(looks[0]!, present))) return null;
      await this.parts.clock.sleep(stackLookMs.least + random() * (stackLookMs.most - stackLookMs.least));
    }
    return null;
  }

  /** Whether the work that was seen above the spine is done: read, without a stop, where the processor keeps its return. */
  async #moves({ frames, spine }: StackLook, { watch, client }: NonNullable<HangPresent>): Promise<boolean> {
    if (spine === null || spine === 0) return true;
    const [cfa, returnTo] = [frames[spine - 1]!.cfa, frames[spine]!.pc];
    if (client.architecture !== "x86_64" || cfa === null) return false;
    for (let read = 0; read < slotReads; read += 1) {
      const bytes = await watch.readMemory(address(cfa - pointerBytes), Number(pointerBytes));
      if (bytes.length !== Number(pointerBytes) || new ByteReader(bytes).u64() !== returnTo) return true;
      await this.parts.clock.sleep(1);
    }
    return false;
  }
}
