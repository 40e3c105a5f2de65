// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast.toml`: every setting, its unit, its limits and what it is when left out.
 *
 * Gets the parsed document; gives a Config. Unknown keys are errors. Options of a module have that module's type; here
 * they are composed. Times end in their unit; sizes are text with a letter (`512M`).
 */
import * as v from "valibot";
import { rungs } from "#fault.ts";
import type { GuestMachine } from "#vm/guestMachine.ts";
import { monitorSection } from "./monitorSection.ts";
import { telemetrySection } from "./telemetrySection.ts";
import { count, device, file, flag, hostName, listen, mac, name, probe, size, words } from "./values.ts";

const dayMs = 86_400_000;
/** Context ids 0 to 2 belong to the hypervisor, loopback and the host (vsock(7)). */
const firstGuestCid = 3;

export const stopSignals = ["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2"] as const;
export const restartPolicies = ["always", "onFailure", "onFault", "never"] as const;

/** When a workload that ended is started again, and how often. */
const restart = (usual: (typeof restartPolicies)[number]) =>
  v.strictObject({
    /**
     * `always`: also after it ended by itself. `onFailure`: after anything but an orderly end. `onFault`: only after a fault
     * of its own. `never`: it stays down.
     */
    policy: v.optional(v.picklist(restartPolicies, `wants ${restartPolicies.join(", ")}`), usual),
    /** Restarts within one window; one more and it stays down until somebody starts it. */
    attemptsMax: v.optional(count(1, 1_000), 5),
    windowMs: v.optional(count(1_000, dayMs), 600_000),
    /** Wait before the second restart in a window, doubled each time up to the second value. The first comes at once. */
    backoffMs: v.optional(count(10, dayMs), 1_000),
    backoffMsMax: v.optional(count(10, dayMs), 60_000),
    /** So long without a restart, and the waits begin anew. */
    quietMs: v.optional(count(10, dayMs), 120_000),
  });

/** What a probe is asked and when it counts. */
const probing = {
  probes: v.optional(v.array(probe), []),
  /** The first question comes so long after the start. */
  probeDelayMs: v.optional(count(0, dayMs), 0),
  probeEveryMs: v.optional(count(100, dayMs), 5_000),
  /** Failures in a row that make a fault. */
  probeFailuresMax: v.optional(count(1, 100), 3),
};

const rungsOff = v.optional(v.array(v.picklist(rungs, `wants names of rungs: ${rungs.join(", ")}`)), []);

/** Acts on faults within a window; beyond them the program ends by its own signal and is started again. */
const budget = v.strictObject({
  /** At one place of its code, and in all. */
  siteActsMax: v.optional(count(1, 1_000_000), 15_000),
  programActsMax: v.optional(count(1, 1_000_000), 20_000),
  windowMs: v.optional(count(1_000, dayMs), 60_000),
  /** Instructions completed by hand within an hour. */
  neutralisedMax: v.optional(count(0, 1_000), 8),
});

/** From when on a thread that burns its processor hangs; `"off"`: never. */
const hang = v.union(
  [
    v.literal("off"),
    v.strictObject({
      /** Processor time of one piece of work while others wait for the thread. */
      waitedMs: v.optional(count(500, dayMs), 10_000),
      /** The same while nobody waits. */
      unwaitedMs: v.optional(count(500, dayMs), 300_000),
    }),
  ],
  'wants "off", or times as in { waitedMs = 10000, unwaitedMs = 300000 }',
);

/** A program inside a guest: found there by its own name or by its unit. */
const guestProgram = v.strictObject({
  name,
  process: v.optional(v.pipe(v.string(), v.minLength(1), v.maxLength(64))),
  unit: v.optional(v.pipe(v.string(), v.endsWith(".service", "wants the name of a service unit"))),
  probes: probing.probes,
  rungsOff,
  budget: v.optional(budget, {}),
  hang: v.optional(hang, {}),
});

const disk = v.strictObject({
  path: file,
  readonly: v.optional(flag, false),
  direct: v.optional(flag, false),
  format: v.optional(v.picklist(["raw", "qcow2"], 'wants "raw" or "qcow2"'), "raw"),
});

const net = v.strictObject({ tap: v.optional(device), bridge: v.optional(device), mac: v.optional(mac) });

