// SPDX-License-Identifier: Apache-2.0
/**
 * `bun scripts/lab.ts …`: the lab, where Holdfast meets real hypervisors and guests. See scripts/lab/main.ts.
 */
import { join } from "node:path";

const child = Bun.spawn([process.execPath, join(import.meta.dir, "lab/main.ts"), ...process.argv.slice(2)], {
  stdio: ["inherit", "inherit", "inherit"],
});
process.exit(await child.exited);
