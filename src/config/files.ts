// SPDX-License-Identifier: Apache-2.0
/**
 * The files that a configuration names: which of them are not there. Gets the text and its Config; gives problems.
 *
 * Looks at this machine, unlike the rest of the configuration; a file may appear later, so running does not ask here.
 */
import { accessSync, constants } from "node:fs";
import type { Problem } from "./load.ts";
import type { Config } from "./schema.ts";
import { type KeyPath, lineOf } from "./tomlLines.ts";

export function missingFiles(text: string, config: Config): Problem[] {
  const named = config.guests.flatMap(({ machine }, index) => {
    const at = (...path: KeyPath): KeyPath => ["guest", index, ...path];
    const boot = "kernel" in machine.boot ? ["kernel", machine.boot.kernel] : ["firmware", machine.boot.firmware];
    return [
      { path: at(boot[0]!), file: boot[1]!, write: false },
      ...(machine.initramfs === null ? [] : [{ path: at("initramfs"), file: machine.initramfs, write: false }]),
      ...machine.disks.map(({ path, readonly }, disk) => ({ path: at("disks", disk), file: path, write: !readonly })),
    ];
  });
  return named.flatMap(({ path, file, write }) => {
    const trouble = troubleWith(file, write);
    return trouble === null ? [] : [{ code: "config.value", line: lineOf(text, path), key: "", text: trouble }];
  });
}

function troubleWith(file: string, write: boolean): string | null {
  try {
    accessSync(file, write ? constants.R_OK | constants.W_OK : constants.R_OK);
    return null;
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
    return missing ? `${file} is not there` : `${file} may not be ${write ? "written" : "read"}`;
  }
}
