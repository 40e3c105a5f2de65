// SPDX-License-Identifier: Apache-2.0
/**
 * What the monitor sees of the box and of each workload, as plain data: health, counters, detections, the flight record.
 *
 * Filled by `monitor`, kept by `storage`, shown by `status`, `cli` and `telemetry`. What cannot be seen is a value too: it
 * says why, and which setting would allow it. A missing number is never 0.
 */

/** Something that cannot be seen here. `advice` is the setting that would allow it, "" where nothing would. */
export type Absent = { readonly kind: "absent"; readonly why: string; readonly advice: string };
export type Seen<Value> = { readonly kind: "seen"; readonly value: Value } | Absent;

export const seen = <Value>(value: Value): Seen<Value> => ({ kind: "seen", value });
export const absent = (why: string, advice = ""): Absent => ({ kind: "absent", why, advice });
export const seenOr = <Value, Other>(seen: Seen<Value>, otherwise: Other): Value | Other =>
  seen.kind === "seen" ? seen.value : otherwise;

/** Share of time, 0..1, in which tasks waited for a resource. `some`: at least one of them, `full`: all of them. */
export type PressureLine = {
  readonly over10s: number;
  readonly over60s: number;
  readonly over300s: number;
  /** Total of such time since boot. */
  readonly stalledSeconds: number;
};
export type Pressure = { readonly some: PressureLine; readonly full: PressureLine | null };
export const pressureResources = ["cpu", "memory", "io"] as const;
export type PressureResource = (typeof pressureResources)[number];
export type Pressures = Readonly<Record<PressureResource, Pressure | null>>;

export type MemoryHealth = {
  readonly totalBytes: number;
  readonly availableBytes: number;
  readonly swapTotalBytes: number;
  readonly swapFreeBytes: number;
};
export type ZoneTemperature = {
  readonly zone: string;
  readonly celsius: number;
  readonly criticalCelsius: number | null;
};
export type Throttling = {
  /** Times that processors were slowed for heat since boot; null where the processor does not count them. */
  readonly times: number | null;
  /** Cooling devices that are at work now. */
  readonly cooling: readonly { readonly device: string; readonly state: number; readonly stateMax: number }[];
};
export type DiskSpace = { readonly mount: string; readonly totalBytes: number; readonly freeBytes: number };
export type FlashLife = {
  readonly device: string;
  readonly kind: "emmc" | "nvme";
  /** Share of its life that is used up, 0..1 and more; the worse one of two kinds of cells. */
  readonly usedRatio: number;
  /** eMMC: how much of the spare blocks is used; NVMe: spare below its threshold is urgent. */
  readonly spare: "normal" | "warning" | "urgent" | "unknown";
};
export type ClockState = {
  readonly synced: boolean;
  readonly offsetSeconds: number;
  /** The kernel's bound of the error. */
  readonly errorSecondsMax: number;
};
export type NetworkLink = {
  readonly name: string;
  readonly up: boolean;
  readonly megabitsPerSecond: number | null;
  readonly receivedBytes: number;
  readonly sentBytes: number;
  readonly errors: number;
  readonly dropped: number;
};

/** The box at one time. */
export type HostHealth = {
  readonly atMs: number;
  readonly processors: number;
  /** Time of all processors since boot: all of it, and what was not idle. */
  readonly processorSeconds: number;
  readonly busySeconds: number;
  readonly pressure: Seen<Pressures>;
  readonly memory: Seen<MemoryHealth>;
  readonly temperatures: Seen<readonly ZoneTemperature[]>;
  readonly throttling: Seen<Throttling>;
  readonly disks: readonly DiskSpace[];
  readonly flash: Seen<readonly FlashLife[]>;
  readonly clock: Seen<ClockState>;
  readonly links: readonly NetworkLink[];
};

/** A control group (version 2) as the kernel accounts it. Numbers that its controllers do not give are null. */
export type ControlGroupHealth = {
  readonly path: string;
  readonly memoryBytes: number | null;
  readonly memoryBytesMax: number | null;
  readonly oomKills: number | null;
  readonly cpuSeconds: number | null;
  readonly throttledSeconds: number | null;
  readonly tasks: number | null;
  readonly pressure: Pressures;
};

/** One process of a workload: the program itself, or the hypervisor of a guest. Totals are since its start. */
export type ProcessHealth = {
  readonly pid: number;
  readonly state: string;
  readonly cpuSeconds: number;
  readonly minorFaults: number;
  readonly majorFaults: number;
  readonly residentBytes: number;
  readonly threads: number;
  /** null where they may not be counted. */
  readonly openFiles: number | null;
  readonly openFilesMax: number | null;
  /** Bytes through read, write and their kin, sockets among them (but not recv and send). */
  readonly ioBytes: number | null;
};

