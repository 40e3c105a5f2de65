// SPDX-License-Identifier: Apache-2.0
/**
 * Finds threads that hang, and has the lane work on them as on a fault. Gets the protection of now; gives nothing.
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
import { address, type VirtualAddress } from "#fault.ts";
import type { Log } from "#log.ts";
import { BusyStretches, type HangLimits } from "#monitor/busyStretches.ts";
import { loopFrame, type StackLook } from "#monitor/loopFrame.ts";
import { readProcessTicks } from "#monitor/processes.ts";
import type { Traffic } from "#monitor/threadProgress.ts";
import type { Watch } from "#monitor/watch.ts";
import type { Storage } from "#storage/storage.ts";
import type { TaskGroup } from "#tasks.ts";
import type { Present } from "./lockScene.ts";

const lookMs = 500;
/** Of one processor, in clock ticks of 10 ms: a program that does less since the last look has no thread that burns. */
const burningTicks = 1;
const stackLooks = 6;
/** Reads of one return address, 1 ms apart. */
const slotReads = 50;
const pointerBytes = 8n;
/** Between two looks at a stack: at no fixed distance, so that no rhythm of the program hides its moves. */
const stackLookMs = { least: 5, most: 45 };

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
  present: () => Present,
): void {
  if (hangs === null) return;
  const found = (tid: number): void => storage.event("hang.found", name, { tid });
  const failed = (why: string): void => log("warn", "hang.unclear", { why });
  tasks.start((signal) => new HangKeeper({ clock, limits: hangs, found, failed }, present).run(signal));
}

export class HangKeeper {
  #stretches: BusyStretches<Traffic> | null = null;
  #of: Watch | null = null;
  #ticks = 0;

  constructor(
    private readonly parts: HangParts,
    private readonly present: () => Present,
  ) {}

  /** Looks until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.parts;
    while (!signal.aborted) {
      await sleepToBeat(clock, lookMs, signal).catch(() => {});
      const now = this.present();
      if (now === null || signal.aborted) continue;
      const stretches = this.#stretchesOf(now.watch);
      if (!this.#isBurning(now.watch.pid)) continue;
      for (const tid of stretches.look()) await this.#confirm(tid, now, stretches);
    }
  }

  #stretchesOf(watch: Watch): BusyStretches<Traffic> {
    if (this.#stretches === null || this.#of !== watch) {
      this.#stretches = new BusyStretches(watch.busy, this.parts.limits);
      this.#of = watch;
    }
    return this.#stretches;
  }

  #isBurning(pid: number): boolean {
    const ticks = readProcessTicks(pid) ?? 0;
    const ran = ticks - this.#ticks;
    this.#ticks = ticks;
    return ran >= burningTicks;
  }

  async #confirm(tid: number, now: NonNullable<Present>, stretches: BusyStretches<Traffic>): Promise<void> {
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
  async #lookAtStack(tid: number, present: NonNullable<Present>): Promise<VirtualAddress | null> {
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
        looks.push(present.watch.stackOf(tid, registers));
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
  async #moves({ frames, spine }: StackLook, { watch, client }: NonNullable<Present>): Promise<boolean> {
    if (spine === null || spine === 0) return true;
    const [cfa, returnTo] = [frames[spine - 1]!.cfa, frames[spine]!.pc];
    if (client.architecture !== "x86_64" || cfa === null) return false;
    for (let read = 0; read < slotReads; read += 1) {
      const bytes = watch.readMemory(address(cfa - pointerBytes), Number(pointerBytes));
      if (bytes.length !== Number(pointerBytes) || new ByteReader(bytes).u64() !== returnTo) return true;
      await this.parts.clock.sleep(1);
    }
    return false;
  }
}
