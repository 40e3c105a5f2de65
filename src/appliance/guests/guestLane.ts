// SPDX-License-Identifier: Apache-2.0
/**
 * The lane of one guest: inputs one after the other through the supervision machine, and its effects done.
 *
 * Gets the guest's section and where its run directory is; gives its state and obeys commands. Whatever fails here stays
 * here: another guest's lane never waits for it. Letting go of the lane leaves the guest running.
 */
import { systemRandom } from "#clock.ts";
import { explain, explainInLine, HypervisorError, StorageError } from "#errors.ts";
import type { RestoreProgress } from "#restoration/restore.ts";
import { TaskGroup } from "#tasks.ts";
import { killLeftover } from "#vm/foundProcess.ts";
import { Hypervisor } from "#vm/hypervisor.ts";
import { lastEnd } from "#vm/hypervisorProcess.ts";
import { Changes } from "../changes.ts";
import { jittered } from "../restart.ts";
import { readMemory, type WorkloadMemory, writeMemory } from "../workloadMemory.ts";
import { CheckpointKeeper } from "./checkpointKeeper.ts";
import { type Arrival, endOrphan, follow, restoreBest } from "./guestArrival.ts";
import { isFinal } from "./guestFault.ts";
import { closeCards } from "./guestNet.ts";
import type { GuestNotices } from "./guestNotices.ts";
import type { GuestRung } from "./guestRung.ts";
import type { Seen } from "./guestWatch.ts";
import { type GuestParts, Incarnation } from "./incarnation.ts";
import { StandbyKeeper } from "./standbyKeeper.ts";
import {
  type GuestCommand,
  type GuestEffect,
  newGuest,
  type Phase,
  type Supervised,
  type SuperviseInput,
  supervise,
} from "./supervision.ts";

export class GuestLane implements AsyncDisposable {
  #state: Supervised = newGuest;
  #current: Incarnation | null = null;
  readonly #tasks = new TaskGroup();
  #launching: AbortController | null = null;
  #timer: AbortController | null = null;
  readonly #changes = new Changes();
  #queued: Promise<void> = Promise.resolve();
  /** Why the last effect failed, for whoever asked for it. */
  #trouble: string | null = null;
  #closed = false;
  /** The checkpoint that somebody asked to go back to. */
  #chosen: string | null = null;
  #bringing: string | null = null;
  #arrival: Arrival | null = null;
  readonly keeper: CheckpointKeeper;
  readonly standbys: StandbyKeeper;

  constructor(
    readonly parts: GuestParts,
    readonly notices: GuestNotices,
  ) {
    this.keeper = new CheckpointKeeper(this);
    this.standbys = new StandbyKeeper(this);
  }

  get name(): string {
    return this.parts.section.name;
  }

  get state(): Supervised {
    return this.#state;
  }

  /** The process that runs the guest now, or null. */
  get current(): Incarnation | null {
    return this.#current;
  }

  /** What its memory still lacks after a restore, or null. */
  get arriving(): RestoreProgress | null {
    return this.#arrival?.restore.progress ?? null;
  }

  /** Makes ready for a restore: with a process that stands by, or else with a Worker that is warm. */
  expectRestore(): void {
    if (!this.standbys.look()) this.parts.checkpoints.expectRestore(this.name);
  }

