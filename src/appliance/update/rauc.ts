// SPDX-License-Identifier: Apache-2.0
/**
 * RAUC, which knows bundles and writes them into slots. Gets a bundle's path; gives what is in it once its signature holds,
 * and installs it into the slot that does not run.
 *
 *     inspect: rauc info --output-format=json     signature against the box's keys, then the manifest
 *     install: rauc install                       through its service; lines "NN% what" as it goes
 *
 * Limits: `inspectMsMax`, `installMsMax`, `wordsMax` of what it says. Source: rauc(1) of 1.8 and 1.13, run by us.
 */
import { existsSync } from "node:fs";
import * as v from "valibot";
import { deadline } from "#clock.ts";
import { UpdateError } from "#errors.ts";
import { isVersion } from "./updateBook.ts";
import { checkPayload } from "./verityTree.ts";

const inspectMsMax = 120_000;
const installMsMax = 3_000_000;
const wordsMax = 64 * 1024;

export type BundleFacts = { readonly version: string; readonly compatible: string };
export type InstallProgress = (percent: number, step: string) => void;

/** What updates need of a tool. */
export interface UpdateTool {
  /** @throws UpdateError update.signature, update.bundle, update.tool */
  inspect(path: string): Promise<BundleFacts>;
  /** Reads all of it. @throws UpdateError update.bundle where the content is not what was signed */
  checkWhole(path: string, signal: AbortSignal): Promise<void>;
  /** @throws UpdateError update.install, update.tool */
  install(path: string, progress: InstallProgress): Promise<void>;
}

const manifestSchema = v.object({ version: v.pipe(v.string(), v.check(isVersion)), compatible: v.string() });

export class Rauc implements UpdateTool {
  constructor(
    private readonly config: string,
    private readonly program: readonly string[] = ["rauc"],
  ) {}

  async inspect(path: string): Promise<BundleFacts> {
    if (!existsSync(path)) throw new UpdateError("update.bundle", `there is no bundle ${path}`);
    const { code, out, said } = await this.#run(["info", "--output-format=json", path], inspectMsMax, () => {});
    if (code !== 0) {
      const why = lastWords(said);
      if (/signature|certificate|CMS|verif/i.test(why) && !/bundle format/i.test(why)) {
        throw new UpdateError("update.signature", `the bundle is not signed by a key that this box trusts: ${why}`);
      }
      throw new UpdateError("update.bundle", `this is no whole update bundle: ${why}`);
    }
    const line = out.split("\n").findLast((each) => each.startsWith("{"));
    const manifest = v.safeParse(manifestSchema, parseJson(line));
    if (!manifest.success) throw new UpdateError("update.bundle", "the bundle's manifest names no version");
    return manifest.output;
  }

  checkWhole = checkPayload;

  async install(path: string, progress: InstallProgress): Promise<void> {
    const { code, out, said } = await this.#run(["install", path], installMsMax, (line) => {
      const step = /^\s*(\d{1,3})% (.+)$/.exec(line);
      if (step !== null) progress(Number(step[1]), step[2]!.trim());
    });
    if (code === 0) return;
    const why = /^LastError: (.+)$/m.exec(out)?.[1] ?? lastWords(said);
    throw new UpdateError("update.install", `the bundle could not be written: ${why}`);
  }

  async #run(
    words: readonly string[],
    msMax: number,
    heard: (line: string) => void,
  ): Promise<{ code: number; out: string; said: string }> {
    using late = deadline(
      msMax,
      () => new UpdateError("update.tool", `rauc ${words[0]} is not done after ${msMax} ms`),
    );
    const command = [...this.program, "-c", this.config, ...words];
    let child: Bun.Subprocess<"ignore", "pipe", "pipe">;
    try {
      child = Bun.spawn(command, { stdio: ["ignore", "pipe", "pipe"], signal: late.signal });
    } catch (cause) {
      throw new UpdateError("update.tool", "rauc cannot be run: apt-get install rauc", {}, cause);
    }
    const said = child.stderr.text();
    let [out, rest] = ["", ""];
    const decoder = new TextDecoder();
    for await (const chunk of child.stdout) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split(/[\r\n]/);
      rest = lines.pop() ?? "";
      for (const line of lines) heard(line);
      out = (out + lines.map((line) => `${line}\n`).join("")).slice(-wordsMax);
    }
    const code = await child.exited;
    late.signal.throwIfAborted();
    return { code, out: out + rest, said: (await said).slice(-wordsMax) };
  }
}

/** The last line that is no report of what it does. */
const lastWords = (said: string): string =>
  said
    .split("\n")
    .map((line) => line.trim())
    .findLast((line) => line !== "" && !/^rauc-Message|^[0-9A-F]{8,}:error/.test(line)) ?? "it does not say why";

function parseJson(line: string | undefined): unknown {
  try {
    return JSON.parse(line ?? "null");
  } catch {
    return null; // Whoever asks finds no manifest.
  }
}
