// SPDX-License-Identifier: Apache-2.0
/**
 * The nested lab as a test: Holdfast, Cloud Hypervisor and a real Debian guest in a machine in software. Ten minutes and
 * more for each architecture, so in the long form only; images are cached in .cache/lab.
 *
 * For a foreign architecture both binaries are named by HOLDFAST_LAB_BUN_ARM64 and HOLDFAST_LAB_HYPERVISOR_ARM64 (or X86_64).
 */
import { describe, expect } from "bun:test";
import { join } from "node:path";
import { missingTools, runNested } from "#scripts/lab/nested.ts";
import type { LabArchitecture } from "#scripts/lab/root.ts";
import { long, type Need, need, programPath, root } from "#tests/skip.ts";

const own: LabArchitecture = process.arch === "arm64" ? "arm64" : "x86_64";
const given = (what: string, architecture: LabArchitecture): string | null =>
  process.env[`HOLDFAST_LAB_${what}_${architecture.toUpperCase()}`] ?? null;
const bunFor = (architecture: LabArchitecture): string | null =>
  given("BUN", architecture) ?? (architecture === own ? process.execPath : null);
const hypervisorFor = (architecture: LabArchitecture): string | null =>
  given("HYPERVISOR", architecture) ?? (architecture === own ? programPath("cloud-hypervisor") : null);

const inFull: Need = () => (long("real") ? null : "the long form: ./scripts/test real");
const tools =
  (architecture: LabArchitecture): Need =>
  () => {
    const missing = missingTools(architecture);
    return missing.length === 0 ? null : `${missing.join(", ")}: apt-get install qemu-system mmdebstrap e2fsprogs kmod`;
  };
const binaries =
  (architecture: LabArchitecture): Need =>
  () =>
    bunFor(architecture) === null || hypervisorFor(architecture) === null
      ? `Bun and Cloud Hypervisor for ${architecture} (see the file's head)`
      : null;

describe("the nested lab", () => {
  for (const architecture of ["x86_64", "arm64"] as const) {
    const test = need(inFull, root, tools(architecture), binaries(architecture));
    test(
      `${architecture}: every step of the scenario holds`,
      async () => {
        const steps = await runNested({
          architecture,
          bun: bunFor(architecture)!,
          hypervisor: hypervisorFor(architecture)!,
          cache: join(import.meta.dir, "../../.cache/lab"),
          steps: [],
          tell: (text) => console.log(`lab ${architecture}: ${text}`),
        });
        expect(steps.length).toBeGreaterThan(0);
        expect(steps.filter(({ ok }) => !ok)).toEqual([]);
      },
      45 * 60_000,
    );
  }
});
