// SPDX-License-Identifier: Apache-2.0
/**
 * The process of Cloud Hypervisor: started so that it outlives us, or found again. Gets a run directory; gives a handle.
 *
 * It runs in a session of its own, holds no pipe of ours, and keeps its seccomp filter. Its output and its events go to
 * files it appends to. Limits: `startTimeoutMs` until its API answers. Source: v53.0.
 */
import { accessSync, closeSync, constants, openSync, readFileSync, truncateSync } from "node:fs";
import { basename } from "node:path";
import type { Clock } from "#clock.ts";
import { HypervisorError } from "#errors.ts";
import { tailOf } from "./cappedFile.ts";
import { type ExitReport, explainExit } from "./exitReport.ts";
import { findProcess, goneOf, isSame } from "./foundProcess.ts";
import { controllerTrouble } from "./interruptController.ts";
import { MonitorFrames } from "./monitorEvent.ts";
import { RestClient } from "./restClient.ts";
import type { RunDirectory } from "./runDirectory.ts";
import type { Ping } from "./vmConfig.ts";

export const startTimeoutMs = 10_000;
export const logBytesMax = 1 << 20;
const startPollMs = 5;
const tailBytes = 16 << 10;

export type LaunchOptions = {
  readonly directory: RunDirectory;
  readonly clock: Clock;
  /** Path or name of the program. */
  readonly program: string;
  /** Runs as this user instead of ours; needs to be in the group of /dev/kvm. */
  readonly user?: { readonly uid: number; readonly gid: number };
  /** The device that guests run on, /dev/kvm; tests with a scripted peer name another. */
  readonly kvm?: string;
  readonly signal?: AbortSignal;
};

export type HypervisorProcess = {
  readonly pid: number;
  readonly ping: Ping;
  readonly rest: RestClient;
  /** Resolves once it is gone. Never rejects. */
  readonly gone: Promise<ExitReport>;
  /** Says that the end to come was asked for. */
  expectEnd(): void;
  /** SIGKILL. */
  kill(): void;
};

/** @throws HypervisorError hypervisor.kvm, hypervisor.notFound, hypervisor.start, hypervisor.socket, hypervisor.timeout */
export async function launchProcess(options: LaunchOptions): Promise<HypervisorProcess> {
  const { directory, program } = options;
  requireKvm(options.kvm ?? "/dev/kvm", options.user !== undefined);
  const path = Bun.which(program);
  if (path === null) {
    const advice = `${program} is not there or not executable; name it in [hypervisor] program`;
    throw new HypervisorError("hypervisor.notFound", advice);
  }
  directory.make(options.user);
  if (findProcess(directory) !== null) {
    throw new HypervisorError("hypervisor.socket", `a Cloud Hypervisor runs in ${directory.path} already`);
  }
  if (await isListening(directory.apiSocket)) {
    throw new HypervisorError("hypervisor.socket", `another process listens at ${directory.apiSocket}: end it first`);
  }
  directory.removeSockets();
  directory.removeTraces();
  const child = spawn(path, options);
  child.unref();
  const ended = child.exited.then(() => endOf(child));
  const end = new EndReporter(directory, ended);
  const rest = new RestClient(directory.apiSocket);
  const ping = await firstPing(rest, child.pid, end, options).catch(async (error) => {
    // One that never answers would be in the way of the next.
    end.expect();
    child.kill("SIGKILL");
    await ended;
    throw error;
  });
  return {
    pid: child.pid,
    ping,
    rest,
    gone: end.gone,
    expectEnd: () => end.expect(),
    kill: () => child.kill("SIGKILL"),
  };
}

/**
 * The process that an earlier supervisor left in this directory, or null. An abort ends the watch for its end.
 * @throws HypervisorError as the REST client
 */
export async function adoptProcess(
  directory: RunDirectory,
  clock: Clock,
  signal: AbortSignal,
): Promise<HypervisorProcess | null> {
  const found = findProcess(directory);
  if (found === null) return null;
  const { pid, startTicks } = found;
  const rest = new RestClient(directory.apiSocket);
  const end = new EndReporter(directory, goneOf(pid, startTicks, clock, signal));
  const ping = await firstPing(rest, pid, end, { clock, signal });
  const kill = (): void => {
    if (isSame(pid, startTicks)) process.kill(pid, "SIGKILL");
  };
  return { pid, ping, rest, gone: end.gone, expectEnd: () => end.expect(), kill };
}

/** How the process that last ran here ended, as far as its events and its log tell. */
export const lastEnd = (directory: RunDirectory): Promise<ExitReport> =>
  new EndReporter(directory, Promise.resolve(null)).gone;

