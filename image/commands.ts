// SPDX-License-Identifier: Apache-2.0
/**
 * Runs the tools that build an image. Gets words; gives their output, or an error with the end of what they said.
 */
import { HoldfastError } from "#errors.ts";

/** What a build, a start or a flash of an image could not do. */
export class ImageError extends HoldfastError<
  "image.tool" | "image.missing" | "image.input" | "image.layout" | "image.disk"
> {}

const saidMax = 2_000;
const fixed = { LC_ALL: "C", TZ: "UTC" };

export type RunOptions = {
  readonly directory?: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly input?: string;
};

/** @throws ImageError image.missing, image.tool */
export async function run(words: readonly string[], options: RunOptions = {}): Promise<string> {
  let child: Bun.Subprocess<"pipe", "pipe", "pipe">;
  try {
    child = Bun.spawn([...words], {
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, ...fixed, ...options.environment },
      ...(options.directory === undefined ? {} : { cwd: options.directory }),
    });
  } catch (cause) {
    throw new ImageError("image.missing", `${words[0]} cannot be run`, {}, cause);
  }
  child.stdin.write(options.input ?? "");
  await child.stdin.end();
  const [out, said, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  if (code === 0) return out;
  throw new ImageError("image.tool", `${words.slice(0, 4).join(" ")} ended with ${code}: ${said.slice(-saidMax)}`);
}
