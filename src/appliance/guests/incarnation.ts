// SPDX-License-Identifier: Apache-2.0
/**
 * One process of Cloud Hypervisor running a guest, with all that watches it: console, probes, events.
 *
 * Gets a guest's section; boots it in a new process, or takes a running one over. Letting go ends the watching and leaves
 * the guest running.
 */
import type { Clock } from "#clock.ts";
import type { GuestSection } from "#config/schema.ts";
import { explain, HypervisorError } from "#errors.ts";
import type { Log } from "#log.ts";
import type { ImageStore } from "#monitor/guest/remoteCode.ts";
import type { Probe } from "#monitor/probes.ts";
import type { Checkpoints } from "#restoration/checkpoints.ts";
import type { Storage } from "#storage/storage.ts";
import { TaskGroup } from "#tasks.ts";
import { vmConfigOf } from "#vm/guestMachine.ts";
import { Hypervisor } from "#vm/hypervisor.ts";
import type { RunDirectory } from "#vm/runDirectory.ts";
import { SerialConsole } from "#vm/serialConsole.ts";
import type { Version } from "#vm/version.ts";
import type { VmConfig } from "#vm/vmConfig.ts";
import type { Notices } from "../notices.ts";
import type { RescueBook } from "../rescue/rescueBook.ts";
import type { SuppressionSwitch } from "../suppressionSwitch.ts";
import { openCards } from "./guestNet.ts";
import { GuestProgram } from "./guestProgram.ts";
import { GuestWatch, type Seen } from "./guestWatch.ts";

/** A process that is well answers a ping in under a millisecond. */
const aliveMs = 2_000;

export type GuestParts = {
  readonly section: GuestSection;
  readonly probes: readonly Probe[];
  readonly directory: RunDirectory;
  readonly program: string;
  /** Cloud Hypervisor's user, where it is not ours. */
  readonly user?: { readonly uid: number; readonly gid: number } | undefined;
  readonly kvm?: string | undefined;
  readonly clock: Clock;
  readonly log: Log;
  readonly storage: Storage;
  readonly rescues: RescueBook;
  readonly suppression: SuppressionSwitch;
  readonly noticesFor: (workload: string) => Notices;
  readonly checkpoints: Checkpoints;
};

/** What a boot has to tell beside its success. */
export type BootNews = {
  readonly known: (version: Version) => void;
  /** Landlock does not work here: the guest runs without. */
  readonly unconfined: (why: string) => void;
};

export class Incarnation implements AsyncDisposable {
  readonly serial: SerialConsole | null;
  readonly #tasks = new TaskGroup();
  readonly #watch: GuestWatch;

  constructor(
    readonly hypervisor: Hypervisor,
    private readonly parts: GuestParts,
    tell: (seen: Seen) => void,
  ) {
    const { section, probes, directory, clock, log } = parts;
    const { machine, probeEveryMs, probeFailuresMax, bootMs } = section;
    this.serial = machine.serial ? new SerialConsole(() => hypervisor.terminal(), directory.console, clock) : null;
    this.#tasks.failed.catch((error) => log("error", "guest.watchFailed", { why: explain(error) }));
    const judged = { probes, probeEveryMs, probeFailuresMax, bootMs };
    this.#guardPrograms();
    this.#watch = new GuestWatch({ hypervisor, serial: this.serial, ...judged, clock, log, tell }, this.#tasks);
  }

  /** Starts a process and boots the guest in it. Called off or failed, nothing of it stays. @throws HypervisorError */
  static async boot(
    parts: GuestParts,
    tell: (seen: Seen) => void,
    news: BootNews,
    signal: AbortSignal,
  ): Promise<Incarnation> {
    const { section, directory, program, user, kvm, clock, log } = parts;
    const cards = await openCards(section.name, section.machine.net, { user });
    signal.throwIfAborted();
    const optional = { ...(user === undefined ? {} : { user }), ...(kvm === undefined ? {} : { kvm }) };
    const hypervisor = await Hypervisor.launch({ directory, clock, program, log, signal, ...optional });
    try {
      news.known(hypervisor.version);
      await create(hypervisor, vmConfigOf(section.machine, directory, cards), (why) => news.unconfined(why), signal);
      await hypervisor.call("vm.boot", undefined, { signal });
      signal.throwIfAborted();
      return new Incarnation(hypervisor, parts, tell);
    } catch (error) {
      await hypervisor.kill();
      await hypervisor[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Each program in a task of its own: one that cannot be reached is nobody else's trouble. */
  #guardPrograms(): void {
    const { section, directory, storage, rescues, suppression, noticesFor, clock, log } = this.parts;
    const images: ImageStore = new Map();
    for (const program of section.programs) {
      const guarded = new GuestProgram({
        guest: section.name,
        section: program,
        vsockSocket: directory.vsockSocket,
        runs: () => this.hypervisor.state.kind === "running",
        images,
        storage,
        rescues,
        suppression,
        notices: noticesFor(program.name),
        clock,
        log,
      });
      this.#tasks.start((signal) => guarded.run(signal));
    }
  }

  /** Boots the guest anew in the same process. @throws HypervisorError */
  async reboot(): Promise<void> {
    // A process that does not answer would keep the reboot waiting for a minute.
    await this.hypervisor.call("vmm.ping", undefined, { timeoutMs: aliveMs });
    await this.#watch.onRequest(() => this.hypervisor.call("vm.reboot"));
  }

  /** @throws HypervisorError */
  async pause(): Promise<void> {
    await this.hypervisor.call("vm.pause");
  }

  /** @throws HypervisorError */
  async resume(): Promise<void> {
    await this.hypervisor.call("vm.resume");
    this.#watch.bootsAgain();
  }

  /** The power button first; a guest that does not heed it is ended. */
  async stop(): Promise<void> {
    const { clock, section, log } = this.parts;
    const patience = new AbortController();
    try {
      await this.hypervisor.call("vm.power-button");
      await Promise.race([this.hypervisor.gone, clock.sleep(section.stopMs, patience.signal).catch(() => {})]);
    } catch (error) {
      log("info", "guest.powerButton", { why: explain(error) });
    } finally {
      patience.abort();
    }
    await this.hypervisor.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // The console first: its reader ends with it, and the tasks wait for their readers.
    await this.serial?.[Symbol.asyncDispose]();
    await this.#tasks[Symbol.asyncDispose]();
    await this.hypervisor[Symbol.asyncDispose]();
  }
}

/** Landlock is for where it works: v53.0 wants the third version of it (Linux 6.2), and refuses a guest without. */
async function create(
  hypervisor: Hypervisor,
  config: VmConfig,
  unconfined: (why: string) => void,
  signal: AbortSignal,
): Promise<void> {
  try {
    await hypervisor.call("vm.create", config, { signal });
  } catch (error) {
    const reason =
      error instanceof HypervisorError ? error.chain.find((message) => /landlock|ruleset/i.test(message)) : null;
    if (config.landlock_enable !== true || reason === undefined || reason === null) throw error;
    unconfined(reason);
    await hypervisor.call("vm.delete", undefined, { signal });
    const { landlock_enable: _, landlock_rules: __, ...open } = config;
    await hypervisor.call("vm.create", open, { signal });
  }
}
