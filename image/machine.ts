// SPDX-License-Identifier: Apache-2.0
/**
 * The machine that tries an image out: QEMU with firmware of its own, a watchdog and a network of forwarded ports.
 *
 * Gets a disk; gives the words that start it. In software where this machine has another processor, or no KVM for us:
 * expect half a minute to a few until the page answers. Source: QEMU 7.2, qemu-efi-aarch64 and ovmf of Debian 12.
 */
import { accessSync, constants, existsSync } from "node:fs";
import { ImageError } from "./commands.ts";
import type { ImageArchitecture } from "./packages.ts";

export type MachineOptions = {
  readonly architecture: ImageArchitecture;
  readonly disk: string;
  readonly memoryMiB: number;
  readonly processors: number;
  /** Port of this machine (loopback only) to port of the box. */
  readonly forwards: readonly (readonly [number, number])[];
  /** No KVM, also where there is one. */
  readonly isSoftware: boolean;
  /** Another block device in place of the file, as QEMU names it: for disks that fail on purpose. */
  readonly drive?: string;
  /** A kernel that is started at once, without firmware and boot loader. */
  readonly direct?: { readonly kernel: string; readonly initrd: string; readonly command: string };
  /** In software: the box's time goes by its instructions, so that it is never late because this machine is busy. */
  readonly ownTime?: boolean;
  /** In software: it can have guests of its own. */
  readonly hasGuests?: boolean;
  /** More words for QEMU. */
  readonly more?: readonly string[];
};

const machines = {
  arm64: {
    program: "qemu-system-aarch64",
    package: "qemu-system-arm",
    // `pauth-impdef` and `sve=off` keep the emulation cheap.
    soft: ["-M", "virt,gic-version=3", "-cpu", "max,pauth-impdef=on,sve=off"],
    native: ["-M", "virt,gic-version=host", "-cpu", "host", "-accel", "kvm"],
    firmware: "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd",
    firmwarePackage: "qemu-efi-aarch64",
  },
  x86_64: {
    program: "qemu-system-x86_64",
    package: "qemu-system-x86",
    soft: ["-M", "q35", "-cpu", "max"],
    native: ["-M", "q35", "-cpu", "host", "-accel", "kvm"],
    firmware: "/usr/share/ovmf/OVMF.fd",
    firmwarePackage: "ovmf",
  },
} as const;

/** What this machine lacks to run an image, each with its package. */
export function missingForMachine(architecture: ImageArchitecture): string[] {
  const { program, package: name, firmware, firmwarePackage } = machines[architecture];
  const lacks: string[] = [];
  if (Bun.which(program) === null) lacks.push(`${program} (apt-get install ${name})`);
  if (!existsSync(firmware)) lacks.push(`${firmware} (apt-get install ${firmwarePackage})`);
  return lacks;
}

/** Serial line and end of the machine are the process's own. @throws ImageError image.missing */
export function machineWords(options: MachineOptions): string[] {
  const { architecture, disk, memoryMiB, processors, forwards, direct } = options;
  const lacks = missingForMachine(architecture);
  if (lacks.length > 0) throw new ImageError("image.missing", `missing: ${lacks.join("; ")}`);
  const { program, soft, native, firmware } = machines[architecture];
  const ports = forwards.map(([from, to]) => `,hostfwd=tcp:127.0.0.1:${from}-:${to}`).join("");
  const start =
    direct === undefined
      ? ["-bios", firmware]
      : ["-kernel", direct.kernel, "-initrd", direct.initrd, "-append", direct.command];
  return [
    program,
    ...(!options.isSoftware && hasKvm(architecture) ? native : [...soft, ...emulation(options.ownTime === true)]),
    ...(options.hasGuests === true && architecture === "arm64" ? ["-machine", "virtualization=on"] : []),
    ...["-smp", String(processors), "-m", `${memoryMiB}M`, ...start],
    ...["-display", "none", "-monitor", "none", "-serial", "stdio"],
    ...["-drive", options.drive ?? `file=${disk},format=raw,if=none,id=disk,cache=writeback`],
    ...["-device", "virtio-blk-pci,drive=disk,bootindex=0"],
    ...["-netdev", `user,id=net${ports}`, "-device", "virtio-net-pci,netdev=net,romfile="],
    ...["-device", "virtio-rng-pci", "-device", "i6300esb", "-action", "watchdog=reset"],
    ...(options.more ?? []),
  ];
}

/** Nanoseconds of an instruction, as a power of two: about what the emulation does on a machine of today. */
const instructionShift = 2;

/** QEMU counts instructions in one thread only. */
const emulation = (ownTime: boolean): readonly string[] =>
  ownTime
    ? ["-accel", "tcg,thread=single", "-icount", `shift=${instructionShift},sleep=on`]
    : ["-accel", "tcg,thread=multi"];

function hasKvm(architecture: ImageArchitecture): boolean {
  if ((process.arch === "arm64") !== (architecture === "arm64")) return false;
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false; // Not here, or not for us: software does it as well, slower.
  }
}
