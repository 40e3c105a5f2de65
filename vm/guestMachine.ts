// SPDX-License-Identifier: Apache-2.0
/**
 * What a guest is made of, in our words, and the same in Cloud Hypervisor's. Gets a GuestMachine and where its run
 * directory is; gives the VmConfig to create it with. Pure.
 *
 * Memory is never backed by transparent huge pages: restoring on demand crashes such a guest (issue 8663 of Cloud
 * Hypervisor). Landlock confines the process to its own files; the run directory stays writable, because a reboot binds
 * the vsock socket anew.
 */
import { basename } from "node:path";
import type { RunDirectory } from "./runDirectory.ts";
import type { DiskConfig, NetConfig, VmConfig } from "./vmConfig.ts";

export type GuestMachine = {
  /** What is booted: a kernel, or firmware that finds one on a disk. */
  readonly boot: { readonly kernel: string } | { readonly firmware: string };
  readonly initramfs: string | null;
  readonly cmdline: string | null;
  readonly cpus: number;
  readonly memory: {
    readonly bytes: number;
    /** Backed by a memory file that another process can map: checkpoints without copying need it. */
    readonly shared: boolean;
    readonly hugepages: boolean;
  };
  readonly disks: readonly GuestDisk[];
  readonly net: readonly GuestNet[];
  /** Context id of its vsock, or null for none. Guarding the programs inside needs it. */
  readonly vsock: number | null;
  readonly serial: boolean;
  readonly watchdog: boolean;
  readonly pvpanic: boolean;
  readonly landlock: boolean;
};

export type GuestDisk = {
  readonly path: string;
  readonly readonly: boolean;
  /** Past the host's page cache. */
  readonly direct: boolean;
  readonly format: "raw" | "qcow2";
};

/** `tap`: one that exists. `bridge`: a tap of our own, made and joined to this bridge for as long as the guest runs. */
export type GuestNet = { readonly mac: string | null } & (
  | { readonly kind: "tap"; readonly tap: string }
  | { readonly kind: "bridge"; readonly bridge: string }
);

/** A network card as the guest gets it. */
export type GuestCard = { readonly tap: string; readonly mac: string };

const imageTypes = { raw: "Raw", qcow2: "Qcow2" } as const;

export function vmConfigOf(machine: GuestMachine, directory: RunDirectory, cards: readonly GuestCard[]): VmConfig {
  const { boot, initramfs, cmdline, cpus, memory, vsock, landlock } = machine;
  return {
    payload: {
      ...boot,
      ...(initramfs === null ? {} : { initramfs }),
      ...(cmdline === null ? {} : { cmdline }),
    },
    cpus: { boot_vcpus: cpus, max_vcpus: cpus },
    memory: { size: memory.bytes, shared: memory.shared, hugepages: memory.hugepages, thp: false },
    ...(machine.disks.length === 0 ? {} : { disks: machine.disks.map(diskConfig) }),
    ...(cards.length === 0 ? {} : { net: cards.map(netConfig) }),
    ...(vsock === null ? {} : { vsock: { cid: vsock, socket: basename(directory.vsockSocket) } }),
    serial: machine.serial ? { mode: "Pty" } : { mode: "Off" },
    console: { mode: "Off" },
    watchdog: machine.watchdog,
    pvpanic: machine.pvpanic,
    ...(landlock ? { landlock_enable: true, landlock_rules: rulesFor(cards) } : {}),
  };
}

/** What v53.0 does not grant itself: it opens taps anew after it has confined itself, and reads their flags. */
function rulesFor(cards: readonly GuestCard[]): NonNullable<VmConfig["landlock_rules"]> {
  const taps = cards.map(({ tap }) => ({ path: `/sys/class/net/${tap}`, access: "r" as const }));
  const tun = cards.length === 0 ? [] : [{ path: "/dev/net/tun", access: "rw" as const }];
  return [{ path: ".", access: "rw" }, ...tun, ...taps];
}

const diskConfig = (disk: GuestDisk, index: number): DiskConfig => ({
  id: `disk${index}`,
  path: disk.path,
  readonly: disk.readonly,
  direct: disk.direct,
  image_type: imageTypes[disk.format],
});

const netConfig = ({ tap, mac }: GuestCard, index: number): NetConfig => ({ id: `net${index}`, tap, mac });

/**
 * An address of its own for each card, the same after every restart: locally administered, made from the guest's name.
 */
export function macOf(guest: string, index: number): string {
  const hash = Bun.hash.xxHash3(`${guest}/${index}`).toString(16).padStart(16, "0");
  const octets = hash.match(/../g)!.slice(0, 5);
  return ["02", ...octets].join(":");
}
