// SPDX-License-Identifier: Apache-2.0
/**
 * Learns where the threads of a program inside a guest wait for work. Gets looks at threads, their code and memory through the
 * stub; gives spines. Stops nothing.
 *
 * A blocked thread's stack is read while it may go on. It counts where the thread has not moved at all meanwhile; or where it
 * was back at the same place, and another look finds the same frames: a program that wakes up ten times a second is never
 * still for as long as a look into a slow guest takes.
 */
import { unwindBlocked } from "#binary/unwind.ts";
import type { Architecture, VirtualAddress } from "#fault.ts";
import { spineFrames } from "../faultDecoder.ts";
import type { BlockedThread } from "../processes.ts";
import { type SpineFrame, Spines } from "../spines.ts";
import { waitKind } from "../waits.ts";
import type { RemoteCode } from "./remoteCode.ts";
import type { RemoteThreads } from "./remoteThreads.ts";
import type { RemoteView } from "./remoteView.ts";

export const spineFramesMax = 128;

export class RemoteSpines {
  readonly spines: Spines;
  /** Stacks that were read while their thread may have moved, until another look finds the same. */
  readonly #unsure = new Map<number, { readonly blocked: BlockedThread; readonly frames: readonly SpineFrame[] }>();
  /** Frames of the one thread that is being observed: the spines ask for them without waiting. */
  #observed: readonly SpineFrame[] = [];

  constructor(
    private readonly architecture: Architecture,
    private readonly threads: RemoteThreads,
    private readonly code: RemoteCode,
    private readonly view: RemoteView,
  ) {
    this.spines = new Spines(architecture, () => this.#observed);
  }

  /** Looks at one thread. True where it waits for work now, at a place that was known before. @throws GdbError */
  async observe(tid: number): Promise<boolean> {
    const before = await this.threads.look(tid);
    const blocked = before?.blocked ?? null;
    if (blocked === null || waitKind(blocked.syscall, this.architecture) === 0) return false;
    if (this.spines.isIdle(tid, blocked)) {
      this.spines.observe(tid, blocked);
      return true;
    }
    this.view.forget();
    if (this.code.map.locate(Number(blocked.pc)) === null) await this.code.refresh();
    const frames = await this.view.settle(() => this.#framesOf(blocked));
    const after = await this.threads.look(tid);
    if (!samePlace(blocked, after?.blocked)) return false;
    if (after.status.voluntarySwitches !== before!.status.voluntarySwitches) {
      const unsure = this.#unsure.get(tid);
      this.#unsure.set(tid, { blocked, frames });
      if (!samePlace(blocked, unsure?.blocked) || !Bun.deepEquals(frames, unsure.frames)) return false;
    }
    this.#unsure.delete(tid);
    this.#observed = frames;
    this.spines.observe(tid, blocked);
    this.#observed = [];
    return false;
  }

  #framesOf(blocked: BlockedThread): readonly SpineFrame[] {
    const map = this.code.map;
    const read = (from: VirtualAddress, bytes: number): Uint8Array => this.view.readMemory(from, bytes);
    return spineFrames(unwindBlocked(blocked.pc, blocked.sp, read, map, spineFramesMax).frames, map);
  }
}

const samePlace = (before: BlockedThread, after: BlockedThread | null | undefined): after is BlockedThread =>
  after?.sp === before.sp && after.pc === before.pc;
