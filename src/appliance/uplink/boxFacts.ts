// SPDX-License-Identifier: Apache-2.0
/**
 * What this box is, for its birth: model, processor, system, boot. Gets nothing; gives facts. What cannot be read is "unknown":
 * a container shows little of its machine. Source: proc(5), os-release(5), the device tree's root node.
 */
import { readFileSync } from "node:fs";

export type StandingFacts = {
  readonly boot: string;
  readonly model: string;
  readonly soc: string;
  readonly arch: string;
  readonly os: string;
};

const unknown = "unknown";
const wordMax = 64;
const osMax = 128;

export function readStandingFacts(): StandingFacts {
  const model = read("/proc/device-tree/model") ?? read("/sys/class/dmi/id/product_name") ?? unknown;
  const compatible = read("/proc/device-tree/compatible")
    ?.split("\0")
    .filter((word) => word !== "")
    .at(-1);
  const processor = /^model name\s*:\s*(.+)$/m.exec(read("/proc/cpuinfo") ?? "")?.[1];
  const os = /^PRETTY_NAME="?([^"\n]*)"?$/m.exec(read("/etc/os-release") ?? "")?.[1];
  return {
    boot: (read("/proc/sys/kernel/random/boot_id") ?? unknown).trim(),
    model: clean(model, wordMax),
    soc: clean(compatible ?? processor ?? unknown, wordMax),
    arch: process.arch,
    os: clean(os ?? unknown, osMax),
  };
}

const clean = (text: string, most: number): string =>
  text
    .replace(/\p{Cc}/gu, " ")
    .trim()
    .slice(0, most) || unknown;

function read(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null; // Not on this machine, or not for us.
  }
}
