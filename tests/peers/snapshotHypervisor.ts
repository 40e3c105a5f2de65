// SPDX-License-Identifier: Apache-2.0
/**
 * The real Cloud Hypervisor, started so that it can take snapshots on this host: with `--seccomp log` where it is dynamically
 * linked, and with the answer of nestedState.c where the host's KVM gives none. Gives the path of a program to run.
 */
import { chmodSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert } from "#errors.ts";
import { programPath } from "#tests/skip.ts";

let made: string | null = null;

export function snapshotHypervisor(): string {
  if (made !== null) return made;
  const directory = mkdtempSync(join(tmpdir(), "snapshot-hypervisor-"));
  chmodSync(directory, 0o755);
  const library = join(directory, "nestedState.so");
  const source = join(import.meta.dir, "nestedState.c");
  const { exitCode, stderr } = Bun.spawnSync(["gcc", "-shared", "-fPIC", "-O2", source, "-o", library, "-ldl"]);
  assert(exitCode === 0, `gcc failed: ${stderr}`);
  const script = join(directory, "cloud-hypervisor");
  const real = programPath("cloud-hypervisor");
  writeFileSync(script, `#!/bin/sh\nLD_PRELOAD=${library} exec ${real} --seccomp log "$@"\n`, { mode: 0o755 });
  made = script;
  return script;
}
