// SPDX-License-Identifier: Apache-2.0
/**
 * What we write to the disk, against a daily budget, and what the disk says of its own age. Gets /proc and /sys; gives
 * numbers, or null where the kernel does not tell.
 *
 * Source: `write_bytes` of /proc/PID/io (bytes this thread caused to be sent to the block layer); eMMC 5.0 DEVICE_LIFE_TIME
 * in tenths of life used, 1..11, and PRE_EOL_INFO 1 normal, 2 warning, 3 urgent, from the kernel's mmc block driver.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export type DeviceWear = {
  readonly device: string;
  /** Part of the rated life used, in percent, upper end of the step of ten; 110 is beyond it. */
  readonly lifeUsedPercent: number | null;
  readonly reserve: "normal" | "warning" | "urgent" | null;
};

const dayMs = 86_400_000;
const reserves = ["normal", "warning", "urgent"] as const;

/** Bytes that the calling thread has written so far; null where the kernel does not count. */
export function threadBytesWritten(): number | null {
  return parseWriteBytes(readText("/proc/thread-self/io"));
}

export function parseWriteBytes(text: string | null): number | null {
  const match = /^write_bytes: (\d+)$/m.exec(text ?? "");
  return match === null ? null : Number(match[1]);
}

/** What each eMMC device below `root` says. */
export function readDeviceWear(root = "/sys/block"): DeviceWear[] {
  if (!existsSync(root)) return [];
  return readdirSync(root)
    .filter((name) => /^mmcblk\d+$/.test(name))
    .map((device) => {
      const lives = (readText(join(root, device, "device/life_time")) ?? "").match(/0x[0-9a-f]+/gi) ?? [];
      const used = Math.max(0, ...lives.map(Number));
      const reserve = Number(readText(join(root, device, "device/pre_eol_info")) ?? 0);
      return { device, lifeUsedPercent: used === 0 ? null : used * 10, reserve: reserves[reserve - 1] ?? null };
    });
}

/** Bytes written today, and of them for history. A new day (UTC) starts at zero. */
export class WearCount {
  #day = 0;
  #bytes = 0;
  #historyBytes = 0;

  constructor(saved: { day: number; bytes: number; historyBytes: number } | null = null) {
    if (saved === null) return;
    this.#day = saved.day;
    this.#bytes = saved.bytes;
    this.#historyBytes = saved.historyBytes;
  }

  add(atMs: number, bytes: number, historyBytes: number): void {
    const day = Math.floor(atMs / dayMs);
    if (day !== this.#day) {
      this.#day = day;
      this.#bytes = 0;
      this.#historyBytes = 0;
    }
    this.#bytes += bytes;
    this.#historyBytes += historyBytes;
  }

  get today(): { day: number; bytes: number; historyBytes: number } {
    return { day: this.#day, bytes: this.#bytes, historyBytes: this.#historyBytes };
  }
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, "latin1");
  } catch {
    // Not every kernel has the file; the caller shows that it is not known.
    return null;
  }
}