  /**
   * Takes over what runs, or starts what should, once `ready` has resolved. Resolves once that is decided, not once the
   * guest is up.
   */
  async open(ready: () => Promise<void>): Promise<void> {
    const { directory, clock, log } = this.parts;
    const memory = readMemory(directory.memory);
    if (memory !== null) this.#state = { ...this.#state, attempts: memory.attempts };
    await this.standbys.sweep();
    if (memory?.arriving != null) await endOrphan(this.parts);
    this.#tasks.start((signal) => this.keeper.run(signal));
    this.#tasks.start((signal) => this.standbys.run(signal));
    try {
      const found = await Hypervisor.adopt(directory, clock, log);
      if (found === null) await this.#nothingFound(memory, ready);
      else await this.#takeOver(found);
    } catch (error) {
      if (!(error instanceof HypervisorError)) throw error;
      // Something runs there and does not speak: it is of no use to anybody, and holds the guest's disks.
      log("warn", "guest.foundSilent", { why: explain(error) });
      await killLeftover(directory, clock);
      this.#set({ ...this.#state, phase: { kind: "booting" } });
      const why = `Cloud Hypervisor was found running and did not answer: ${explain(error)}`;
      this.#input({ kind: "fault", fault: { kind: "hypervisorEnded", why } });
    }
  }

  /**
   * Resolves once the command has been done: the guest boots, is down, is paused.
   * @throws HypervisorError hypervisor.state where it makes no sense now or has failed; the signal's reason
   */
  async command(command: GuestCommand, signal: AbortSignal): Promise<void> {
    this.#trouble = null;
    this.#input({ kind: "command", command });
    await this.until(({ phase }) => this.#trouble !== null || reached[command].includes(phase.kind), signal);
    const { phase } = this.#state;
    const trouble = this.#trouble ?? (phase.kind === "error" ? phase.why : null);
    if (trouble !== null) throw new HypervisorError("hypervisor.state", `${this.name}: ${command} failed: ${trouble}`);
  }

  /** Goes back to a checkpoint, whatever the guest does now. @throws as `command`, StorageError storage.notFound */
  async restore(checkpoint: string | null, signal: AbortSignal): Promise<void> {
    const { checkpoints, section } = this.parts;
    const id = checkpoint ?? checkpoints.lastGood(section.name, null)?.id;
    if (id === undefined) {
      throw new StorageError("storage.notFound", `${this.name} has no good checkpoint; name one to go back to`);
    }
    const { guest } = checkpoints.find(id);
    if (guest !== section.name) throw new StorageError("storage.notFound", `${id} is a checkpoint of ${guest}`);
    this.#chosen = id;
    await this.command("restore", signal);
  }

  /** Resolves once `done` holds of the state. @throws the signal's reason */
  until(done: (state: Supervised) => boolean, signal: AbortSignal): Promise<void> {
    return this.#changes.until(() => done(this.#state), signal);
  }

  /** Ends the watch; the guest runs on. */
  async [Symbol.asyncDispose](): Promise<void> {
    // A guest whose memory still arrives would not survive our end.
    await this.#arrival?.over;
    this.#closed = true;
    this.#timer?.abort();
    this.#launching?.abort();
    await this.standbys[Symbol.asyncDispose]();
    await this.#tasks[Symbol.asyncDispose]();
    await this.#letGo();
  }

  /** A start always ends in `booting` or `startFailed`, so one that we did not see to its end begins anew. */
  async #takeOver(hypervisor: Hypervisor): Promise<void> {
    const { kind } = hypervisor.state;
    this.parts.log("info", "guest.found", { pid: hypervisor.pid, state: kind });
    if (kind === "empty" || kind === "created") {
      await hypervisor.kill();
      await hypervisor[Symbol.asyncDispose]();
      this.#input({ kind: "command", command: "start" });
      return;
    }
    this.#current = new Incarnation(hypervisor, this.parts, (seen) => this.#tell(seen));
    this.#input({ kind: "adopted", paused: kind === "paused" });
    this.notices.takenOver(hypervisor.pid);
  }

  async #nothingFound(memory: WorkloadMemory | null, ready: () => Promise<void>): Promise<void> {
    const { section, directory } = this.parts;
    await closeCards(section.name, section.machine.net);
    const put = (phase: Phase): void => this.#set({ ...this.#state, phase });
    if (memory?.held != null) put({ kind: "error", why: memory.held });
    else if (memory !== null && !memory.wanted) put({ kind: "down", why: "it was down before" });
    else if (memory?.ran || memory?.arriving != null) {
      // It ran when we were last here, or was about to, and has ended since: that is news like any other end.
      put({ kind: "booting" });
      this.#input({ kind: "ended", report: await lastEnd(directory) });
    } else if (memory === null && !section.start) put({ kind: "down", why: "start = false" });
    else {
      await ready();
      // Somebody may have started it meanwhile.
      if (this.#state.phase.kind === "down") this.#input({ kind: "command", command: "start" });
    }
  }

