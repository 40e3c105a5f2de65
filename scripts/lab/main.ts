// SPDX-License-Identifier: Apache-2.0
/**
 * `bun scripts/lab.ts nested`: runs the nested lab and says what held. Exit code 0 where everything did.
 */

import { join } from "node:path";
import { parseArgs } from "node:util";
import { explain } from "#errors.ts";
import { missingTools, runNested } from "./nested.ts";
import type { LabArchitecture } from "./root.ts";

const usage = `usage: bun scripts/lab.ts nested [--arch x86_64|arm64] [--bun FILE] [--hypervisor FILE] [--cache DIR] [STEP…]

  A machine in QEMU's software emulation boots Holdfast, Cloud Hypervisor and a Debian guest. For a foreign architecture
  both binaries must be given. STEP: words of the names of steps, with - for spaces. Needs root, QEMU and mmdebstrap.`;

async function main(words: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: words,
    allowPositionals: true,
    options: {
      arch: { type: "string", default: process.arch === "arm64" ? "arm64" : "x86_64" },
      bun: { type: "string" },
      hypervisor: { type: "string" },
      cache: { type: "string", default: join(import.meta.dir, "../../.cache/lab") },
    },
  });
  const [kind, ...steps] = positionals;
  const architecture = values.arch as LabArchitecture;
  if (kind !== "nested" || !["x86_64", "arm64"].includes(architecture)) {
    console.error(usage);
    return 2;
  }
  const own = (process.arch === "arm64") === (architecture === "arm64");
  const bun = values.bun ?? (own ? process.execPath : null);
  const hypervisor = values.hypervisor ?? (own ? Bun.which("cloud-hypervisor") : null);
  const missing = [
    ...missingTools(architecture),
    ...(bun === null ? [`Bun for ${architecture} (--bun FILE)`] : []),
    ...(hypervisor === null ? [`Cloud Hypervisor for ${architecture} (--hypervisor FILE)`] : []),
  ];
  if (missing.length > 0) {
    console.error(`missing: ${missing.join(", ")}\n\n${usage}`);
    return 69;
  }
  const tell = (text: string): void => console.log(`lab ${architecture}: ${text}`);
  const held = await runNested({ architecture, bun: bun!, hypervisor: hypervisor!, cache: values.cache, steps, tell });
  return held.length > 0 && held.every(({ ok }) => ok) ? 0 : 1;
}

try {
  process.exit(await main(process.argv.slice(2)));
} catch (error) {
  console.error(`lab: ${explain(error)}`);
  process.exit(1);
}
