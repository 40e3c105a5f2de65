// SPDX-License-Identifier: Apache-2.0
/**
 * The doctor's checks of what the kernel and the metal offer beyond the least: counters, virtual machines, control groups.
 * None of these is needed to guard a native program.
 */
import type { Box } from "#board/box.ts";
import { profileOf } from "#board/profiles/profiles.ts";
import { readHardwareWatchdog } from "#monitor/health/hardwareWatchdog.ts";
import { type Check, capabilities, hasCapability, lacking, ok } from "./check.ts";

/** The first Cloud Hypervisor that can hand its guest's memory to another process. */
const hypervisorVersionMin = 53;

export const deviceChecks = (box: Box): Check[] => [
  board(box),
  counters(box),
  pressure(box),
  controlGroups(box),
  systemd(box),
  hardwareWatchdog(box),
  virtualMachines(box),
  hypervisor(box),
  userFaults(box),
  sockets(box),
];

const triedWords = {
  real: "",
  emulated: "; tried in emulation only",
  never: "; never run on real hardware of this kind",
} as const;

/** What kind of board it is, and what is known to differ on it. */
function board(box: Box): Check {
  const profile = profileOf(box);
  if (profile === null) return ok("board", "of no kind that we know");
  const { name, tried, guests, notes } = profile;
  const found = [`${name}${triedWords[tried]}`, ...notes].join("; ");
  if (guests === "yes") return ok("board", found);
  return lacking("limited", "board", found, `no guests: ${guests.why}`, null);
}

/** Whether the hardware resets a box that hangs. */
function hardwareWatchdog(box: Box): Check {
  const name = "hardware watchdog";
  const effect = "a box that hangs as a whole stays so until somebody comes";
  const seen = readHardwareWatchdog(box);
  if (seen.kind === "absent")
    return lacking("limited", name, seen.why, effect, seen.advice === "" ? null : seen.advice);
  const { identity, active, timeoutSeconds } = seen.value;
  const found = `${identity}, ${timeoutSeconds ?? "?"} s`;
  if (active) return ok(name, `${found}, armed`);
  return lacking("limited", name, `${found}, not armed`, effect, "set RuntimeWatchdogSec=30 in systemd's system.conf");
}

/** Hardware counters of the processor, else those of the kernel, else none. */
function counters(box: Box): Check {
  const name = "counters";
  const effect = "what the processor does cannot be counted";
  const sources = box.names("/sys/bus/event_source/devices");
  const paranoid = Number(box.text("/proc/sys/kernel/perf_event_paranoid") ?? "4");
  const privileged = hasCapability(box, capabilities.perfmon) || hasCapability(box, capabilities.sysAdmin);
  const found = `perf_event_paranoid ${paranoid}`;
  if (sources.length === 0) {
    return lacking("missing", name, "none: the kernel has no perf events", effect, null);
  }
  if (!privileged && paranoid > 2) {
    return lacking(
      "missing",
      name,
      `none: ${found} shuts out user ${box.userId}`,
      effect,
      "run as root, or set kernel.perf_event_paranoid to 2",
    );
  }
  const unit = sources.find((source) => /^(cpu|cpu_core|armv\d.*)$/.test(source));
  if (unit !== undefined) return ok(name, `hardware (${unit}), ${found}`);
  return lacking(
    "limited",
    name,
    `software: no counter unit of the processor is shown (usual in a virtual machine), ${found}`,
    "what the processor does cannot be counted; what the kernel does can",
    null,
  );
}

function pressure(box: Box): Check {
  if (box.text("/proc/pressure/memory") !== null) return ok("pressure", "stall times are shown");
  return lacking(
    "limited",
    "pressure",
    "no /proc/pressure",
    "memory pressure cannot be seen coming",
    "boot with psi=1",
  );
}

function controlGroups(box: Box): Check {
  const name = "control groups";
  const found = box.text("/sys/fs/cgroup/cgroup.controllers");
  if (found !== null) return ok(name, `version 2: ${found === "" ? "no controllers" : found}`);
  return lacking(
    "limited",
    name,
    "no version 2",
    "programs cannot be limited or ended as a group",
    "mount cgroup2 at /sys/fs/cgroup",
  );
}

function systemd(box: Box): Check {
  if (box.exists("/run/systemd/system")) return ok("systemd", "runs this machine");
  return lacking(
    "limited",
    "systemd",
    "does not run this machine",
    "no unit can restart the supervisor after its own death",
    "have your own init do it",
  );
}

function virtualMachines(box: Box): Check {
  const access = box.open("/dev/kvm");
  if (access === "ok") return ok("kvm", "/dev/kvm opens");
  const advice =
    access === "ENOENT"
      ? "switch virtualisation on in the firmware, or load the kvm module"
      : "join the group kvm, or run as root";
  return lacking(
    "missing",
    "kvm",
    `/dev/kvm: ${access}`,
    "guests cannot be run; native programs can be guarded",
    advice,
  );
}

function hypervisor(box: Box): Check {
  const name = "cloud-hypervisor";
  const path = box.find(name);
  const effect = "guests cannot be run; native programs can be guarded";
  if (path === null)
    return lacking(
      "missing",
      name,
      "not installed",
      effect,
      `put ${name} ${hypervisorVersionMin} or newer on the PATH`,
    );
  const line = box.versionOf(path) ?? "tells no version";
  const major = Number(/v?(\d+)\./.exec(line)?.[1] ?? "0");
  if (major >= hypervisorVersionMin) return ok(name, `${path}, ${line}`);
  return lacking(
    "limited",
    name,
    `${path}, ${line}`,
    "guests cannot be restored lazily",
    `install version ${hypervisorVersionMin} or newer`,
  );
}

function userFaults(box: Box): Check {
  const name = "userfaultfd";
  const setting = box.text("/proc/sys/vm/unprivileged_userfaultfd");
  if (setting === null) return lacking("missing", name, "not in this kernel", "guests cannot be restored lazily", null);
  if (setting === "1" || hasCapability(box, capabilities.sysPtrace) || box.open("/dev/userfaultfd") === "ok")
    return ok(name, "usable");
  return lacking("missing", name, "for privileged users only", "guests cannot be restored lazily", "run as root");
}

function sockets(box: Box): Check {
  if (box.exists("/dev/vhost-vsock")) return ok("vsock", "/dev/vhost-vsock");
  return lacking(
    "limited",
    "vsock",
    "no /dev/vhost-vsock",
    "guests are reached through the hypervisor's own socket only",
    "modprobe vhost_vsock",
  );
}
