// SPDX-License-Identifier: Apache-2.0
/**
 * An operator of a fleet, for tests: keys in files, believed by boxes through the real verb, and signed commands whose jobs
 * are followed to their end. Gets a folder and an observer; gives what came of each command.
 */
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import { type KeyPair, newKeyPair, privatePem } from "#telemetry/keys.ts";
import { signWish } from "#telemetry/operator.ts";
import { isFinal, type JobPayload, jobSchema, readPayload } from "#telemetry/payloads.ts";
import type { Observer } from "./observer.ts";

const main = join(import.meta.dir, "../../src/cli/main.ts");
const validSeconds = 60;

export type Said = { readonly code: number; readonly out: string; readonly error: string };

/** One verb in a process of its own. */
export async function holdfast(...words: readonly string[]): Promise<Said> {
  const child = Bun.spawn([process.execPath, main, ...words], { stdio: ["ignore", "pipe", "pipe"] });
  const [out, error] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  return { code: await child.exited, out, error };
}

export class Operator {
  readonly pair: KeyPair = newKeyPair();
  #counter = 0;

  constructor(private readonly observer: Observer) {}

  /** `holdfast keys add` on the box whose state that is; null: the whole box, as under `holdfast run`. */
  async believedBy(state: string, guard: string | null, use: string): Promise<Said> {
    const key = this.pair.public.raw.toHex();
    const where = guard === null ? [] : ["--name", guard];
    return await holdfast("keys", "add", key, "--as", use, "--label", use, "--state", state, ...where);
  }

  /** For a file, which only its owner may read. */
  get privatePem(): string {
    return privatePem(this.pair);
  }

  /** Signs, sends, and waits for the end of the job. */
  async ask(device: string, verb: string, ...words: readonly string[]): Promise<JobPayload> {
    const nowSeconds = Math.floor(systemClock.wallMs() / 1000);
    this.#counter += 1;
    const { id, bytes } = signWish({ device, verb, words, validSeconds }, this.pair, this.#counter, nowSeconds);
    await this.observer.publish(`holdfast/1/${device}/cmd/${verb}`, bytes);
    const topic = `holdfast/1/${device}/job/${id}`;
    return await this.observer.until(`the end of ${verb}`, (seen) => {
      const told = seen.filter((message) => message.topic === topic && message.payload.length > 0);
      return told.map(({ payload }) => readPayload(jobSchema, payload)).find((job) => isFinal(job.s));
    });
  }
}
