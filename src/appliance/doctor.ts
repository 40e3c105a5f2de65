// SPDX-License-Identifier: Apache-2.0
/**
 * What a machine can do for us: a list of checks over a `Box`, each with what was found, what cannot be done for want of
 * it, and what to do. Pure over its box; reads only. Each check is one small function; `checks` is the order shown.
 *
 * `missing` on a check that guarding needs means nothing can be guarded here; elsewhere it means one ability less.
 */
import { type Box, systemBox } from "#board/box.ts";
import { defaultRunDirectory, defaultStateDirectory } from "#storage/ownership.ts";
import { type Check, capabilities, hasCapability, lacking, ok } from "./doctor/check.ts";
import { deviceChecks } from "./doctor/devices.ts";

export type Diagnosis = {
  /** Programs on this machine can be guarded at all. */
  readonly canGuard: boolean;
  readonly checks: readonly Check[];
};

export const gdbserverVersionMin = 13;
const stateFreeBytesMin = 256 << 20;
const memoryFreeBytesMin = 128 << 20;

/** Whoever is not listed here can be missing while programs are still guarded. */
const guardNeeds: readonly ((box: Box, stateDirectory: string) => Check)[] = [
  processor,
  gdbserver,
  tracing,
  stateDirectory,
];

/** @param state The state directory that is asked about; the default one where it is undefined. */
export function diagnose(box: Box, state?: string): Diagnosis {
  const directory = state ?? defaultStateDirectory(box.environment, box.userId);
  const needed = guardNeeds.map((check) => check(box, directory));
  return {
    canGuard: needed.every((check) => check.status !== "missing"),
    checks: [...needed, runDirectory(box), memory(box), kernel(box), ...deviceChecks(box), clockSync(box), demo(box)],
  };
}

/** The diagnosis of the machine we run on. */
export const diagnoseHere = (state?: string): Diagnosis => diagnose(systemBox, state);

function processor(box: Box): Check {
  const names: Readonly<Record<string, string>> = { x64: "x86-64", arm64: "arm64" };
  const name = names[box.processor];
  if (name !== undefined) return ok("processor", name);
  return lacking("missing", "processor", box.processor, "nothing can be guarded", "use an x86-64 or arm64 machine");
}

function gdbserver(box: Box): Check {
  const advice = "apt-get install gdbserver (Debian 12 or newer)";
  const path = box.find("gdbserver");
  if (path === null) return lacking("missing", "gdbserver", "not installed", "nothing can be guarded", advice);
  const line = box.versionOf(path) ?? "";
  const version = /(\d+)\.\d+\S*\s*$/.exec(line);
  if (version === null)
    return lacking("missing", "gdbserver", `${path} tells no version`, "nothing can be guarded", advice);
  const found = `${path}, version ${version[0].trim()}`;
  if (Number(version[1]) >= gdbserverVersionMin) return ok("gdbserver", found);
  return lacking(
    "missing",
    "gdbserver",
    `${found}; ${gdbserverVersionMin} or newer is needed`,
    "nothing can be guarded",
    advice,
  );
}

/** Whether this user may trace a program that is not its own child (gdbserver always attaches). */
export function tracing(box: Box): Check {
  const name = "tracing";
  const scope = Number(box.text("/proc/sys/kernel/yama/ptrace_scope") ?? "0");
  const who = box.userId === 0 ? "root" : `user ${box.userId}`;
  const found = `${who}, ${hasCapability(box, capabilities.sysPtrace) ? "with" : "without"} CAP_SYS_PTRACE, Yama scope ${scope}`;
  if (scope >= 3) {
    return lacking(
      "missing",
      name,
      found,
      "nothing can be guarded until the next boot",
      "set kernel.yama.ptrace_scope below 3 in /etc/sysctl.d and boot again",
    );
  }
  if (hasCapability(box, capabilities.sysPtrace)) return ok(name, found);
  if (scope === 0) {
    return lacking(
      "limited",
      name,
      found,
      "only programs of this user can be guarded",
      "run as root to guard those of others",
    );
  }
  return lacking("missing", name, found, "nothing can be guarded", "run as root, or set kernel.yama.ptrace_scope to 0");
}

function stateDirectory(box: Box, directory: string): Check {
  const name = "state directory";
  const access = box.writable(directory);
  const advice = "name another one with --state DIR";
  if (access !== "ok") return lacking("missing", name, `${directory}: ${access}`, "no fault can be recorded", advice);
  const space = box.space(directory);
  if (space === null)
    return lacking("limited", name, `${directory}, free space unknown`, "the record may end early", advice);
  const found = `${directory}, ${megabytes(space.freeBytes)} free`;
  if (space.inMemory)
    return lacking("limited", name, `${found}, in memory`, "the record is lost at the next boot", advice);
  if (space.freeBytes >= stateFreeBytesMin) return ok(name, found);
  return lacking(
    "limited",
    name,
    found,
    "the record will soon be full; faults are survived all the same",
    "free some space, or use --state DIR",
  );
}

function runDirectory(box: Box): Check {
  const name = "run directory";
  const directory = defaultRunDirectory(box.environment, box.userId);
  const access = box.writable(directory);
  if (access !== "ok") {
    return lacking(
      "limited",
      name,
      `${directory}: ${access}`,
      "the place next to it in shared memory is used",
      "set XDG_RUNTIME_DIR to a folder of yours",
    );
  }
  if (box.space(directory)?.inMemory === true) return ok(name, `${directory}, in memory`);
  const effect = "a disk that is busy can lengthen the stop of a thread, unless /dev/shm is memory";
  return lacking("limited", name, `${directory}, on disk`, effect, "mount a tmpfs there");
}

function memory(box: Box): Check {
  const kilobytes = /^MemAvailable:\s+(\d+) kB$/m.exec(box.text("/proc/meminfo") ?? "")?.[1];
  if (kilobytes === undefined) return lacking("limited", "memory", "unknown", "it cannot be watched", "mount /proc");
  const bytes = Number(kilobytes) * 1024;
  const found = `${megabytes(bytes)} available`;
  if (bytes >= memoryFreeBytesMin) return ok("memory", found);
  return lacking(
    "limited",
    "memory",
    found,
    "the kernel may end programs, and a killed one cannot be kept",
    "free some memory",
  );
}

const kernel = (box: Box): Check => ok("kernel", `Linux ${box.text("/proc/sys/kernel/osrelease") ?? "unknown"}`);

/** The kernel's own word (STA_UNSYNC) needs a system call; the services that discipline the clock leave traces. */
function clockSync(box: Box): Check {
  const name = "clock";
  if (box.exists("/run/systemd/timesync/synchronized")) return ok(name, "kept by systemd-timesyncd");
  const daemon = ["/run/chrony/chronyd.pid", "/run/chronyd.pid", "/run/ntpd.pid", "/run/ntpsec/ntpd.pid"].find(
    box.exists,
  );
  if (daemon !== undefined) return ok(name, `kept by the service of ${daemon}`);
  return lacking(
    "limited",
    name,
    "no time service seen",
    "times in the record can be off; nothing else",
    "apt-get install systemd-timesyncd",
  );
}

function demo(box: Box): Check {
  if (box.find("redis-server") !== null) return ok("demo", "redis-server is here");
  return lacking(
    "missing",
    "demo",
    "no redis-server",
    "holdfast demo cannot run",
    "apt-get install redis-server, or ./scripts/holdfast demo, which does it",
  );
}

const megabytes = (bytes: number): string =>
  bytes >= 10 * 2 ** 30 ? `${Math.floor(bytes / 2 ** 30)} GB` : `${Math.floor(bytes / 2 ** 20)} MB`;