  #tell(seen: Seen): void {
    if (this.#closed) return;
    this.#input(seen);
    if (seen.kind === "ended") this.#queue(() => this.#clearAway());
  }

  #input(seen: Seen): void {
    const input = { ...seen, atMs: this.parts.clock.wallMs() } as SuperviseInput;
    const step = supervise(this.#state, input, this.parts.section.restart, { restorable: this.#restorable });
    // Only commands are ever refused.
    if (step.kind === "violation") throw new HypervisorError("hypervisor.state", `${this.name}: ${step.reason}`);
    // What happened is told before what it leads to.
    for (const effect of step.effects) {
      if (effect.kind === "fault") this.notices.fault(effect.fault, effect.act);
      if (effect.kind === "outcome") this.notices.outcome(effect);
    }
    this.#set(step.state);
    for (const effect of step.effects) this.#do(effect);
  }

  #set(state: Supervised): void {
    const before = this.#state.phase.kind;
    this.#state = state;
    const { kind } = state.phase;
    if (before !== kind) {
      this.parts.log("info", "guest.phase", { from: before, to: kind });
      if (kind !== "waiting") this.#timer?.abort();
      this.notices.phase(state.phase, this.#current?.hypervisor.pid ?? null);
    }
    this.#remember();
    this.standbys.look();
    this.#changes.tell();
  }