/** When checkpoints are taken by themselves, how many are kept, and how a guest comes back from one. */
const checkpoint = v.strictObject({
  /** False: only by hand. */
  automatic: v.optional(flag, true),
  /** Beside the one after each healthy start. */
  everyMs: v.optional(count(10_000, 30 * dayMs), 3_600_000),
  /** So long without a fault: a guest gets its first checkpoint, and a checkpoint counts as good. */
  healthyMs: v.optional(count(1_000, dayMs), 60_000),
  keep: v.optional(count(1, 1_000), 3),
  ageMsMax: v.optional(count(60_000, 365 * dayMs), 7 * dayMs),
  bytesMax: v.optional(size(1 << 20, "a size of at least 1M, such as 2G"), "4G"),
  /** A guest that would stand still for longer goes on without a checkpoint. */
  pauseMsMax: v.optional(count(1, 60_000), 250),
  /** Memory that can be written within this is all there before the guest runs. */
  eagerMsMax: v.optional(count(0, 60_000), 150),
  /** What it touched first the last time is written while Cloud Hypervisor starts, for so long at most. */
  prefetchMsMax: v.optional(count(0, 10_000), 100),
  /** A process waits beside the guest to take its place: up to 30 MiB for a restore that need not launch one. */
  standby: v.optional(flag, true),
});

const guest = v.strictObject({
  name,
  kernel: v.optional(file),
  firmware: v.optional(file),
  initramfs: v.optional(file),
  cmdline: v.optional(v.pipe(v.string(), v.maxLength(2_048, "wants at most 2048 characters"))),
  cpus: v.optional(count(1, 255), 1),
  memory: v.optional(size(16 << 20, "a size of at least 16M, such as 512M or 2G"), "512M"),
  /** Memory that a checkpoint reads in place: less work for it, and a longer stop for the guest. */
  shared: v.optional(flag, false),
  hugepages: v.optional(flag, false),
  disks: v.optional(v.array(disk), []),
  net: v.optional(v.array(net), []),
  /** A context id; true chooses one, false leaves it out. */
  vsock: v.optional(v.union([flag, count(firstGuestCid, 0xffff_fffe)]), true),
  serial: v.optional(flag, true),
  /** For guests with a driver for it, which Debian's kernel has not: on arm64 a device without one forbids checkpoints. */
  watchdog: v.optional(flag, false),
  pvpanic: v.optional(flag, true),
  /** Confines Cloud Hypervisor to the files of this guest. */
  landlock: v.optional(flag, true),
  /** Start it with `holdfast run`. */
  start: v.optional(flag, true),
  /** Guests and programs that are started first. */
  after: v.optional(v.array(name), []),
  /** Until its probes pass after a boot it is not judged by them, at most so long. */
  bootMs: v.optional(count(1_000, dayMs), 120_000),
  /** An orderly stop is given so long before it is ended. */
  stopMs: v.optional(count(100, dayMs), 30_000),
  restart: v.optional(restart("onFault"), {}),
  /** Left out: only by hand. */
  checkpoint: v.optional(checkpoint),
  ...probing,
  program: v.optional(v.array(guestProgram), []),
});

const program = v.strictObject({
  name,
  command: v.optional(words("a list of words, the program first")),
  unit: v.optional(v.pipe(v.string(), v.endsWith(".service", "wants the name of a service unit"))),
  /** As whom it runs; left out: as we do. `group` is otherwise the user's own. */
  user: v.optional(v.pipe(v.string(), v.minLength(1))),
  group: v.optional(v.pipe(v.string(), v.minLength(1))),
  directory: v.optional(file),
  /** Beside our own variables. */
  environment: v.optional(v.record(v.string(), v.string("wants text")), {}),
  /** Start it with `holdfast run`. */
  start: v.optional(flag, true),
  /** An orderly stop is given so long before it is ended. */
  stopMs: v.optional(count(100, dayMs), 10_000),
  /** By which it is asked to stop, where that is another one: PostgreSQL waits for its clients on SIGTERM. */
  stopSignal: v.optional(v.picklist(stopSignals, `wants ${stopSignals.join(", ")}`), "SIGTERM"),
  after: v.optional(v.array(name), []),
  restart: v.optional(restart("onFailure"), {}),
  ...probing,
  rungsOff,
  budget: v.optional(budget, {}),
  hang: v.optional(hang, {}),
});

