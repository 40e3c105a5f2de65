// SPDX-License-Identifier: Apache-2.0
/**
 * A supervisor that looks after the whole machine: why it was started, how it is restarted, and on a flashed box its updates.
 * Gets the supervisor's parts as they are opened; gives what page, fleet and command line ask of the machine.
 *
 *     openMachineCare ─▶ restart, boots, updates ─▶ begin(scene): the book is held against what runs ─▶ a trial, where one is on
 */
import { join } from "node:path";
import { systemBox } from "#board/box.ts";
import type { Clock } from "#clock.ts";
import { explainInLine, HoldfastError, UpdateError } from "#errors.ts";
import type { MonitorView } from "#health.ts";
import type { Log } from "#log.ts";
import { judgeBoot, readBootFacts } from "#monitor/bootReason.ts";
import type { WorkloadTold } from "#status/told.ts";
import type { Storage } from "#storage/storage.ts";
import { TaskGroup } from "#tasks.ts";
import { BootBook } from "../bootBook.ts";
import { type BoxRestart, boxRestartBy } from "../boxRestart.ts";
import type { Hearers } from "../hearers.ts";
import type { UplinkSeat } from "../uplink/startUplink.ts";
import { noReset } from "../verbs.ts";
import { leaveForReset, markReset } from "./factoryReset.ts";
import type { GateCheck, GateTimes } from "./gate.ts";
import type { Machine } from "./machine.ts";
import type { Rauc, UpdateTool } from "./rauc.ts";
import { openSlottedBox, type SlottedBox } from "./slottedBox.ts";
import type { runTrial, workloadsUp } from "./trial.ts";
import type { Updates } from "./updates.ts";

export type MachineOptions = {
  readonly storage: Storage;
  readonly directory: string;
  readonly runDirectory: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly hearers: Hearers;
  /** Top of a file tree that stands for the box, for tests. */
  readonly top?: string | undefined;
  readonly tool?: UpdateTool | undefined;
  readonly rebootCommand?: readonly string[] | undefined;
  readonly times?: GateTimes | undefined;
  /** How Holdfast is run. */
  readonly holdfast?: readonly string[] | undefined;
};

/** What is there only once all workloads are. */
export type MachineScene = {
  readonly workloads: () => readonly WorkloadTold[];
  readonly view: () => MonitorView;
  /** What a restart would cut off, beside jobs of the fleet. */
  readonly underWay: () => string | null;
  readonly seat: UplinkSeat;
};

/** A flashed box, and what it alone needs. */
type Slotted = {
  readonly box: SlottedBox;
  readonly Updates: typeof Updates;
  readonly Rauc: typeof Rauc;
  readonly runTrial: typeof runTrial;
  readonly workloadsUp: typeof workloadsUp;
};

const hourMs = 3_600_000;
/** Jobs of the fleet that a restart is part of. */
const ownJobs: readonly string[] = ["update.install", "update.rollback", "reboot"];

export class MachineCare implements Machine, AsyncDisposable {
  readonly restart: BoxRestart;
  /** null where this is no flashed box. */
  readonly updates: Updates | null;
  readonly #boots: BootBook;
  readonly #tasks = new TaskGroup();
  readonly #hearing: Disposable;
  #pageUrl: string | null = null;
  #scene: MachineScene | null = null;

  /** Where this is no flashed box, nothing of updates is loaded. */
  static async open(options: MachineOptions): Promise<MachineCare> {
    const box = openSlottedBox(options.top);
    if (box === null) return new MachineCare(options, null);
    const [{ Updates }, { Rauc }, { runTrial, workloadsUp }] = await Promise.all([
      import("./updates.ts"),
      import("./rauc.ts"),
      import("./trial.ts"),
    ]);
    return new MachineCare(options, { box, Updates, Rauc, runTrial, workloadsUp });
  }

