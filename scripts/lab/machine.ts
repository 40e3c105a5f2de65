// SPDX-License-Identifier: Apache-2.0
/**
 * The machine of the lab: QEMU in software, with nested virtualisation for the guest. Gets images; gives the lines of its
 * console, and its end.
 *
 * Disks are never written: what it writes is thrown away when it ends. Source: measured on 2 cores with QEMU 7.2, both
 * architectures, kernels of Debian 12.
 */
import { appendFileSync } from "node:fs";
import type { LabArchitecture } from "./root.ts";

export type MachineParts = {
  readonly architecture: LabArchitecture;
  readonly kernel: string;
  readonly initrd: string;
  readonly disks: readonly string[];
  /** Everything that its console says. */
  readonly logPath: string;
};

const memoryMiB = 2_500;
/** `pauth-impdef` and `sve=off` keep the emulation of AArch64 cheap. */
const emulators = {
  x86_64: { program: "qemu-system-x86_64", options: ["-cpu", "max"], console: "ttyS0" },
  arm64: {
    program: "qemu-system-aarch64",
    options: ["-M", "virt,virtualization=on,gic-version=3", "-cpu", "max,pauth-impdef=on,sve=off"],
    console: "ttyAMA0",
  },
} as const;

export const emulatorOf = (architecture: LabArchitecture): string => emulators[architecture].program;

/** Runs it; each line of its console is told. Resolves at its end. */
export async function runMachine(
  parts: MachineParts,
  tell: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const { program, options, console: terminal } = emulators[parts.architecture];
  const words = [
    program,
    ...["-accel", "tcg,thread=multi", ...options, "-smp", "2", "-m", `${memoryMiB}M`],
    ...["-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot", "-nic", "none"],
    ...["-kernel", parts.kernel, "-initrd", parts.initrd, "-append", `console=${terminal} quiet panic=-1`],
    ...parts.disks.flatMap((path, index) => [
      ...["-drive", `file=${path},format=raw,if=none,id=d${index},snapshot=on`],
      ...["-device", `virtio-blk-pci,drive=d${index}`],
    ]),
    ...["-device", "virtio-rng-pci"],
  ];
  const child = Bun.spawn(words, { stdio: ["ignore", "pipe", "pipe"], signal, killSignal: "SIGKILL" });
  let rest = "";
  const decoder = new TextDecoder();
  for await (const bytes of child.stdout) {
    const text = decoder.decode(bytes, { stream: true });
    appendFileSync(parts.logPath, text);
    const lines = (rest + text).split(/\r?\n/);
    rest = lines.pop()!;
    for (const line of lines) tell(line);
  }
  const said = await child.stderr.text();
  if (said !== "") appendFileSync(parts.logPath, said);
  await child.exited;
}