/** A socket that was left behind refuses; one that somebody else has made accepts. */
async function isListening(path: string): Promise<boolean> {
  try {
    const socket = await Bun.connect({ unix: path, socket: { data: () => {} } });
    socket.terminate();
    return true;
  } catch {
    return false;
  }
}

/** Relative to its working directory, so that another user than ours needs no way through the directories above. */
const apiArgument = (directory: RunDirectory): string => `path=${basename(directory.apiSocket)}`;

function spawn(path: string, { directory, user }: LaunchOptions): Bun.Subprocess {
  const log = openSync(directory.log, "a", 0o600);
  const events = openSync(directory.events, "a", 0o600);
  // Whatever an earlier process wrote about itself must not be taken for this one's.
  truncateSync(directory.log, 0);
  truncateSync(directory.events, 0);
  const become =
    user === undefined
      ? []
      : ["setpriv", `--reuid=${user.uid}`, `--regid=${user.gid}`, "--init-groups", "--no-new-privs"];
  const command = [...become, path, "--api-socket", apiArgument(directory), "--event-monitor", "fd=3"];
  try {
    return Bun.spawn(command, {
      cwd: directory.path,
      // RUST_BACKTRACE must stay out: a backtrace makes a system call that its seccomp filter kills for.
      env: { PATH: process.env.PATH ?? "/usr/sbin:/usr/bin:/sbin:/bin" },
      stdio: ["ignore", log, log, events],
      detached: true,
    });
  } catch (cause) {
    throw new HypervisorError("hypervisor.start", `${path} cannot be started`, {}, cause);
  } finally {
    closeSync(log);
    closeSync(events);
  }
}

function requireKvm(path: string, otherUser: boolean): void {
  try {
    accessSync(path, otherUser ? constants.F_OK : constants.R_OK | constants.W_OK);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    const advice = "load the kernel's kvm module and switch virtualisation on in the firmware";
    const message =
      code === "EACCES"
        ? `${path} may not be opened: run as root or join its group`
        : `there is no ${path}, so no guest can run here: ${advice}`;
    throw new HypervisorError("hypervisor.kvm", message, {}, cause);
  }
  const trouble = controllerTrouble(process.arch, interrupts());
  if (trouble !== null) throw new HypervisorError("hypervisor.kvm", trouble);
}

function interrupts(): string {
  try {
    return readFileSync("/proc/interrupts", "latin1");
  } catch {
    // Without it nothing is known against the board.
    return "";
  }
}

async function firstPing(
  rest: RestClient,
  pid: number,
  end: EndReporter,
  { clock, signal }: Pick<LaunchOptions, "clock" | "signal">,
): Promise<Ping> {
  const limitNs = clock.monotonicNs() + startTimeoutMs * 1e6;
  for (;;) {
    if (end.report !== null)
      throw new HypervisorError("hypervisor.start", `Cloud Hypervisor ended at once: ${end.report.why}`);
    const answer = await rest.call("vmm.ping").catch((error: unknown) => error);
    if (!(answer instanceof Error)) return samePid(answer as Ping, pid);
    // Until the socket is there, and only then, we try again.
    const early = answer instanceof HypervisorError && answer.code === "hypervisor.closed";
    if (!early || clock.monotonicNs() > limitNs) throw answer;
    await Promise.race([clock.sleep(startPollMs, signal), end.gone]);
  }
}

function samePid(ping: Ping, pid: number): Ping {
  if (ping.pid === pid) return ping;
  const message = "another process answers on this API socket";
  throw new HypervisorError("hypervisor.socket", message, { expected: pid, answered: ping.pid });
}

type Status = NonNullable<ExitReport["status"]>;
const endOf = (child: Bun.Subprocess): Status => ({
  code: child.exitCode,
  signal: child.signalCode === null ? null : String(child.signalCode),
});

/** Waits for the end, then reads what was left behind. */
class EndReporter {
  readonly gone: Promise<ExitReport>;
  report: ExitReport | null = null;
  #asked = false;

  constructor(directory: RunDirectory, ended: Promise<Status | null>) {
    this.gone = ended.then(async (status) => {
      const logTail = await tailOf(directory.log, tailBytes);
      const events = new MonitorFrames().push(Buffer.from(await tailOf(directory.events, tailBytes)));
      this.report = explainExit({ status, events, logTail, asked: this.#asked });
      return this.report;
    });
  }

  expect(): void {
    this.#asked = true;
  }
}
