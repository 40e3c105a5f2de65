// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast run`: everything a configuration names, from start to end. Gets a Config; ends when told to.
 *
 *     storage ─▶ guests, programs (taken over, started) ─▶ control … ─stop─▶ control closed ─▶ all let go ─▶ storage
 *
 * Ending leaves guests and programs running, and the next start takes them over; `stopGuests` ends the guests too. With
 * `hold`, for a restart, the programs' stubs go on holding them: a fault meanwhile waits for the next start.
 */
import { type Clock, systemRandom } from "#clock.ts";
import { flatConfig } from "#config/flat.ts";
import type { Config } from "#config/schema.ts";
import { ConfigError } from "#errors.ts";
import type { Log } from "#log.ts";
import { Checkpoints } from "#restoration/checkpoints.ts";
import type { WorkloadTold } from "#status/told.ts";
import { claimDirectory } from "#storage/ownership.ts";
import { Storage } from "#storage/storage.ts";
import { aborted, TaskGroup } from "#tasks.ts";
import { openControl } from "./control.ts";
import { Guests } from "./guests/guests.ts";
import { Hearers } from "./hearers.ts";
import { Notices } from "./notices.ts";
import { openMonitoring } from "./openMonitoring.ts";
import { MachineTold } from "./page/machineTold.ts";
import { openPageOf } from "./page/openPage.ts";
import { pageVerbs } from "./page/pageVerbs.ts";
import { WorkloadBook } from "./page/workloadBook.ts";
import { WorkloadsTold } from "./page/workloadsTold.ts";
import { Programs } from "./programs/programs.ts";
import { openRescues } from "./rescue/rescueOrders.ts";
import { SuppressionSwitch } from "./suppressionSwitch.ts";
import { MachineCare, type MachineOptions } from "./update/machineCare.ts";
import { pageOf, startUplink } from "./uplink/startUplink.ts";
import { eitherOrders, guestOrders, programOrders } from "./workloadOrders.ts";

export type RunOptions = {
  readonly config: Config;
  readonly stateDirectory: string;
  readonly runDirectory: string;
  readonly clock: Clock;
  readonly version: string;
  readonly logFor: (part: string) => Log;
  readonly form: "json" | "text";
  readonly write: (line: string) => void;
  /** Aborts when it is to end. */
  readonly stop: AbortSignal;
  readonly stopGuests: boolean;
  /** Another machine than this one, for tests. */
  readonly machine?: Pick<MachineOptions, "top" | "tool" | "rebootCommand" | "times" | "holdfast"> | undefined;
  /** Another device than /dev/kvm, for tests with a scripted hypervisor. */
  readonly kvm?: string | undefined;
};

export async function runAppliance(options: RunOptions): Promise<void> {
  const { config, stateDirectory: directory, runDirectory, clock, logFor, stop } = options;
  const user = config.hypervisor.user === undefined ? undefined : await userOf(config.hypervisor.user);
  const book = new WorkloadBook(clock);
  const hearers = new Hearers((notice) => book.hear(notice));
  const noticesFor = (workload: string): Notices => new Notices(workload, options.form, options.write, hearers.hear);
  const notices = noticesFor("holdfast");
  claimDirectory(runDirectory);
  await using storage = await Storage.open({ directory, runDirectory, clock, log: logFor("storage") });
  const look = { storage, notices, clock, directory, runDirectory, hearers, log: logFor("monitor") };
  await using monitored = openMonitoring({ ...look, section: config.monitor });
  await using machine = await MachineCare.open({ ...look, log: logFor("machine"), ...options.machine });
  const version = machine.updates?.box.image.version ?? options.version;
  await using tasks = new TaskGroup();
  const rescues = openRescues(storage, directory, clock, tasks);
  const suppression = new SuppressionSwitch(clock);
  storage.event("run.started", "holdfast", { guests: config.guests.length, programs: config.programs.length });
  const decided = async (name: string, signal: AbortSignal): Promise<void> => {
    await Promise.all([guests.decided(name, signal), programs.decided(name, signal)]);
  };
  const sections = config.programs;
  for (const { name } of sections) book.expect(name, null);
  const { probesOf, lanes } = monitored;
  const shared = { probesOf, lanes, runDirectory, clock, logFor, storage, rescues, suppression, noticesFor, decided };
  const programs = new Programs({ sections, ...shared });
  using checkpoints = new Checkpoints(directory, clock);
  await using guests = await Guests.load({
    ...{ ...shared, sections: config.guests, program: config.hypervisor.program },
    ...{ user, kvm: options.kvm, checkpoints },
  });
  guests.open();
  await programs.open();
  const orders = eitherOrders(guestOrders(guests), programOrders(programs));
  const seat = startUplink(
    config.telemetry ?? null,
    {
      ...{ storage, directory, rescues, orders, suppression, clock, random: systemRandom },
      ...{ configuration: flatConfig(config), machine, version, log: logFor("telemetry") },
      ...{ notices, view: monitored.view, metrics: monitored.told.metrics },
      pageFingerprint: () => book.pageFingerprint,
    },
    tasks,
  );
  await using _control = openControl(runDirectory, guests, programs, machine);
  const fleetPage = pageOf(config.telemetry ?? null, seat);
  monitored.join(fleetPage.metrics);
  const perform = pageVerbs({ orders, suppression, storage, clock, tasks });
  const shown = { book, notices, suppression, perform, ...fleetPage, ...monitored.told };
  const told = new WorkloadsTold(guests, programs, checkpoints, suppression);
  const machineTold = new MachineTold(machine, directory);
  const page = { directory, storage, clock, version, mode: "run", machine: machineTold, ...shown } as const;
  await using _page = await openPageOf(config.status, page, told);
  const workloads = (): readonly WorkloadTold[] => told.collect(clock.wallMs());
  machine.begin({ workloads, view: monitored.view, underWay: () => guestsUnderWay(guests), seat });
  monitored.ready();
  await aborted(stop);
  if (stop.reason !== hold) await programs[Symbol.asyncDispose]();
  if (options.stopGuests) await guests.stopAll(new AbortController().signal);
  storage.event("run.ended", "holdfast", { stoppedGuests: options.stopGuests });
}

/** The reason of a stop after which somebody else takes over at once. */
export const hold = "hold";

/** Guests that a restart of the box would catch halfway. */
function guestsUnderWay(guests: Guests): string | null {
  const midway: readonly string[] = ["starting", "resetting", "booting", "ending"];
  const found = guests.names
    .map((name) => guests.status(name))
    .find(({ phase, arriving }) => midway.includes(phase) || arriving !== null);
  return found === undefined ? null : `guest ${found.name} is ${found.arriving === null ? found.phase : "coming back"}`;
}

/** @throws ConfigError config.value */
async function userOf(name: string): Promise<{ uid: number; gid: number }> {
  const ask = async (flag: string): Promise<number> => {
    const child = Bun.spawn(["id", flag, name], { stdio: ["ignore", "pipe", "ignore"] });
    const text = await child.stdout.text();
    if ((await child.exited) !== 0) throw new ConfigError("config.value", `hypervisor.user: there is no user ${name}`);
    return Number(text);
  };
  return { uid: await ask("-u"), gid: await ask("-g") };
}
