// SPDX-License-Identifier: Apache-2.0
/**
 * Updates of a box as its fleet asks for them and hears of them. Gets updates and telemetry; fetches bundles, ends jobs, gives
 * the words of birth and alarm, and keeps the state topic at maintenance while updates are held back.
 *
 *     update.install {url, sha256} ─▶ fetched to the data partition ─▶ hash ─▶ installed ─▶ restart ─▶ trial ─▶ job ends
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "#clock.ts";
import type { TelemetrySection } from "#config/telemetrySection.ts";
import { UpdateError } from "#errors.ts";
import type { AlarmFacts } from "#telemetry/box.ts";
import type { Telemetry } from "#telemetry/telemetry.ts";
import type { VerbJob } from "#verbs.ts";
import { fetchBundle } from "../update/fetchBundle.ts";
import type { Updates } from "../update/updates.ts";
import type { UpdateOrders } from "../verbs.ts";
import { readFile } from "./uplinkSettings.ts";

export type FleetUpdatesOptions = {
  readonly updates: Updates;
  readonly telemetry: Telemetry;
  readonly clock: Clock;
  readonly changed: () => void;
  readonly section: TelemetrySection;
};

const wordsMax = 200;
/** Of the way of a job: fetched, then written, then restarted and tried. */
const fetchedPercent = 30;
const writtenPercent = 60;

export class FleetUpdates implements UpdateOrders, Disposable {
  constructor(private readonly options: FleetUpdatesOptions) {
    const { updates, telemetry, changed } = options;
    updates.onEnd(({ job, why }) => {
      void telemetry.settle(job, why === null ? { kind: "succeeded" } : { kind: "failed", why });
    });
    updates.onChange(() => {
      this.#tellLock();
      changed();
    });
    this.#tellLock();
  }

  [Symbol.dispose](): void {
    this.options.updates.onChange(() => {});
    this.options.updates.onEnd(null);
  }

  get birthWords(): { readonly slot: string; readonly rollback?: string } {
    const { box, book } = this.options.updates;
    const back = book.lastRollback;
    return {
      slot: box.slot,
      ...(back === null ? {} : { rollback: `${back.version}: ${back.reason}`.slice(0, wordsMax) }),
    };
  }

  /** null where the last update did not come back. */
  get alarm(): AlarmFacts | null {
    const { box, book } = this.options.updates;
    const { phase, lastRollback } = book;
    if (lastRollback === null || phase.kind === "good") return null;
    const isRefused = book.refused.some(({ version }) => version === lastRollback.version);
    if (!isRefused) return null;
    return {
      ...{ sev: 3, cause: `version ${lastRollback.version} was sent back: ${lastRollback.reason}`.slice(0, wordsMax) },
      effect: `slot ${box.slot} runs version ${box.image.version}; ${lastRollback.version} is refused`,
      fix: `install a mended version, or let it try again: holdfast update clear ${lastRollback.version}`,
    };
  }

  hold(on: boolean, by: string, forMs: number | undefined): void {
    const { updates, clock } = this.options;
    if (on) updates.hold("maintenance", by, forMs === undefined ? null : clock.wallMs() + forMs);
    else updates.give({ kind: "lock", lock: null });
  }

  async install(job: VerbJob): Promise<void> {
    const { updates, section } = this.options;
    const { url, sha256 } = job.request.args as { url: string; sha256: string };
    const held = updates.lock;
    if (held !== null) throw new UpdateError("update.state", `updates are held back by ${held.by}: ${held.why}`);
    const { downloadDirectory } = updates.box;
    mkdirSync(downloadDirectory, { recursive: true, mode: 0o700 });
    const path = join(downloadDirectory, "bundle.raucb");
    const authority = section.authority === undefined ? undefined : readFile("authority", section.authority);
    await fetchBundle({ url, sha256, path, authority }, job.signal, (part) =>
      job.progress({ percent: part * fetchedPercent, step: "fetching the bundle" }),
    );
    job.progress({ percent: fetchedPercent, step: "checking the bundle" });
    const order = { path, olderToo: false, job: job.request.id, passing: true };
    await updates.install(order, job.signal, ({ percent, step }) =>
      job.progress({ percent: fetchedPercent + (percent / 100) * (writtenPercent - fetchedPercent), step }),
    );
  }

  rollback(by: string): void {
    this.options.updates.give({ kind: "back", by });
  }

  #tellLock(): void {
    this.options.telemetry.maintenance(this.options.updates.lock !== null);
  }
}
