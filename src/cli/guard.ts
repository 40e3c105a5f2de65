// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast guard`: starts a program, or attaches to a running one, and guards it until it ends or is let go.
 *
 * Exit code: the program's own (128 + signal number where a signal ended it); 0 after letting go. What can be found out
 * before the program is started or touched is found out first, so a refusal leaves nothing behind.
 */
import { type Command, InvalidArgumentError, Option } from "commander";
import { type Claim, claimGuard, nameOf, namePattern, type Wanted } from "#appliance/claim.ts";
import { requireGuardable, requireMachine } from "#appliance/guardable.ts";
import { exitCodeOf, requireStartable } from "#appliance/guardedProgram.ts";
import { openHangLimits, openPolicy, openProbes, openStatus, openTrace } from "#appliance/guardOptions.ts";
import { tellBug } from "#appliance/guardParts.ts";
import { Hearers } from "#appliance/hearers.ts";
import { LineSink } from "#appliance/lineSink.ts";
import { Notices } from "#appliance/notices.ts";
import { openMonitoring } from "#appliance/openMonitoring.ts";
import { openPage } from "#appliance/page/openPage.ts";
import { pageVerbs } from "#appliance/page/pageVerbs.ts";
import { WorkloadBook } from "#appliance/page/workloadBook.ts";
import { guardInForeground } from "#appliance/programs/foreground.ts";
import { commandSource, type ProgramSource, processSource } from "#appliance/programs/programSource.ts";
import { requireUnit, unitName, unitSource } from "#appliance/programs/unitSource.ts";
import { Requests } from "#appliance/requests.ts";
import { openRescues } from "#appliance/rescue/rescueOrders.ts";
import { SuppressionSwitch } from "#appliance/suppressionSwitch.ts";
import { pageOf, startUplink, type UplinkParts } from "#appliance/uplink/startUplink.ts";
import { uplinkSettings } from "#appliance/uplink/uplinkSettings.ts";
import { ForegroundOrders } from "#appliance/workloadOrders.ts";
import { systemClock, systemRandom } from "#clock.ts";
import { defaultRestart, type RestartPolicy, restartPolicies } from "#config/schema.ts";
import { telemetryOf } from "#config/telemetryFlags.ts";
import type { TelemetrySection } from "#config/telemetrySection.ts";
import { ConfigError } from "#errors.ts";
import { type Log, openLog } from "#log.ts";
import { defaultRunDirectory, defaultStateDirectory, guardDirectory } from "#storage/ownership.ts";
import { Storage } from "#storage/storage.ts";
import { TaskGroup } from "#tasks.ts";
import { exitCodes } from "./exitCodes.ts";
import { version } from "./program.ts";

/** Last lines are waited for so long, where their reader is slow. */
const lastLinesMs = 1000;

type GuardFlags = {
  readonly name?: string;
  readonly state?: string;
  readonly json?: true;
  readonly pid?: number;
  readonly unit?: string;
  readonly probe: readonly string[];
  readonly rungs?: string;
  readonly hang?: string;
  readonly trace?: string;
  readonly restart: RestartPolicy["policy"];
  readonly detachOnExit?: true;
  readonly status?: string;
  readonly config?: string;
  readonly broker?: string;
  readonly device?: string;
  readonly verbose?: true;
};

export function addGuard(program: Command): void {
  program
    .command("guard")
    .description("start a program (or attach to one) and keep it running through its own crashes")
    .argument("[command...]", "the program and its arguments, after --")
    .option("--name <name>", "name of this guard (default: the program's own)", readName)
    .option("--state <dir>", "state directory (default: /var/lib/holdfast, or your own)")
    .option("--json", "one JSON object a line on standard output; the program's output goes to standard error")
    .option("--pid <pid>", "attach to this running process; Ctrl-C leaves it running", readPid)
    .option("--unit <name>", "guard this systemd service, again after each of its restarts; Ctrl-C leaves it running")
    .option(
      "--probe <probe>",
      "must pass before a fault counts as survived: tcp:PORT, http:PORT/PATH, redis:PORT, mqtt:PORT or cmd:COMMAND",
      collect,
      [],
    )
    .option("--rungs <list>", "use only these rungs: abandon, quarantine, inward, neutralise (default: all)")
    .option(
      "--hang <limit>",
      "seconds of processor time without an end that are a hang while requests wait; or off",
      "10",
    )
    .option("--trace <file>", "write every packet of the debugger stub to this file")
    .addOption(
      new Option("--restart <when>", "start it again: after a fault that ended it, any failure, always, or never")
        .choices(restartPolicies)
        .default("onFault"),
    )
    .option("--detach-on-exit", "Ctrl-C leaves a started program running, unguarded")
    .option("--status <[address:]port>", "serve the status page there (loopback unless an address is given), or off")
    .option("--config <file>", "a holdfast.toml whose [telemetry] section is used")
    .option("--broker <url>", "tell this MQTT broker what happens: mqtts://HOST:PORT, or mqtt:// on loopback")
    .option("--device <name>", "name of this box in its fleet (default: of the certificate, or the host)")
    .option("--verbose", "log what the guard does")
    .addHelpText("after", "\nExample:\n  holdfast guard -- redis-server --port 7000")
    .action(guard);
}

