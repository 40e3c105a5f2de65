// SPDX-License-Identifier: Apache-2.0
/**
 * All programs of a configuration: taken over at once, started in their order, each in a lane of its own.
 *
 * Gets the sections and the run directory; gives lanes by name and what to show of them. A program that fails, at its
 * start or later, is its own lane's trouble. Letting go leaves all running.
 */
import type { Clock } from "#clock.ts";
import type { ProgramSection } from "#config/schema.ts";
import { ConfigError, explain, explainInLine } from "#errors.ts";
import type { Log } from "#log.ts";
import { type Probe, parseProbe } from "#monitor/probes.ts";
import { SharedCode } from "#monitor/sharedCode.ts";
import type { Storage } from "#storage/storage.ts";
import { TaskGroup } from "#tasks.ts";
import { type Claim, claimGuard } from "../claim.ts";
import { requireMachine } from "../guardable.ts";
import type { LaneWatch } from "../laneWatch.ts";
import type { Notices } from "../notices.ts";
import type { RescueBook } from "../rescue/rescueBook.ts";
import { hangsOf, policyOf } from "../sectionPolicy.ts";
import { Settling } from "../settling.ts";
import type { SuppressionSwitch } from "../suppressionSwitch.ts";
import { ProgramLane } from "./programLane.ts";
import { ProgramNotices } from "./programNotices.ts";
import { commandSource, type ProgramSource } from "./programSource.ts";
import { notStarted } from "./supervision.ts";
import { unitSource } from "./unitSource.ts";

export type ProgramsOptions = {
  readonly sections: readonly ProgramSection[];
  /** Its probes, as the look at its health is to ask them. */
  readonly probesOf?: (section: ProgramSection) => readonly Probe[];
  readonly runDirectory: string;
  readonly lanes?: LaneWatch;
  readonly clock: Clock;
  readonly logFor: (part: string) => Log;
  readonly storage: Storage;
  readonly rescues: RescueBook;
  readonly suppression: SuppressionSwitch;
  readonly noticesFor: (workload: string) => Notices;
  /** Resolves once the workload of that name needs no more waiting for. */
  readonly decided: (name: string, signal: AbortSignal) => Promise<void>;
};

export class Programs implements AsyncDisposable {
  readonly #lanes = new Map<string, ProgramLane>();
  readonly #claims: Claim[] = [];
  readonly #tasks = new TaskGroup();
  /** Programs run the same libraries, and often the same file. */
  readonly #code = new SharedCode();
  readonly #settling: Settling;

  constructor(private readonly options: ProgramsOptions) {
    this.#settling = new Settling(options.clock, this.#tasks);
  }

  /** Opens every lane. Never fails for one program's sake: its trouble is told and journaled. */
  async open(): Promise<void> {
    const { sections } = this.options;
    this.#settling.begin();
    if (sections.length === 0) return;
    const trouble = await requireMachine().then(
      () => null,
      (error: unknown) => explainInLine(error),
    );
    for (const section of sections) this.#openOne(section, trouble);
  }

  get names(): string[] {
    return [...this.#lanes.keys()];
  }

  /** null where no program has that name. */
  find(name: string): ProgramLane | null {
    return this.#lanes.get(name) ?? null;
  }

  /** @throws ConfigError config.argument */
  lane(name: string): ProgramLane {
    const lane = this.#lanes.get(name);
    if (lane !== undefined) return lane;
    const known = this.names.join(", ") || "none";
    throw new ConfigError("config.argument", `there is no program called ${JSON.stringify(name)}; there are: ${known}`);
  }

  /** Resolves once those that wait for this program need wait no longer. */
  async decided(name: string, signal: AbortSignal): Promise<void> {
    await this.find(name)?.until(({ phase }) => {
      if (phase.kind === "running") return phase.serves;
      return phase.kind === "error" || (phase.kind === "stopped" && phase.why !== notStarted);
    }, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tasks[Symbol.asyncDispose]();
    await Promise.all([...this.#lanes.values()].map((lane) => lane[Symbol.asyncDispose]()));
    for (const claim of this.#claims) claim[Symbol.dispose]();
  }

  #openOne(section: ProgramSection, trouble: string | null): void {
    const { name } = section;
    let claim: Claim;
    try {
      claim = claimGuard(this.options.runDirectory, name, { kind: "named", name });
    } catch (error) {
      this.#warn(name, `program ${name} is not looked after: ${explain(error)}`);
      return;
    }
    this.#claims.push(claim);
    const lane = this.#laneOf(section, claim);
    this.#lanes.set(name, lane);
    if (trouble !== null) {
      lane.refuse(trouble);
      return;
    }
    this.#tasks.start((signal) => this.#run(lane, section, signal));
  }

  async #run(lane: ProgramLane, { after }: ProgramSection, signal: AbortSignal): Promise<void> {
    const ready = async (): Promise<void> => {
      await Promise.all(after.map((name) => this.options.decided(name, signal)));
    };
    try {
      await lane.open(ready);
      await Promise.race([lane.failed, ended(signal)]);
    } catch (error) {
      if (!signal.aborted) this.#warn(lane.name, `program ${lane.name} could not be looked after: ${explain(error)}`);
    }
  }

  #laneOf(section: ProgramSection, claim: Claim): ProgramLane {
    const { clock, logFor, storage, rescues, suppression, noticesFor } = this.options;
    const { name, command, restart, probeDelayMs, probeEveryMs, probeFailuresMax, stopMs, start } = section;
    const notices = noticesFor(name);
    const probes = section.probes.map((word) => parseProbe(word));
    const source = sourceOf(section, claim, clock);
    return new ProgramLane({
      ...{ name, restart, stopMs, start, source, notices, storage, rescues, suppression, clock, probes },
      ...{ code: this.#code, settling: this.#settling, lanes: this.options.lanes },
      command: command ?? null,
      runDirectory: claim.runDirectory,
      policy: policyOf(section),
      hangs: hangsOf(section),
      log: logFor(name),
      health: { probes: this.options.probesOf?.(section) ?? probes, probeDelayMs, probeEveryMs, probeFailuresMax },
      remembered: true,
      told: new ProgramNotices(name, notices, storage, clock, source.owner),
    });
  }

  #warn(name: string, text: string): void {
    this.options.storage.event("program.unattended", name, { why: text });
    this.options.noticesFor(name).tell({ event: "warning", workload: name, text });
  }
}

function sourceOf(section: ProgramSection, claim: Claim, clock: Clock): ProgramSource {
  const { command, unit, directory, user, group, environment, stopSignal } = section;
  if (command === undefined) return unitSource({ unit: unit!, claim, clock });
  const setting = { directory, user, group, environment };
  return commandSource({ command, claim, outputToError: true, setting, stopSignal });
}

const ended = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