export type ProbeState = {
  readonly probe: string;
  /** `waiting`: within its initial delay, or not asked yet. */
  readonly state: "waiting" | "passing" | "failing";
  readonly failuresInRow: number;
  readonly failures: number;
  readonly lastMs: number | null;
  readonly why: string | null;
  /** How long the last answer took. */
  readonly answerMs: number | null;
};

/** A robust slope of a quantity with its confidence interval. */
export type Trend = {
  readonly perHour: number;
  readonly perHourMin: number;
  readonly perHourMax: number;
  readonly points: number;
};

export type WorkloadHealth = {
  readonly workload: string;
  readonly kind: "program" | "guest";
  readonly atMs: number;
  readonly process: Seen<ProcessHealth>;
  readonly controlGroup: Seen<ControlGroupHealth>;
  readonly probes: readonly ProbeState[];
  /** Of the resident bytes; absent until there is half an hour of them. */
  readonly leak: Seen<Trend>;
};

/** The events that are counted. `kvm_exits` on the threads of virtual processors only. */
export const counterEvents = [
  "cycles",
  "instructions",
  "cache_misses",
  "branch_misses",
  "stalled_frontend",
  "stalled_backend",
  "task_clock",
  "page_faults",
  "major_faults",
  "context_switches",
  "migrations",
  "kvm_exits",
] as const;
export type CounterEvent = (typeof counterEvents)[number];

export type CounterAbility = {
  readonly event: CounterEvent;
  /** Cluster of a big.LITTLE processor (its PMU's name), "" where all processors are alike. */
  readonly cluster: string;
  readonly state: Seen<"user" | "user and kernel">;
};
export type CounterAbilities = {
  /** `software`: the kernel's own events only. */
  readonly kind: "hardware" | "software" | "none";
  /** Why it is not more; "" for `hardware`. */
  readonly why: string;
  readonly advice: string;
  readonly events: readonly CounterAbility[];
};

/** One event of one workload, all threads together. */
export type CounterReading = {
  readonly event: CounterEvent;
  readonly cluster: string;
  /** Events (`task_clock`: ns) since counting began, scaled by the running ratio; null where it was never on hardware. */
  readonly total: number | null;
  /** Share of time that the event was on hardware, 0..1. */
  readonly runningRatio: number;
};
export type WorkloadCounters = {
  readonly workload: string;
  readonly atMs: number;
  readonly threads: number;
  readonly readings: readonly CounterReading[];
  /** Exits of the guest's virtual processors, by the kernel's statistics; absent for programs. */
  readonly exits: Seen<Readonly<Record<string, number>>>;
};

export const detectorNames = [
  "hang",
  "livelock",
  "thrash",
  "exitStorm",
  "faultStorm",
  "leak",
  "pressure",
  "probeFailing",
  "clockJump",
] as const;
export type DetectorName = (typeof detectorNames)[number];

/** A trouble that a detector has found, or the end of one. */
export type Detection = {
  readonly detector: DetectorName;
  readonly workload: string;
  readonly kind: "raised" | "cleared";
  readonly atMs: number;
  /** Since when, as far as the window shows. */
  readonly sinceMs: number;
  /** One sentence for a person. */
  readonly text: string;
  /** The numbers it was found by, and the limits they were held against. */
  readonly evidence: Readonly<Record<string, number | string>>;
};

/** One curve of a flight record. `values[i]` belongs to `times[i]` of the record; null is a gap. */
export type FlightCurve = {
  readonly name: string;
  readonly unit: "" | "/" | "B" | "1/s" | "s";
  readonly values: readonly (number | null)[];
};
export type FlightMark = { readonly atMs: number; readonly text: string };
/** The last minute around a fault. */
export type FlightRecord = {
  readonly fault: string;
  readonly workload: string;
  readonly faultMs: number;
  /** Wall clock of each point, rising. */
  readonly times: readonly number[];
  readonly curves: readonly FlightCurve[];
  /** What happened in that minute: faults, outcomes, detections. */
  readonly marks: readonly FlightMark[];
};

/** Everything that the monitor sees at one time: what `holdfast top` and the page show. */
export type MonitorView = {
  readonly atMs: number;
  readonly host: HostHealth | null;
  /** The look before that one, some seconds older, for rates. */
  readonly hostBefore?: HostHealth | null;
  readonly counters: CounterAbilities;
  readonly workloads: readonly {
    readonly health: WorkloadHealth;
    readonly counters: WorkloadCounters | null;
    readonly faults: number;
    /** Of the last minute: process time used, 0..1 a processor. */
    readonly processorShare: readonly (number | null)[];
  }[];
  /** Raised and not cleared. */
  readonly detections: readonly Detection[];
};
