// SPDX-License-Identifier: Apache-2.0
/**
 * The machine of the lab: QEMU in software, with nested virtualisation for the guest. Gets images; gives the lines of its
 * console, and its end.
 *
 * Disks are never written: what it writes is thrown away when it ends. Now and then QEMU stops for good in the middle of a
 * nested guest, its processors idle (seen on x86-64, 1 run of 6): a machine silent for `silentMsMax` is ended. Source: measured on 2 cores with QEMU 7.2, both
 * architectures, kernels of Debian 12.
 */
import { appendFileSync } from "node:fs";
import { systemClock } from "#clock.ts";
import { LabError } from "./labError.ts";
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

/** The scenario says something every 20 s. */
export const silentMsMax = 180_000;
const heartbeatMs = 1_000;

/** Runs it; each line of its console is told. Resolves at its end. @throws LabError "lab.frozen" where it fell silent */
export async function runMachine(
  parts: MachineParts,
  tell: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const over = new AbortController();
  const frozen = new AbortController();
  let heardNs = systemClock.monotonicNs();
  const listen = async (): Promise<void> => {
    while (!over.signal.aborted) {
      await systemClock.sleep(heartbeatMs, over.signal).catch(() => {});
      if (systemClock.monotonicNs() - heardNs > silentMsMax * 1e6) frozen.abort();
    }
  };
  const child = Bun.spawn(wordsFor(parts), {
    stdio: ["ignore", "pipe", "pipe"],
    signal: AbortSignal.any([signal, frozen.signal]),
    killSignal: "SIGKILL",
  });
  const listening = listen();
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of child.stdout) {
    heardNs = systemClock.monotonicNs();
    const text = decoder.decode(bytes, { stream: true });
    appendFileSync(parts.logPath, text);
    const lines = (rest + text).split(/\r?\n/);
    rest = lines.pop()!;
    for (const line of lines) tell(line);
  }
  appendFileSync(parts.logPath, await child.stderr.text());
  await child.exited;
  over.abort();
  await listening;
  if (frozen.signal.aborted) throw new LabError("lab.frozen", `the machine has said nothing for ${silentMsMax} ms`);
}

function wordsFor({ architecture, kernel, initrd, disks }: MachineParts): string[] {
  const { program, options, console: terminal } = emulators[architecture];
  return [
    program,
    ...["-accel", "tcg,thread=multi", ...options, "-smp", "2", "-m", `${memoryMiB}M`],
    ...["-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot", "-nic", "none"],
    ...["-kernel", kernel, "-initrd", initrd, "-append", `console=${terminal} quiet panic=-1`],
    ...disks.flatMap((path, index) => [
      ...["-drive", `file=${path},format=raw,if=none,id=d${index},snapshot=on`],
      ...["-device", `virtio-blk-pci,drive=d${index}`],
    ]),
    ...["-device", "virtio-rng-pci"],
  ];
}