  private constructor(
    private readonly options: MachineOptions,
    private readonly slotted: Slotted | null,
  ) {
    const { storage, directory, clock, log, hearers, rebootCommand } = options;
    this.#boots = new BootBook(slotted?.box.bootsDirectory ?? directory, systemBox, storage, clock, log);
    this.restart = boxRestartBy(this.#boots, storage, clock, rebootCommand);
    this.#hearing = hearers.add((notice) => {
      if (notice.event === "status") this.#pageUrl = notice.url;
    });
    if (slotted === null) {
      this.updates = null;
      return;
    }
    const { box, Updates, Rauc, workloadsUp } = slotted;
    const tool = options.tool ?? new Rauc(box.toolConfig);
    const { boot } = this.#boots.newest;
    // Why a slot never came up is beneath our own note: that one was for the restart into it.
    const { why } = judgeBoot(readBootFacts(systemBox, null, false));
    this.updates = new Updates({
      ...{ box, tool, clock, log, boot: { id: boot, why } },
      tell: (event, facts) => storage.event(event, "", facts),
      restart: () => this.restart("update"),
      before: () => ({ workloads: workloadsUp(this.#scene?.workloads() ?? []), brokerSeen: this.#brokerSeen() }),
      busy: () => this.#busy(),
    });
  }

  get boots(): BootBook["boots"] {
    return this.#boots.boots;
  }
  get bootReason(): string {
    return this.#boots.newest.reason;
  }
  wipe(): void {
    const { updates } = this;
    if (updates === null) throw new UpdateError("update.noSlots", noReset);
    const { clock, storage, log } = this.options;
    markReset(updates.box);
    storage.event("box.reset", "", { severity: 3 });
    this.#tasks.start(async (signal) => {
      try {
        await leaveForReset(updates.box, this.restart, clock, signal);
      } catch (error) {
        if (signal.aborted || !(error instanceof HoldfastError) || error.code === "bug") throw error;
        log("error", "box.notReset", { why: explainInLine(error) });
        storage.event("box.notReset", "", { why: explainInLine(error), severity: 3 });
      }
    });
  }
  /** Rejects with the first bug in what runs here in the background. */
  get failed(): Promise<never> {
    return Promise.race([this.#tasks.failed, ...(this.updates === null ? [] : [this.updates.failed])]);
  }

  /** All workloads are there: the book is held against what runs, and a trial begins where one is on. */
  begin(scene: MachineScene): void {
    const { updates, slotted } = this;
    this.#scene = scene;
    if (updates === null || slotted === null) return;
    updates.begin();
    const { clock, runDirectory } = this.options;
    this.#tasks.start((signal) =>
      slotted.runTrial(
        updates,
        {
          ...{ clock, workloads: scene.workloads, view: scene.view },
          upMs: () => Number(systemBox.text("/proc/uptime")?.split(" ")[0] ?? 0) * 1000,
          ready: (ended) => this.#ready(ended),
          testSelf: (ended) => this.#testSelf(join(runDirectory, "self-test"), ended),
          proveWrites: (ended) => this.#proveWrites(ended),
          brokerConnected: () => scene.seat.current?.telemetry.connected ?? false,
        },
        signal,
        this.options.times,
      ),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#hearing[Symbol.dispose]();
    await this.#tasks[Symbol.asyncDispose]();
    await this.updates?.[Symbol.asyncDispose]();
    this.#boots[Symbol.dispose]();
  }

  async #ready(signal: AbortSignal): Promise<readonly GateCheck[]> {
    const { storage, clock } = this.options;
    const { askReadiness } = await import("./readiness.ts");
    const nowMs = clock.wallMs();
    const told = { atMs: nowMs, storage: storage.state(), workloads: this.#scene?.workloads() ?? [] };
    return await askReadiness({ told, nowMs }, this.#pageUrl, signal);
  }

  async #testSelf(directory: string, signal: AbortSignal): Promise<string | null> {
    const [{ testSelf }, { ownCommand }] = await Promise.all([
      import("./selfTest.ts"),
      import("../demo/guardProcess.ts"),
    ]);
    return await testSelf(this.options.holdfast ?? ownCommand(), directory, this.options.clock, signal);
  }

  async #proveWrites(signal: AbortSignal): Promise<void> {
    const { storage } = this.options;
    storage.event("update.look", "", { severity: 0 });
    await storage.flush(signal);
    await this.#scene?.seat.current?.proveOutbox(signal);
  }

  #brokerSeen(): boolean {
    const link = this.#scene?.seat.current?.telemetry.linkState;
    if (link === undefined) return false;
    return link.connected || (link.lastAckMs !== null && link.lastAckMs > this.options.clock.wallMs() - hourMs);
  }

  #busy(): string | null {
    const jobs = this.#scene?.seat.current?.telemetry.openJobs ?? [];
    const job = jobs.find(({ verb }) => !ownJobs.includes(verb));
    return job === undefined ? (this.#scene?.underWay() ?? null) : `job ${job.id} (${job.verb}) is under way`;
  }
}