type GuardOrder = {
  readonly wanted: ReturnType<typeof readWanted>;
  readonly probes: ReturnType<typeof openProbes>;
  readonly policy: ReturnType<typeof openPolicy>;
  readonly hangs: ReturnType<typeof openHangLimits>;
  readonly status: ReturnType<typeof openStatus>;
  readonly section: ReturnType<typeof telemetryOf>;
  readonly restart: RestartPolicy;
};

async function guard(command: string[], flags: GuardFlags): Promise<void> {
  const code = await guardToTheEnd(command, flags);
  // A program that was let go is our child still: the runtime would wait for it.
  process.exit(code);
}

/** What the words ask for. @throws ConfigError for the first that cannot be meant */
function readOrder(command: string[], flags: GuardFlags): GuardOrder {
  const order = {
    wanted: readWanted(command, flags),
    probes: openProbes(flags.probe),
    policy: openPolicy(flags.rungs),
    hangs: openHangLimits(flags.hang),
    status: openStatus(flags.status),
    section: telemetryOf(flags),
    restart: { ...defaultRestart, policy: flags.restart },
  };
  if (order.section !== null) uplinkSettings(order.section, "off");
  return order;
}

async function guardToTheEnd(command: string[], flags: GuardFlags): Promise<number> {
  const { wanted, status, section, ...ways } = readOrder(command, flags);
  const clock = systemClock;
  if (wanted.kind === "pid") requireGuardable(wanted.pid);
  if (flags.unit !== undefined) requireUnit(unitName(flags.unit));
  await requireMachine();
  using claim = claimGuard(defaultRoot(), flags.name, wanted);
  if (wanted.kind === "command" && claim.running === null) requireStartable(wanted.command);
  const { name, runDirectory } = claim;

  const { complaints, out, log, book, hearers, notices } = openOutput(name, flags);
  const trace = flags.trace === undefined ? undefined : openTrace(flags.trace, clock);
  try {
    const directory = guardDirectory(flags.state ?? defaultStateDirectory(process.env, userId()), name);
    await using storage = await Storage.open({ directory, runDirectory, clock, log });
    await using monitored = openMonitoring({ storage, notices, clock, log, directory, runDirectory, hearers });
    monitored.watchProbes(name, flags.probe);
    await using tasks = new TaskGroup();
    const suppression = new SuppressionSwitch(clock);
    const rescues = openRescues(storage, directory, clock, tasks);
    const attached = wanted.kind !== "command";
    const requests = new Requests({ name, detach: flags.detachOnExit === true, attached, notices, clock });
    const source = sourceOf(wanted, claim, flags);
    const endOnBug = (error: unknown): void => {
      tellBug({ notices, name, program: requests.program });
      complaints.write(`holdfast: ${error instanceof Error ? error.stack : String(error)}`);
      void Promise.all([out.flush(lastLinesMs), complaints.flush(lastLinesMs)]).then(() => process.exit(exitCodes.bug));
    };
    onBug(endOnBug);
    tasks.failed.catch(endOnBug);
    const pageFingerprint = (): string | null => book.pageFingerprint;
    const seen = { view: monitored.view, metrics: monitored.told.metrics, pageFingerprint };
    const kept = { storage, directory, rescues, suppression, notices, ...seen };
    const { orders, page: fleetPage } = joinFleet(section, flags, { ...kept, clock, log }, tasks);
    const command = wanted.kind === "command" ? wanted.command : null;
    book.expect(name, null);
    monitored.join(fleetPage.metrics);
    const perform = pageVerbs({ orders, suppression, storage, clock, tasks });
    const shown = { book, suppression, perform, ...fleetPage, ...monitored.told };
    const page = { directory, storage, clock, version, mode: "guard", notices, ...shown } as const;
    await using _page = status === null ? null : await openPage({ settings: status, ...page });
    const { lanes } = monitored;
    const told = { storage, rescues, notices, log, trace, lanes, opened: orders.serve };
    const guarded = { name, command, source, requests, runDirectory, clock, suppression, ...ways, ...told };
    const end = await guardInForeground(guarded);
    return end === null ? exitCodes.ok : (exitCodeOf(end) ?? exitCodes.protocol);
  } finally {
    await Promise.all([out.flush(lastLinesMs), complaints.flush(lastLinesMs)]);
  }
}

