// SPDX-License-Identifier: Apache-2.0
/**
 * Runs the tools that build the lab. Gets words; gives their output, or an error with the end of what they said.
 */
import { HoldfastError } from "#errors.ts";

export class LabError extends HoldfastError<"lab.tool" | "lab.machine" | "lab.missing" | "lab.frozen"> {}

const saidMax = 2_000;

export async function run(words: readonly string[], directory?: string): Promise<string> {
  let child: Bun.Subprocess<"ignore", "pipe", "pipe">;
  try {
    const cwd = directory === undefined ? {} : { cwd: directory };
    child = Bun.spawn([...words], { stdio: ["ignore", "pipe", "pipe"], ...cwd });
  } catch (cause) {
    throw new LabError("lab.missing", `${words[0]} cannot be run; install it`, {}, cause);
  }
  const [out, error, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  if (code === 0) return out;
  throw new LabError("lab.tool", `${words.slice(0, 3).join(" ")} ended with ${code}: ${error.slice(-saidMax)}`);
}
