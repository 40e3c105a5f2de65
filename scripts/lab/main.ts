// SPDX-License-Identifier: Apache-2.0
/**
 * `bun scripts/lab.ts nested|native`: runs the nested lab, or tests of real programs on another processor, and says what
 * held. Exit code 0 where everything did.
 */

import { join } from "node:path";
import { parseArgs } from "node:util";
import { explain } from "#errors.ts";
import { missingForMachine } from "#image/machine.ts";
import { architectureOf, imageOf } from "#image/run.ts";
import { runAppliance } from "./appliance.ts";
import { applianceSteps } from "./applianceSteps.ts";
import { cutKinds, runCuts } from "./bootCuts.ts";
import { guestSteps } from "./guestStep.ts";
import { lifeSteps } from "./lifeSteps.ts";
import { nativeTests, runNative } from "./native.ts";
import { describeStep, missingTools, runNested } from "./nested.ts";
import type { LabArchitecture } from "./root.ts";
import type { Step } from "./scenario.ts";
import { updateSteps } from "./updateSteps.ts";

const usage = `usage: bun scripts/lab.ts nested [--arch x86_64|aarch64] [--bun FILE] [--hypervisor FILE] [--cache DIR] [STEP…]
       bun scripts/lab.ts appliance [--image FILE] [--scene DIR] [STEP…]
       bun scripts/lab.ts cuts [--image FILE] [--kind slot|ready|update|load] [--count N] [--first N] [--seed N]
                                   [--scene DIR] [--bundle FILE] [--lies]
       bun scripts/lab.ts native [--arch x86_64|aarch64] [--bun FILE] [--hypervisor FILE] [--cache DIR]
                                   [--set NAME=VALUE]… [TEST FILE | "BENCHMARK WORDS"]…

  nested: a machine in QEMU's software emulation boots Holdfast, Cloud Hypervisor and a Debian guest. STEP: words of the
  names of steps, with - for spaces. native: the same machine runs test files of this checkout (default: the engine's,
  on real programs) and benchmarks, with gdbserver, servers and compilers of its own. appliance: boots an image of
  image/build (default: the newest) and does to it what can happen to a box. cuts: takes its power at moments that the seed chooses, and boots it
  again. For a foreign architecture the binaries must be given. Needs root, QEMU and mmdebstrap.`;

type Values = {
  readonly arch: string;
  readonly bun?: string;
  readonly hypervisor?: string;
  readonly set?: string[];
  readonly image?: string;
  readonly kind: string;
  readonly count: string;
  readonly first: string;
  readonly seed: string;
  readonly scene?: string;
  readonly bundle?: string;
  readonly lies: boolean;
};

async function main(words: string[]): Promise<number> {
  const { values: given, positionals } = parseArgs({
    args: words,
    allowPositionals: true,
    options: {
      arch: { type: "string", default: process.arch === "arm64" ? "arm64" : "x86_64" },
      bun: { type: "string" },
      hypervisor: { type: "string" },
      set: { type: "string", multiple: true },
      image: { type: "string" },
      kind: { type: "string", default: "slot" },
      count: { type: "string", default: "10" },
      first: { type: "string", default: "1" },
      seed: { type: "string", default: "1" },
      scene: { type: "string" },
      bundle: { type: "string" },
      lies: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
      cache: { type: "string", default: join(import.meta.dir, "../../.cache/lab") },
    },
  });
  if (given.help) {
    console.log(usage);
    return 0;
  }
  const [kind, ...names] = positionals;
  // Debian and Bun say arm64, compilers and Cloud Hypervisor aarch64.
  const values = { ...given, arch: given.arch === "aarch64" ? "arm64" : given.arch };
  if (kind === "appliance") return await appliance(values, names);
  if (kind === "cuts") return await cuts(values);
  if ((kind !== "nested" && kind !== "native") || !["x86_64", "arm64"].includes(values.arch)) {
    console.error(usage);
    return 2;
  }
  return kind === "nested" ? await nested(values, values.cache, names) : await native(values, values.cache, names);
}

const isOwn = (architecture: LabArchitecture): boolean => (process.arch === "arm64") === (architecture === "arm64");