/** The status page. Without this section there is none. */
const status = v.strictObject({
  /** `ADDRESS:PORT`, or `PORT` on loopback; `off` for none. Elsewhere than on loopback it is served by TLS only. */
  listen: v.optional(listen, "127.0.0.1:8443"),
  /** PEM files of the operator; left out, the box makes a certificate of its own. */
  certificate: v.optional(file),
  key: v.optional(file),
  tls: v.optional(flag, false),
  /** Names by which browsers may ask, beside the box's own. */
  hosts: v.optional(v.array(hostName), []),
  /** Answers /livez, /readyz and /metrics to others than loopback, without a login. */
  openHealth: v.optional(flag, false),
  /** A login ends after so long without a request. */
  idleMs: v.optional(count(180_000, dayMs), 1_800_000),
});

export const documentSchema = v.strictObject({
  /** Where records are kept, and where sockets are. Left out: as for every other verb. */
  state: v.optional(file),
  run: v.optional(file),
  hypervisor: v.optional(
    v.strictObject({
      /** Looked for on PATH where it is no path. */
      program: v.optional(v.pipe(v.string(), v.minLength(1)), "cloud-hypervisor"),
      /** Runs as this user, who must be able to open /dev/kvm. Left out: as ours. */
      user: v.optional(v.pipe(v.string(), v.minLength(1))),
    }),
    {},
  ),
  status: v.optional(status),
  telemetry: v.optional(telemetrySection),
  monitor: v.optional(monitorSection, {}),
  guest: v.optional(v.array(guest), []),
  program: v.optional(v.array(program), []),
});

type Document = v.InferOutput<typeof documentSchema>;
type GuestDocument = Document["guest"][number];

export type RestartPolicy = GuestDocument["restart"];
/** Of a program that is guarded from a command line. */
export const defaultRestart: RestartPolicy = v.parse(restart("onFault"), {});
export type CheckpointPolicy = v.InferOutput<typeof checkpoint>;
export type BudgetSection = v.InferOutput<typeof budget>;
export type HangSection = v.InferOutput<typeof hang>;
export type GuestProgram = GuestDocument["program"][number];
export type ProgramSection = Document["program"][number];
export type GuestSection = Pick<
  GuestDocument,
  "name" | "start" | "after" | "bootMs" | "stopMs" | "restart" | "probes" | "probeEveryMs" | "probeFailuresMax"
> & {
  readonly machine: GuestMachine;
  readonly programs: readonly GuestProgram[];
  readonly checkpoint: CheckpointPolicy;
};

export type StatusSection = NonNullable<Document["status"]>;
export type Config = Pick<Document, "state" | "run" | "hypervisor" | "telemetry" | "monitor"> & {
  /** null where there is to be no page. */
  readonly status: StatusSection | null;
  readonly guests: readonly GuestSection[];
  readonly programs: readonly ProgramSection[];
};

export function configOf(document: Document): Config {
  const { state, run, hypervisor, telemetry, monitor } = document;
  return {
    ...(state === undefined ? {} : { state }),
    ...(run === undefined ? {} : { run }),
    ...(telemetry === undefined ? {} : { telemetry }),
    hypervisor,
    monitor,
    status: document.status ?? null,
    guests: document.guest.map(guestOf),
    programs: document.program,
  };
}

function guestOf(section: GuestDocument): GuestSection {
  const { kernel, firmware, initramfs, cmdline, cpus, vsock, serial, watchdog, pvpanic, landlock, disks } = section;
  const machine: GuestMachine = {
    boot: kernel !== undefined ? { kernel } : { firmware: firmware! },
    initramfs: initramfs ?? null,
    cmdline: cmdline ?? null,
    cpus,
    memory: { bytes: section.memory, shared: section.shared, hugepages: section.hugepages },
    disks,
    net: section.net.map(({ tap, bridge, mac }) =>
      tap !== undefined
        ? { kind: "tap", tap, mac: mac ?? null }
        : { kind: "bridge", bridge: bridge!, mac: mac ?? null },
    ),
    vsock: vsock === true ? firstGuestCid : vsock === false ? null : vsock,
    serial,
    watchdog,
    pvpanic,
    landlock,
  };
  const { name, start, after, bootMs, stopMs, restart, probes, probeEveryMs, probeFailuresMax } = section;
  const policy: CheckpointPolicy = section.checkpoint ?? v.parse(checkpoint, { automatic: false });
  return {
    ...{ name, start, after, bootMs, stopMs, restart, probes, probeEveryMs, probeFailuresMax, machine },
    programs: section.program,
    checkpoint: policy,
  };
}
