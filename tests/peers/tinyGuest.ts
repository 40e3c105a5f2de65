// SPDX-License-Identifier: Apache-2.0
/**
 * Builds the tiny guest with gcc and ld, once a run of the tests, and says what tests with real guests need.
 */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert } from "#errors.ts";
import { device, type Need, processor, programPath } from "#tests/skip.ts";

/** Cloud Hypervisor on PATH: no package brings it, the operator supplies it. */
export const hypervisor: Need = () =>
  programPath("cloud-hypervisor") === null ? "cloud-hypervisor on PATH: the operator's binary, v52 or later" : null;

/** All that a real tiny guest needs. */
export const realGuest: readonly (string | Need)[] = [hypervisor, device("/dev/kvm"), processor("x64"), "gcc", "ld"];

let built: string | null = null;

/** A guest of holdfast.toml that boots it: keys of its own, and of its checkpoints, a line each. */
export function tinyGuestToml(keys: readonly string[], checkpoint: readonly string[] = [], name = "tiny"): string {
  const head = ["[[guest]]", `name = "${name}"`, `kernel = "${tinyGuest()}"`, ...keys];
  return [...head, ...(checkpoint.length === 0 ? [] : ["[guest.checkpoint]", ...checkpoint])].join("\n");
}

/** Path of the guest's ELF file. */
export function tinyGuest(): string {
  if (built !== null) return built;
  const directory = mkdtempSync(join(tmpdir(), "tiny-guest-"));
  const [object, file] = [join(directory, "guest.o"), join(directory, "guest.elf")];
  const run = (...command: string[]): void => {
    const { exitCode, stderr } = Bun.spawnSync(command);
    assert(exitCode === 0, `${command[0]} failed: ${stderr}`);
  };
  // A 64-bit object: the loader reads no other ELF class, though the code in it is 32-bit.
  run("gcc", "-c", join(import.meta.dir, "tinyGuest.S"), "-o", object);
  run("ld", "-n", "--no-warn-rwx-segments", "-T", join(import.meta.dir, "tinyGuest.ld"), object, "-o", file);
  built = file;
  return file;
}
