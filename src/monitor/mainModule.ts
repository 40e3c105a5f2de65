// SPDX-License-Identifier: Apache-2.0
/**
 * Which program a process runs, as every box knows it. Gets its code map and the path of its executable where that is known;
 * gives file name and build-id. Without the path it is the module mapped lowest, which is where a program's own file lies.
 */
import { basename } from "node:path";
import type { CodeMap } from "#binary/codeMap.ts";

export type MainModule = { readonly program: string; readonly build: string };

export function mainModule({ modules }: Pick<CodeMap, "modules">, executable: string | null): MainModule {
  const module = modules.find(({ path }) => path === executable) ?? modules[0];
  return module === undefined
    ? { program: "", build: "" }
    : { program: basename(module.path).slice(0, 64), build: module.buildId };
}
