// SPDX-License-Identifier: Apache-2.0
/**
 * A program of this checkout as one file of JavaScript, to be run where the checkout is not. Gets its path; gives its text.
 */
import { explain } from "#errors.ts";
import { LabError } from "./labError.ts";

/** @throws LabError lab.tool */
export async function bundled(entry: string): Promise<string> {
  const { success, outputs, logs } = await Bun.build({ entrypoints: [entry], target: "bun" });
  if (!success || outputs.length === 0) throw new LabError("lab.tool", `${entry}: ${logs.map(explain).join("; ")}`);
  return await outputs[0]!.text();
}
