// SPDX-License-Identifier: Apache-2.0
/**
 * How many of its descriptors this process uses. They are shared with the fault path, which must never want for one because
 * somebody opened thousands of connections to the page.
 *
 * The size of /proc/self/fd is their number since Linux 6.2; before, its entries are counted. Sources: proc(5).
 */
import { readdirSync, readFileSync, statSync } from "node:fs";

/** Where the kernel does not tell: what a service gets by default. */
const usualLimit = 1_024;

export function openDescriptors(): number {
  try {
    return statSync("/proc/self/fd").size || readdirSync("/proc/self/fd").length;
  } catch {
    return 0; // Without /proc nothing can be told, and the limit of the kernel stands alone.
  }
}

export function descriptorsMax(): number {
  try {
    const limits = readFileSync("/proc/self/limits", "utf8");
    return Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1] ?? usualLimit);
  } catch {
    return usualLimit;
  }
}
