// SPDX-License-Identifier: Apache-2.0
/**
 * A scratch directory in memory for the rings of a test: a supervisor that is killed leaves its ring behind, and the test
 * removes it with the directory. Elsewhere than in memory the ring would go to shared memory, beyond the test's reach.
 */
import { existsSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const sharedMemory = "/dev/shm";

export const memoryScratch = (name: string): string =>
  mkdtempSync(join(existsSync(sharedMemory) ? sharedMemory : tmpdir(), `holdfast-${name}-`));