  #remember(): void {
    const { phase, attempts } = this.#state;
    const wanted = phase.kind !== "down" && !(phase.kind === "ending" && phase.after.kind === "down");
    try {
      this.parts.directory.make(this.parts.user);
      const [held, ran] = [phase.kind === "error" ? phase.why : null, ranIn.includes(phase.kind)];
      const arriving = this.#arrival?.restore.progress.checkpoint ?? this.#bringing;
      writeMemory(this.parts.directory.memory, { wanted, ran, held, attempts, arriving });
    } catch (error) {
      this.parts.log("warn", "guest.notRemembered", { why: explain(error) });
    }
  }

  #do(effect: GuestEffect): void {
    switch (effect.kind) {
      case "launch":
        this.#queue(() => this.#launch(effect.rung));
        break;
      case "reboot":
        this.#queue(() => this.#reboot());
        break;
      case "pause":
        this.#queue(() => this.#carryOut((current) => current.pause(), { kind: "paused" }));
        break;
      case "resume":
        this.#queue(() => this.#carryOut((current) => current.resume(), { kind: "resumed" }));
        break;
      case "stop":
        this.#start(async () => await this.#current?.stop());
        break;
      case "kill":
        this.#launching?.abort();
        this.#start(async () => void (await this.#current?.hypervisor.kill()));
        break;
      case "wait":
        this.#wait(effect.waitMs);
        break;
      case "fault":
      case "outcome":
        break;
    }
  }

  /** One after the other: a launch must not meet the clearing away of what was there before. Kills do not wait here. */
  #queue(task: () => Promise<void>): void {
    const before = this.#queued;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#queued = promise;
    this.#start(async () => {
      await before;
      try {
        if (!this.#closed) await task();
      } finally {
        resolve();
      }
    });
  }

  #start(task: () => Promise<void>): void {
    this.#tasks.start(async (signal) => {
      try {
        await task();
      } catch (error) {
        if (signal.aborted) return;
        this.#trouble = explain(error);
        this.parts.log("error", "guest.effectFailed", { why: this.#trouble });
        this.#changes.tell();
      }
    });
  }

  async #launch(rung: GuestRung | null): Promise<void> {
    await this.#letGo();
    // A stop may have come while the launch waited for its turn: then nothing was started.
    if (this.#state.phase.kind !== "starting")
      return this.#tell({ kind: "startFailed", why: "called off", final: false });
    this.#launching = new AbortController();
    const { signal } = this.#launching;
    try {
      const tell = (seen: Seen): void => this.#tell(seen);
      this.#current =
        rung === "restore"
          ? await this.#bringBack(tell, signal)
          : await Incarnation.boot(this.parts, tell, this.notices, signal);
      this.#tell({ kind: "booted" });
      if (signal.aborted) await this.#current.hypervisor.kill();
    } catch (error) {
      const why = signal.aborted ? "called off" : explainInLine(error);
      this.#tell({ kind: "startFailed", why, final: isFinal(error) });
      await this.#clearAway();
    } finally {
      this.#launching = null;
    }
  }

  async #bringBack(tell: (seen: Seen) => void, signal: AbortSignal): Promise<Incarnation> {
    const wanted = this.#chosen ?? this.parts.checkpoints.lastGood(this.name, null)?.id ?? null;
    this.#chosen = null;
    if (wanted === null) throw new StorageError("storage.notFound", "its last good checkpoint is gone");
    // Before it runs: whoever comes after our own death must know that the guest has not all of its memory.
    this.#bringing = wanted;
    this.#remember();
    try {
      const { restored, checkpoint } = await restoreBest(this.parts, wanted, this.standbys, this.notices, signal);
      this.#arrival = follow(restored, this.parts, checkpoint, this.notices, () => {
        this.#arrival = null;
        this.#remember();
        this.standbys.look();
      });
      return new Incarnation(restored.hypervisor, this.parts, tell);
    } finally {
      this.#bringing = null;
      this.#remember();
    }
  }

  get #restorable(): boolean {
    return this.parts.checkpoints.lastGood(this.name, null) !== null;
  }

  async #reboot(): Promise<void> {
    try {
      await this.#current?.reboot();
      this.#tell({ kind: "rebooted" });
    } catch (error) {
      this.#trouble = explain(error);
      this.#tell({ kind: "resetFailed", why: this.#trouble });
    }
  }

  async #carryOut(act: (current: Incarnation) => Promise<void>, seen: Seen): Promise<void> {
    if (this.#current === null) return;
    await act(this.#current);
    this.#tell(seen);
  }

  #wait(waitMs: number): void {
    this.#timer?.abort();
    const timer = new AbortController();
    this.#timer = timer;
    this.#tasks.start(async () => {
      // Overtaken by a command, or by our own end: then the timer is nobody's business.
      await this.parts.clock.sleep(jittered(waitMs, systemRandom), timer.signal).catch(() => {});
      if (!timer.signal.aborted) this.#tell({ kind: "timer" });
    });
  }

  /** Of a guest that stays down nothing is left behind, but its logs. */
  async #clearAway(): Promise<void> {
    const { section, directory } = this.parts;
    if (this.#state.phase.kind !== "down" && this.#state.phase.kind !== "error") return;
    await this.#letGo();
    directory.removeSockets();
    await closeCards(section.name, section.machine.net);
  }

  async #letGo(): Promise<void> {
    const current = this.#current;
    this.#current = null;
    await current?.[Symbol.asyncDispose]();
  }
}

/** Phases in which the guest has a life that can end. */
const ranIn: readonly Phase["kind"][] = ["booting", "up", "paused", "resetting", "ending"];

/** Where a command leads, in the good case or in the end. */
const reached: Readonly<Record<GuestCommand, readonly Phase["kind"][]>> = {
  start: ["booting", "up", "error", "down"],
  stop: ["down"],
  pause: ["paused", "down", "error"],
  resume: ["booting", "up", "down", "error"],
  reset: ["booting", "up", "down", "error"],
  restore: ["booting", "up", "paused", "down", "error"],
};
