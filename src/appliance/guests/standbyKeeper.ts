// SPDX-License-Identifier: Apache-2.0
/**
 * Keeps a process standing by for a guest with a good checkpoint: launched, waiting for its guest, its memory in place.
 *
 * Gets the lane; gives the process to the restore that wants it. It holds nothing that the running guest holds: Cloud
 * Hypervisor opens disks, taps and vsock only with the device state, which comes last. Whatever fails here only means that a
 * restore launches a process of its own. Source: `vm_receive_migration_step` in `vmm/src/lib.rs`, v53.0.
 */
import { sleepToBeat } from "#clock.ts";
import { explain, explainInLine, HypervisorError } from "#errors.ts";
import type { CheckpointFacts } from "#restoration/checkpointFacts.ts";
import { TaskGroup } from "#tasks.ts";
import { killStandbys } from "#vm/foundProcess.ts";
import { Hypervisor } from "#vm/hypervisor.ts";
import type { RunDirectory } from "#vm/runDirectory.ts";
import { receiveInto, refuseOther, restoreOrder, type Standby } from "./guestRestore.ts";
import type { GuestParts } from "./incarnation.ts";
import {
  noStandby,
  type StandbyEffect,
  type StandbyInput,
  type StandbyReport,
  type StandbyState,
  stepStandby,
  type Wish,
} from "./standby.ts";
import { makeFirstToGo, whyNoRoom } from "./standbyRoom.ts";
import type { Phase, Supervised } from "./supervision.ts";

/** The lane, as far as this needs it. */
export interface AwaitedGuest {
  readonly name: string;
  readonly parts: GuestParts;
  readonly state: Supervised;
  readonly arriving: object | null;
}

/** Changes of the guest are told; memory that gets short is not. All guests look at the same beat. */
const lookMs = 5_000;
/** One that has stood by for so long is replaced. */
const standbyMsMax = 14 * 86_400_000;
/** More than the process being taken, the one that follows it and one that still dies. */
const seats = 9;
const calm: readonly Phase["kind"][] = ["up", "paused"];
const over: readonly Phase["kind"][] = ["down", "error"];

export class StandbyKeeper implements AsyncDisposable {
  #state: StandbyState = noStandby;
  #standby: Standby | null = null;
  #raising: AbortController | null = null;
  #seat = 0;
  #closed = false;
  /** Why none stands by, while that is so. */
  #why = "the guest has not been looked at yet";
  readonly #tasks = new TaskGroup();

  constructor(
    private readonly guest: AwaitedGuest,
    private readonly whyNot: () => string | null = whyNoRoom,
  ) {}

  /** Something of the guest has changed. True where a process stands by, or soon will. */
  look(): boolean {
    const wish = this.#wish();
    if (wish.kind === "none") this.#why = wish.why;
    this.#input({ kind: "wish", wish, atMs: this.guest.parts.clock.wallMs() });
    return this.#state.kind === "raising" || this.#state.kind === "ready";
  }

  get report(): StandbyReport {
    const state = this.#state;
    const there = state.kind === "raising" || state.kind === "ready";
    return {
      state: state.kind,
      checkpoint: state.kind === "none" ? null : state.checkpoint,
      pid: this.#standby?.hypervisor.pid ?? null,
      why: there ? null : this.#why,
    };
  }

  /** Ends what an earlier supervisor has left standing by. */
  async sweep(): Promise<void> {
    const { directory, clock, log } = this.guest.parts;
    const ended = await killStandbys(directory, clock);
    if (ended > 0) log("info", "guest.standbyLeft", { ended });
  }

  /** Until the abort: memory may get short at any time. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.look();
      await sleepToBeat(this.guest.parts.clock, lookMs, signal).catch(() => {});
    }
  }

  /** The process that stands by for this checkpoint, from now on the caller's; null where there is none. */
  take(checkpoint: string): Standby | null {
    const standby = this.#standby;
    return this.#input({ kind: "take", checkpoint }).some(({ kind }) => kind === "give") ? standby : null;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.look();
    await this.#tasks[Symbol.asyncDispose]();
  }

  #wish(): Wish {
    const { parts, name, state, arriving } = this.guest;
    const { phase } = state;
    if (this.#closed) return { kind: "none", why: "the supervisor ends" };
    if (!parts.section.checkpoint.standby) return { kind: "none", why: "it is switched off" };
    if (over.includes(phase.kind)) return { kind: "none", why: `the guest is ${phase.kind}` };
    const good = parts.checkpoints.lastGood(name, null);
    if (good === null) return { kind: "none", why: "there is no good checkpoint" };
    if (!calm.includes(phase.kind) || arriving !== null) return { kind: "keep" };
    const why = this.whyNot();
    return why === null ? { kind: "want", checkpoint: good.id } : { kind: "none", why };
  }