async function nested(values: Values, cache: string, steps: readonly string[]): Promise<number> {
  const architecture = values.arch as LabArchitecture;
  const bun = values.bun ?? (isOwn(architecture) ? process.execPath : null);
  const hypervisor = values.hypervisor ?? (isOwn(architecture) ? Bun.which("cloud-hypervisor") : null);
  const lacks = [...missing(architecture, bun)];
  if (hypervisor === null) lacks.push(`Cloud Hypervisor for ${architecture} (--hypervisor FILE)`);
  if (lacks.length > 0) return refuse(lacks);
  const tell = (text: string): void => console.log(`lab ${architecture}: ${text}`);
  const held = await runNested({ architecture, bun: bun!, hypervisor: hypervisor!, cache, steps, tell });
  return held.length > 0 && held.every(({ ok }) => ok) ? 0 : 1;
}

async function native(values: Values, cache: string, files: readonly string[]): Promise<number> {
  const architecture = values.arch as LabArchitecture;
  const bun = values.bun ?? (isOwn(architecture) ? process.execPath : null);
  const lacks = missing(architecture, bun);
  if (lacks.length > 0) return refuse(lacks);
  const tell = (text: string): void => console.log(`lab ${architecture}: ${text}`);
  const chosen = files.length > 0 ? files : nativeTests;
  const { hypervisor = null, set: settings = [] } = values;
  const run = { architecture, bun: bun!, hypervisor, cache, files: chosen, settings, tell };
  const { passed, failed, skipped } = await runNative(run);
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
  return passed > 0 && failed === 0 ? 0 : 1;
}

async function appliance(values: Values, words: readonly string[]): Promise<number> {
  const image = imageOf(values.image);
  const lacks = [
    ...missingForMachine(architectureOf(image)),
    ...(Bun.which("mcopy") === null ? ["mcopy (mtools)"] : []),
  ];
  if (lacks.length > 0) return refuse(lacks);
  const wanted = words.map((word) => word.replaceAll("-", " "));
  const chosen = [...applianceSteps, ...lifeSteps, ...updateSteps, ...guestSteps].filter(
    ({ name }) => wanted.length === 0 || wanted.some((word) => name.includes(word)),
  );
  const tell = (step: Step): void => console.log(`appliance: ${describeStep(step)}`);
  const { scene } = values;
  const note = (text: string): void => console.log(`appliance: ${text}`);
  const steps = await runAppliance({ image, steps: chosen, tell, note, ...(scene === undefined ? {} : { scene }) });
  const held = steps.filter(({ ok }) => ok).length;
  console.log(`${held} passed, ${steps.length - held} failed`);
  return held > 0 && held === steps.length ? 0 : 1;
}

async function cuts(values: Values): Promise<number> {
  const image = imageOf(values.image);
  const lacks = missingForMachine(architectureOf(image));
  if (lacks.length > 0) return refuse(lacks);
  const [count, first, seed] = [values.count, values.first, values.seed].map(Number) as [number, number, number];
  if (![count, first].every((number) => Number.isSafeInteger(number) && number > 0) || !Number.isSafeInteger(seed)) {
    return refuse(["--count and --first: whole numbers from 1 on; --seed: a whole number"]);
  }
  const tell = (text: string): void => console.log(`cuts: ${text}`);
  const kind = cutKinds.find((known) => known === values.kind);
  if (kind === undefined) return refuse([`--kind: one of ${cutKinds.join(", ")}`]);
  const { scene, bundle, lies } = values;
  const more = { ...(scene === undefined ? {} : { scene }), ...(bundle === undefined ? {} : { bundle }), lies };
  const held = await runCuts({ image, kind, count, first, seed, tell, ...more });
  console.log(`${held} passed, ${count - held} failed`);
  return held === count ? 0 : 1;
}

const missing = (architecture: LabArchitecture, bun: string | null): string[] => [
  ...missingTools(architecture),
  ...(bun === null ? [`Bun for ${architecture} (--bun FILE)`] : []),
];

function refuse(lacks: readonly string[]): number {
  console.error(`missing: ${lacks.join(", ")}\n\n${usage}`);
  return 69;
}

try {
  process.exit(await main(process.argv.slice(2)));
} catch (error) {
  console.error(`lab: ${explain(error)}`);
  process.exit(1);
}
