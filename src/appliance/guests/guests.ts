// SPDX-License-Identifier: Apache-2.0
/**
 * All guests of a configuration: taken over at once, started in their order, each in a lane of its own.
 *
 * Gets the sections and the run directory; gives lanes by name and what to show of them. Letting go leaves all running.
 */
import { join } from "node:path";
import type { Clock } from "#clock.ts";
import type { GuestSection } from "#config/schema.ts";
import { ConfigError, explain } from "#errors.ts";
import type { Log } from "#log.ts";
import { type Probe, parseProbe } from "#monitor/probes.ts";
import type { CheckpointFacts } from "#restoration/checkpointFacts.ts";
import type { Checkpoints } from "#restoration/checkpoints.ts";
import type { RestoreProgress } from "#restoration/restore.ts";
import type { Storage } from "#storage/storage.ts";
import { TaskGroup } from "#tasks.ts";
import { RunDirectory } from "#vm/runDirectory.ts";
import type { CheckpointReport } from "../checkpointNotices.ts";
import type { Notices } from "../notices.ts";
import type { RescueBook } from "../rescue/rescueBook.ts";
import { attemptsInWindow } from "../restart.ts";
import type { SuppressionSwitch } from "../suppressionSwitch.ts";
import { whyNoCheckpoint } from "./checkpointAbility.ts";
import type { GuestLane } from "./guestLane.ts";
import { GuestNotices } from "./guestNotices.ts";
import type { StandbyReport } from "./standby.ts";
import { notStarted, type Phase } from "./supervision.ts";

export type GuestsOptions = {
  readonly sections: readonly GuestSection[];
  /** Its probes, as the watch of a guest is to ask them. */
  readonly probesOf?: (section: GuestSection) => readonly Probe[];
  readonly runDirectory: string;
  readonly program: string;
  readonly user?: { readonly uid: number; readonly gid: number } | undefined;
  readonly kvm?: string | undefined;
  readonly clock: Clock;
  readonly logFor: (part: string) => Log;
  readonly storage: Storage;
  readonly rescues: RescueBook;
  readonly suppression: SuppressionSwitch;
  readonly noticesFor: (workload: string) => Notices;
  readonly checkpoints: Checkpoints;
  /** Resolves once the workload of that name, guest or program, needs no more waiting for. */
  readonly decided: (name: string, signal: AbortSignal) => Promise<void>;
};

/** One guest as others see it. Plain data; times are wall clock, ms. */
export type GuestStatus = {
  readonly name: string;
  readonly phase: Phase["kind"];
  readonly why: string | null;
  readonly pid: number | null;
  readonly version: string | null;
  readonly cpus: number;
  readonly memoryBytes: number;
  /** Automatic restarts within the window, and how many it may have. */
  readonly attempts: number;
  readonly attemptsMax: number;
  readonly lastFault: { readonly kind: string; readonly why: string; readonly atMs: number } | null;
  readonly programs: readonly string[];
  readonly runDirectory: string;
  /** Its newest good checkpoint, why it cannot have any (null where it can, or it does not run), and what still arrives. */
  readonly lastGood: CheckpointFacts | null;
  readonly noCheckpoint: string | null;
  readonly arriving: RestoreProgress | null;
  /** The process that stands by for its next restore. */
  readonly standby: StandbyReport;
  /** What it prints on its serial port, or null where it has none. */
  readonly console: string | null;
};

const guestDirectory = (runDirectory: string, name: string): string => join(runDirectory, "guests", name);

/** Phases after which those that wait for a guest need wait no longer. */
const decided: readonly Phase["kind"][] = ["up", "paused", "down", "error"];

export class Guests implements AsyncDisposable {
  readonly #lanes = new Map<string, GuestLane>();
  readonly #tasks = new TaskGroup();

  /** A run without guests loads nothing of them. @throws HypervisorError hypervisor.socket, as the constructor */
  static async load(options: GuestsOptions): Promise<Guests> {
    return new Guests(options, options.sections.length === 0 ? null : (await import("./guestLane.ts")).GuestLane);
  }

  /** @throws HypervisorError hypervisor.socket where a name is too long for its directory */
  private constructor(
    private readonly options: GuestsOptions,
    Lane: typeof GuestLane | null,
  ) {
    const { runDirectory, program, user, kvm, clock, logFor, storage } = options;
    const { rescues, suppression, noticesFor, checkpoints } = options;
    if (Lane === null) return;
    for (const section of options.sections) {
      const directory = new RunDirectory(guestDirectory(runDirectory, section.name));
      const told = noticesFor(section.name);
      const notices = new GuestNotices(section.name, told, storage, clock);
      const log = logFor(section.name);
      const given = { program, user, kvm, clock, storage, rescues, suppression, noticesFor, checkpoints };
      const probes = options.probesOf?.(section) ?? section.probes.map((word) => parseProbe(word));
      const parts = { section, probes, directory, log, ...given };
      this.#lanes.set(section.name, new Lane(parts, notices));
    }
  }