  #input(input: StandbyInput): readonly StandbyEffect[] {
    const before = this.#state.kind;
    const step = stepStandby(this.#state, input);
    if (step.kind === "violation") return [];
    this.#state = step.state;
    if (before !== step.state.kind) {
      this.guest.parts.log("info", "guest.standby", { from: before, to: step.state.kind, by: input.kind });
    }
    for (const effect of step.effects) this.#do(effect);
    // A Worker that is warm is the next best thing.
    if (step.state.kind === "resting" && before !== "resting") {
      this.guest.parts.checkpoints.expectRestore(this.guest.name);
    }
    return step.effects;
  }

  #do(effect: StandbyEffect): void {
    const { parts } = this.guest;
    switch (effect.kind) {
      case "raise":
        this.#start(effect.checkpoint);
        break;
      case "give":
        this.#standby = null;
        this.#why = "it has become the guest";
        break;
      case "end": {
        const standby = this.#standby;
        this.#standby = null;
        this.#raising?.abort(new HypervisorError("hypervisor.state", effect.why));
        this.#raising = null;
        parts.log("info", "guest.standbyEnded", { why: effect.why });
        if (standby !== null) this.#tasks.start(() => endStandby(standby));
      }
    }
  }

  #start(checkpoint: string): void {
    const { log, clock } = this.guest.parts;
    const calledOff = new AbortController();
    this.#raising = calledOff;
    this.#tasks.start(async () => {
      try {
        const standby = await this.#raise(this.guest.parts.checkpoints.find(checkpoint), calledOff.signal);
        if (calledOff.signal.aborted) return await endStandby(standby);
        this.#standby = standby;
        this.#watch(standby);
        log("info", "guest.standsBy", { checkpoint, pid: standby.hypervisor.pid });
        this.#input({ kind: "raised" });
      } catch (error) {
        if (calledOff.signal.aborted) return;
        this.#why = explainInLine(error);
        log("warn", "guest.noStandby", { why: this.#why });
        this.#input({ kind: "failed", atMs: clock.wallMs() });
      }
    });
  }

  /** @throws HypervisorError, StorageError, NativeError */
  async #raise({ id, build }: CheckpointFacts, signal: AbortSignal): Promise<Standby> {
    const { parts } = this.guest;
    const { clock, program, log, user, kvm } = parts;
    const held = await parts.checkpoints.hold(restoreOrder(parts, id));
    let hypervisor: Hypervisor | null = null;
    try {
      signal.throwIfAborted();
      const directory = this.#nextSeat();
      const optional = { ...(user === undefined ? {} : { user }), ...(kvm === undefined ? {} : { kvm }) };
      hypervisor = await Hypervisor.launch({ directory, clock, program, log, signal, ...optional });
      const keepAsGuest = makeFirstToGo(hypervisor.pid);
      refuseOther(hypervisor, build);
      const received = receiveInto(hypervisor, directory, held.mode, { timeoutMs: standbyMsMax });
      const offered = held.offer(directory.inSocket, hypervisor.pid, mayHaveConfig(parts, id));
      await Promise.race([offered, received.then(() => offered)]);
      return { hypervisor, held, directory, received, keepAsGuest };
    } catch (error) {
      held[Symbol.dispose]();
      if (hypervisor !== null) await endProcess(hypervisor);
      throw error;
    }
  }

  #watch(standby: Standby): void {
    const { log, clock } = this.guest.parts;
    const died = (why: string): void => {
      if (this.#standby !== standby) return;
      this.#why = `it died: ${why}`;
      log("warn", "guest.standbyDied", { why });
      this.#input({ kind: "died", atMs: clock.wallMs() });
    };
    void standby.hypervisor.gone.then(({ why }) => died(why));
    standby.received.then(
      () => died("it has taken something in"),
      (error) => died(explain(error)),
    );
  }

  /** Another one each time, and never the one of the process that is the guest. */
  #nextSeat(): RunDirectory {
    const { directory } = this.guest.parts;
    do this.#seat = (this.#seat % seats) + 1;
    while (this.#seat === directory.taken);
    return directory.at(this.#seat);
  }
}

/** Ends it, and leaves nothing of it. Never rejects. */
export async function endStandby({ hypervisor, held }: Standby): Promise<void> {
  held[Symbol.dispose]();
  await endProcess(hypervisor);
}

async function endProcess(hypervisor: Hypervisor): Promise<void> {
  await hypervisor.kill();
  await hypervisor[Symbol.asyncDispose]();
  hypervisor.directory.removeSockets();
  hypervisor.directory.removeTraces();
}

/**
 * With its configuration Cloud Hypervisor confines itself to the files that are there by then; disks that belong to the
 * checkpoint take their places later.
 */
const mayHaveConfig = ({ section, checkpoints }: GuestParts, id: string): boolean =>
  !section.machine.landlock || checkpoints.disksOf(id).length === 0;
