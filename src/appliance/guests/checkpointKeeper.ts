// SPDX-License-Identifier: Apache-2.0
/**
 * Takes a guest's checkpoints: when asked, and by itself once it has been healthy for a while and then on a schedule; calls
 * one good after the guest has run on without a fault; lets old ones go.
 *
 * Gets the lane; gives reports. A checkpoint that is refused or postponed is news, not an error, and the guest goes on in
 * every case.
 */
import { statSync } from "node:fs";
import { dirname } from "node:path";
import { explain, HypervisorError } from "#errors.ts";
import { type CheckpointOrder, cloneDirectoryFor } from "#restoration/takeCheckpoint.ts";
import type { Hypervisor } from "#vm/hypervisor.ts";
import type { CheckpointReport } from "../checkpointNotices.ts";
import { whyNoCheckpoint } from "./checkpointAbility.ts";
import { checkpointMethod } from "./checkpointMethod.ts";
import { outSocket } from "./guestRestore.ts";
import type { GuestParts, Incarnation } from "./incarnation.ts";
import type { Supervised } from "./supervision.ts";

/** The lane, as far as its checkpoints need it. */
export interface KeptGuest {
  readonly name: string;
  readonly parts: GuestParts;
  readonly state: Supervised;
  readonly current: Incarnation | null;
  /** Null unless its memory still arrives. */
  readonly arriving: object | null;
  readonly notices: {
    readonly faults: number;
    checkpointed(report: CheckpointReport): void;
    noCheckpoint(why: string): void;
  };
  expectRestore(): void;
  until(done: (state: Supervised) => boolean, signal: AbortSignal): Promise<void>;
}

/** Until Cloud Hypervisor itself says that the guest runs again. */
const runningMsMax = 1_000;
const lookMs = 5;
/** A stream that is not over by then is given up by Cloud Hypervisor: this, and a second for so much memory. */
const streamSeconds = 30;
const streamBytesPerSecond = 4 << 20;
/** What is left of a stream when it is sent while the guest stands still may take so long. */
const shortMs = 5;

/** Cloud Hypervisor gives a stream up by closing it in the middle of its memory; we do after some rounds. */
const isUnsettled = (error: unknown): boolean =>
  error instanceof HypervisorError &&
  (error.code === "hypervisor.noConvergence" ||
    (error.code === "hypervisor.peerClosed" && error.context.step === "memory"));

export class CheckpointKeeper {
  constructor(private readonly lane: KeptGuest) {}

  /** @throws HypervisorError hypervisor.unsupported with the reason, hypervisor.state where it cannot be now, or what went wrong */
  async create(signal?: AbortSignal): Promise<CheckpointReport> {
    const hypervisor = this.#ready();
    try {
      return await this.#take(hypervisor, shortMs, signal);
    } catch (error) {
      const { kind } = await hypervisor.look().catch(() => hypervisor.state);
      if (!isUnsettled(error) || kind !== "running") throw error;
      // It writes faster than the shortest stop would take: one as long as it may be is the other choice.
      return await this.#take(hypervisor, this.lane.parts.section.checkpoint.pauseMsMax, signal);
    }
  }

  async #take(hypervisor: Hypervisor, downtimeMs: number, signal?: AbortSignal): Promise<CheckpointReport> {
    const { parts, name, notices } = this.lane;
    const order = this.#order(hypervisor);
    const send = (): Promise<void> => this.#send(hypervisor, order, downtimeMs);
    const taken = await parts.checkpoints.take(order, send, () => this.#confirm(hypervisor), signal);
    this.lane.expectRestore();
    const report = { ...taken, guest: name, atMs: order.atMs };
    notices.checkpointed(report);
    return report;
  }

