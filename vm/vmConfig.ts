// SPDX-License-Identifier: Apache-2.0
/**
 * Cloud Hypervisor's own JSON types, the parts that we send and read. Written out by hand.
 *
 * Source: `vmm/src/api/openapi/cloud-hypervisor.yaml` and `vmm/src/vm_config.rs`, v53.0. Sizes are bytes. Fields that
 * only a later version has are named in version.ts.
 */

export type VmConfig = {
  readonly payload: {
    readonly kernel?: string;
    readonly firmware?: string;
    readonly initramfs?: string;
    readonly cmdline?: string;
  };
  readonly cpus: { readonly boot_vcpus: number; readonly max_vcpus: number };
  readonly memory: {
    readonly size: number;
    readonly shared?: boolean;
    readonly hugepages?: boolean;
    readonly hugepage_size?: number;
    readonly thp?: boolean;
    /** v53: memory that the host cannot back is refused at boot. */
    readonly reserve?: boolean;
  };
  readonly disks?: readonly DiskConfig[];
  readonly net?: readonly NetConfig[];
  readonly rng?: { readonly src: string };
  readonly serial: ConsoleConfig;
  readonly console: ConsoleConfig;
  readonly vsock?: VsockConfig;
  readonly watchdog?: boolean;
  readonly pvpanic?: boolean;
  readonly landlock_enable?: boolean;
  readonly landlock_rules?: readonly { readonly path: string; readonly access: "r" | "rw" }[];
};

export type DiskConfig = {
  readonly id?: string;
  readonly path: string;
  readonly readonly?: boolean;
  readonly direct?: boolean;
  readonly image_type?: "Raw" | "Qcow2" | "FixedVhd" | "Vhdx";
};

export type NetConfig = { readonly id?: string; readonly tap: string; readonly mac?: string };

export type ConsoleConfig =
  | { readonly mode: "Off" | "Null" }
  | { readonly mode: "File"; readonly file: string }
  /** `file`: the terminal, as `vm.info` tells it. */
  | { readonly mode: "Pty"; readonly file?: string };

export type VsockConfig = { readonly id?: string; readonly cid: number; readonly socket: string };

/** What `vm.info` calls the state of a VM. */
export const reportedStates = ["Created", "Running", "Shutdown", "Paused", "BreakPoint"] as const;
export type ReportedState = (typeof reportedStates)[number];

export type VmReport = {
  readonly state: ReportedState;
  readonly config: VmConfig;
  readonly memoryActualBytes: number;
};

export type Ping = {
  /** Version of the package, `53.0.0`. */
  readonly version: string;
  /** What `git describe` said when it was built, `v53.0`; null where the peer does not say. */
  readonly buildVersion: string | null;
  readonly pid: number;
  readonly features: readonly string[];
};

/** Device to counter to value, counts since the device was made. */
export type VmCounters = Readonly<Record<string, Readonly<Record<string, number>>>>;

/** Where a device that was added now is. */
export type AddedDevice = { readonly id: string; readonly bdf: string };

export type Resize = {
  readonly desired_vcpus?: number;
  readonly desired_ram?: number;
  readonly desired_balloon?: number;
};

export type SendMigration = {
  readonly destination_url: string;
  readonly local?: boolean;
  readonly downtime_ms?: number;
  readonly timeout_s?: number;
  readonly timeout_strategy?: "Cancel" | "Ignore";
  readonly connections?: number;
  readonly memory_mode?: MigrationMode;
};

export type ReceiveMigration = { readonly receiver_url: string; readonly memory_mode?: MigrationMode };
export type MigrationMode = "Precopy" | "Postcopy";

export type Restore = {
  readonly source_url: string;
  readonly prefault?: boolean;
  readonly memory_restore_mode?: "Copy" | "OnDemand";
  readonly resume?: boolean;
};