type FleetParts = Omit<UplinkParts, "orders" | "configuration" | "machine" | "version" | "random">;

/** The guard in its fleet, where one is configured: what it may be told, and what its page shows of it. */
function joinFleet(section: TelemetrySection | null, { rungs = "" }: GuardFlags, parts: FleetParts, tasks: TaskGroup) {
  const { workload } = parts.notices;
  const orders = new ForegroundOrders(workload);
  const configuration = { "guard.name": workload, "guard.rungs": rungs };
  const own = { orders, configuration, machine: null, version, random: systemRandom };
  return { orders, page: pageOf(section, startUplink(section, { ...parts, ...own }, tasks)) };
}

function openOutput(name: string, flags: GuardFlags) {
  const complaints = new LineSink(process.stderr.fd, systemClock);
  const out = flags.json ? new LineSink(process.stdout.fd, systemClock) : complaints;
  const log = openLogOf(name, flags.verbose === true, (line) => complaints.write(line));
  const book = new WorkloadBook(systemClock);
  const form = flags.json ? "json" : "text";
  const hearers = new Hearers((notice) => book.hear(notice));
  const notices = new Notices(name, form, (line) => out.write(line), hearers.hear);
  return { complaints, out, log, book, hearers, notices };
}

/** Without --verbose only errors; and an ill disk is told once, by its notice, not three times by its files. */
function openLogOf(name: string, verbose: boolean, write: (line: string) => void): Log {
  const log = openLog(name, verbose ? "debug" : "error", systemClock, write);
  if (verbose) return log;
  return (level, event, facts) => {
    if (!event.startsWith("storage.")) log(level, event, facts);
  };
}

/** What nobody caught is a bug: the supervisor ends, and is to be started anew. */
function onBug(end: (error: unknown) => void): void {
  process.once("uncaughtException", end);
  process.once("unhandledRejection", end);
}

function readWanted(command: readonly string[], { pid, unit, name }: GuardFlags): Wanted {
  const ways = [command.length > 0, pid !== undefined, unit !== undefined].filter(Boolean).length;
  if (ways !== 1) {
    throw new ConfigError(
      "config.argument",
      "say what to start (holdfast guard -- COMMAND), or --pid PID, or --unit NAME: one of them",
    );
  }
  if (pid !== undefined) return { kind: "pid", pid };
  if (unit !== undefined) return { kind: "named", name: name ?? nameOf(unit.replace(/\.service$/, "")) };
  return { kind: "command", command, directory: process.cwd() };
}

function sourceOf(wanted: Wanted, claim: Claim, flags: GuardFlags): ProgramSource {
  switch (wanted.kind) {
    case "pid":
      return processSource(wanted.pid, claim);
    case "named":
      return unitSource({ unit: unitName(flags.unit!), claim, clock: systemClock });
    case "command":
      return commandSource({ command: wanted.command, claim, outputToError: flags.json === true });
  }
}

const userId = (): number => process.getuid?.() ?? 0;
const defaultRoot = (): string => defaultRunDirectory(process.env, userId());

function readName(text: string): string {
  if (!namePattern.test(text))
    throw new InvalidArgumentError("Use letters, digits, dot, dash and underscore, at most 64.");
  return text;
}

function readPid(text: string): number {
  const pid = Number(text);
  if (!/^\d{1,10}$/.test(text) || pid < 1) throw new InvalidArgumentError("A process id is a whole number from 1.");
  return pid;
}

const collect = (text: string, before: readonly string[]): readonly string[] => [...before, text];