  /** Opens every lane. Never fails for one guest's sake: its trouble is told and journaled. */
  open(): void {
    for (const lane of this.#lanes.values()) {
      this.#tasks.start(async (signal) => {
        try {
          await lane.open(() => this.#before(lane, signal));
        } catch (error) {
          if (signal.aborted) return;
          const text = `guest ${lane.name} could not be looked after: ${explain(error)}`;
          this.#warn(lane, text);
        }
      });
    }
  }

  get names(): string[] {
    return [...this.#lanes.keys()];
  }

  /** @throws ConfigError config.argument */
  lane(name: string): GuestLane {
    const lane = this.#lanes.get(name);
    if (lane !== undefined) return lane;
    const known = this.names.join(", ") || "none";
    throw new ConfigError("config.argument", `there is no guest called ${JSON.stringify(name)}; there are: ${known}`);
  }

  get checkpoints(): Checkpoints {
    return this.options.checkpoints;
  }

  status(name: string): GuestStatus {
    const lane = this.lane(name);
    const { section, directory, clock } = lane.parts;
    const { phase, attempts } = lane.state;
    const { cpus, memory, serial } = section.machine;
    const lives = phase.kind !== "down" && phase.kind !== "error";
    const hypervisor = lives ? (lane.current?.hypervisor ?? null) : null;
    return {
      name,
      phase: phase.kind,
      why: "why" in phase ? phase.why : null,
      pid: hypervisor?.pid ?? null,
      version: hypervisor?.version.name ?? null,
      cpus,
      memoryBytes: memory.bytes,
      attempts: attemptsInWindow(attempts, clock.wallMs(), section.restart).length,
      attemptsMax: section.restart.attemptsMax,
      lastFault: lane.notices.lastFault,
      programs: section.programs.map((program) => program.name),
      runDirectory: directory.path,
      lastGood: this.options.checkpoints.lastGood(name, null),
      noCheckpoint: hypervisor === null ? null : whyNoCheckpoint(section, hypervisor),
      arriving: lane.arriving,
      standby: lane.standbys.report,
      console: serial ? directory.console : null,
    };
  }

  /** Takes a checkpoint now. @throws ConfigError, HypervisorError, StorageError, NativeError with the reason */
  async checkpoint(name: string, signal: AbortSignal): Promise<CheckpointReport> {
    const { keeper } = this.lane(name);
    const report = await keeper.create(signal);
    this.#tasks.start(async (ended) => void (await keeper.prove(report.id, ended)));
    return report;
  }

  /**
   * Takes a guest back to a checkpoint: `name` is a guest (its last good one), or a checkpoint. Resolves once it runs; its
   * memory may still arrive. @throws ConfigError, HypervisorError, StorageError, NativeError with the reason
   */
  async restore(name: string, signal: AbortSignal, checkpoint: string | null = null): Promise<GuestStatus> {
    const id = checkpoint ?? (this.#lanes.has(name) ? null : name);
    const guest = this.#lanes.has(name) ? name : this.checkpoints.find(name).guest;
    await this.lane(guest).restore(id, signal);
    return this.status(guest);
  }

  /** Stops all that run, those that others wait for last. */
  async stopAll(signal: AbortSignal): Promise<void> {
    const stopped = new Set<GuestLane>();
    while (stopped.size < this.#lanes.size) {
      const left = [...this.#lanes.values()].filter((lane) => !stopped.has(lane));
      const free = left.filter(({ name }) => !left.some((other) => other.parts.section.after.includes(name)));
      // A circle cannot pass the configuration; if it did, nobody would be left running for it.
      const next = free.length === 0 ? left : free;
      await Promise.all(next.map((lane) => this.#stopOne(lane, signal)));
      for (const lane of next) stopped.add(lane);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tasks[Symbol.asyncDispose]();
    await Promise.all([...this.#lanes.values()].map((lane) => lane[Symbol.asyncDispose]()));
  }

  #warn({ name }: GuestLane, text: string): void {
    this.options.noticesFor(name).tell({ event: "warning", workload: name, text });
  }

  async #stopOne(lane: GuestLane, signal: AbortSignal): Promise<void> {
    if (lane.state.phase.kind === "down") return;
    try {
      await lane.command("stop", signal);
    } catch (error) {
      this.#warn(lane, explain(error));
    }
  }

  /** Waits until the workloads it names in `after` are up, or will not be. */
  async #before(lane: GuestLane, signal: AbortSignal): Promise<void> {
    await Promise.all(lane.parts.section.after.map((name) => this.options.decided(name, signal)));
  }

  /** Resolves once those that wait for this guest need wait no longer. */
  async decided(name: string, signal: AbortSignal): Promise<void> {
    await this.#lanes.get(name)?.until(({ phase }) => decided.includes(phase.kind) && !isFresh(phase), signal);
  }
}

/** Before its own start is decided a guest is down, which is no decision. */
const isFresh = (phase: Phase): boolean => phase.kind === "down" && phase.why === notStarted;