  /** Until the abort: checkpoints by themselves, and the proof of each that was taken. */
  async run(signal: AbortSignal): Promise<void> {
    const { parts } = this.lane;
    const { automatic, healthyMs, everyMs } = parts.section.checkpoint;
    for (let waitMs = healthyMs; !signal.aborted; waitMs = everyMs) {
      await this.lane.until(({ phase }) => phase.kind === "up", signal);
      this.lane.expectRestore();
      if (!(await this.#healthyFor(waitMs, signal)) || !automatic) {
        waitMs = healthyMs;
        if (!automatic) await this.#changed(signal);
        continue;
      }
      try {
        const { id } = await this.create(signal);
        await this.prove(id, signal);
      } catch (error) {
        if (signal.aborted) return;
        this.lane.notices.noCheckpoint(explain(error));
      }
    }
  }

  /** Calls a checkpoint good once the guest has run on for long enough without a fault; else leaves it as it is. */
  async prove(id: string, signal: AbortSignal): Promise<boolean> {
    const { checkpoints, section } = this.lane.parts;
    if (!(await this.#healthyFor(section.checkpoint.healthyMs, signal))) return false;
    await checkpoints.mark(id, "good");
    this.lane.expectRestore();
    const { keep, ageMsMax, bytesMax } = section.checkpoint;
    await checkpoints.retain(this.lane.name, { count: keep, ageMsMax, bytesMax });
    return true;
  }

  /** False where it met a fault, or was up no longer, before the time was over. */
  async #healthyFor(ms: number, signal: AbortSignal): Promise<boolean> {
    const { clock } = this.lane.parts;
    const { notices } = this.lane;
    const before = notices.faults;
    const late = new AbortController();
    const ill = this.lane.until(({ phase }) => phase.kind !== "up" || notices.faults !== before, late.signal);
    ill.catch(() => {});
    await Promise.race([clock.sleep(ms, signal), ill]).finally(() => late.abort(signal.reason));
    return this.lane.state.phase.kind === "up" && notices.faults === before;
  }

  async #changed(signal: AbortSignal): Promise<void> {
    await this.lane.until(({ phase }) => phase.kind !== "up", signal);
  }

  #ready(): Hypervisor {
    const { name, current, arriving, state, parts } = this.lane;
    const hypervisor = current?.hypervisor ?? null;
    const runs = hypervisor?.state.kind === "running" || hypervisor?.state.kind === "paused";
    if (hypervisor === null || !runs || state.phase.kind === "ending") {
      throw new HypervisorError("hypervisor.state", `${name} is ${state.phase.kind}: there is nothing to checkpoint`);
    }
    if (arriving !== null) {
      throw new HypervisorError("hypervisor.state", `${name}: the memory of its last restore still arrives; try later`);
    }
    const why = whyNoCheckpoint(parts.section, hypervisor);
    if (why !== null) throw new HypervisorError("hypervisor.unsupported", `${name} can have no checkpoint: ${why}`);
    return hypervisor;
  }

  #order(hypervisor: Hypervisor): CheckpointOrder {
    const { name, parts } = this.lane;
    const { section, directory, checkpoints, clock } = parts;
    const { disks } = section.machine;
    const { uid, gid } = statSync(directory.path);
    const written = disks.map(({ path, readonly }, index) => ({ id: `disk${index}`, path, readonly }));
    return {
      id: checkpoints.newId(name),
      guest: name,
      atMs: clock.wallMs(),
      build: hypervisor.version.name,
      method: checkpointMethod(section, hypervisor.pid),
      socket: outSocket(directory),
      hypervisorPid: hypervisor.pid,
      owner: uid === process.getuid?.() ? null : { uid, gid },
      disks: written.filter(({ readonly }) => !readonly).map(({ id, path }) => ({ id, path })),
      cloneDirectory: disks.length === 0 ? dirname(directory.path) : cloneDirectoryFor(disks[0]!.path),
      heldMsMax: section.checkpoint.pauseMsMax,
    };
  }

  async #send(hypervisor: Hypervisor, { method }: CheckpointOrder, downtimeMs: number): Promise<void> {
    const destination_url = "unix:out.sock";
    const { bytes } = this.lane.parts.section.machine.memory;
    const timeout_s = streamSeconds + Math.ceil(bytes / streamBytesPerSecond);
    const streamed = { downtime_ms: downtimeMs, timeout_s, timeout_strategy: "Cancel" as const };
    const how = method === "memoryFile" ? { local: true } : streamed;
    await hypervisor.call("vm.send-migration", { destination_url, ...how });
  }

  /** A guest that was declined runs by itself; if not, it is told to; if that fails, it is an alarm. */
  async #confirm(hypervisor: Hypervisor): Promise<void> {
    const { clock } = this.lane.parts;
    const paused = this.lane.state.phase.kind === "paused";
    const limitNs = clock.monotonicNs() + runningMsMax * 1e6;
    for (;;) {
      const { kind } = await hypervisor.look();
      if (kind === "running" || (paused && kind === "paused")) return;
      if (clock.monotonicNs() > limitNs) break;
      await clock.sleep(lookMs);
    }
    await hypervisor.call("vm.resume").catch(() => {});
    if ((await hypervisor.look()).kind === "running") return;
    const message = `${this.lane.name} stands still after its checkpoint and cannot be made to go on`;
    throw new HypervisorError("hypervisor.sourceNotRunning", message);
  }
}
