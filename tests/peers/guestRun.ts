// SPDX-License-Identifier: Apache-2.0
/**
 * Runs a configuration of guests inside the test: on the scripted hypervisor, or on the real one with the tiny guest.
 *
 * Gets TOML; gives the notices as they come and the supervisor's door. Closing it lets guests run on, as in life; what is
 * still there after `sweep` is killed and counted.
 */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ControlClient } from "#appliance/controlClient.ts";
import type { Notice } from "#appliance/notices.ts";
import { type RunOptions, runAppliance } from "#appliance/run.ts";
import { deadline, systemClock } from "#clock.ts";
import { readConfig } from "#config/load.ts";
import { assert, HypervisorError } from "#errors.ts";
import { silentLog } from "#log.ts";
import { findProcess, findStandbys } from "#vm/foundProcess.ts";
import { RunDirectory } from "#vm/runDirectory.ts";

const scripted = join(import.meta.dir, "hypervisorPeer.ts");
/** Far more than anything here takes, on a busy machine too. */
const patienceMs = 30_000;

export class Playground implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), "hf-"));
  readonly stateDirectory = join(this.path, "state");
  readonly runDirectory = join(this.path, "run");
  readonly #names = new Set<string>();

  directory(name: string): RunDirectory {
    this.#names.add(name);
    return new RunDirectory(join(this.runDirectory, "guests", name));
  }

  /** What the scripted hypervisor of this guest is to do, from its next start on. */
  script(name: string, script: object): void {
    const directory = this.directory(name);
    mkdirSync(directory.path, { recursive: true, mode: 0o700 });
    chmodSync(this.runDirectory, 0o700);
    writeFileSync(join(directory.path, "peer.json"), JSON.stringify(script));
  }

  processOf(name: string): number | null {
    return findProcess(this.directory(name))?.pid ?? null;
  }

  /** The process that stands by for this guest. */
  standbyOf(name: string): number | null {
    return findStandbys(this.directory(name))[0]?.pid ?? null;
  }

  /** Kills what is left; gives how many that were. */
  sweep(): number {
    const left = [...this.#names].flatMap((name) => {
      const standbys = findStandbys(this.directory(name)).map(({ pid }) => pid);
      return [this.processOf(name), ...standbys].filter((pid) => pid !== null);
    });
    for (const pid of left) process.kill(pid, "SIGKILL");
    return left.length;
  }

  [Symbol.dispose](): void {
    this.sweep();
    rmSync(this.path, { recursive: true, force: true });
  }
}

export type GuestRunOptions = {
  readonly real?: boolean | string;
  readonly stopGuests?: boolean;
  /** Cloud Hypervisor's, where it is not ours. */
  readonly user?: string;
  /** Another machine than this one. */
  readonly machine?: RunOptions["machine"];
};

export class GuestRun implements AsyncDisposable {
  readonly notices: Notice[] = [];
  readonly control: ControlClient;
  readonly #stop = new AbortController();
  readonly #ended: Promise<void>;
  #arrived = Promise.withResolvers<void>();

  constructor(
    playground: Playground,
    toml: string,
    { real = false, stopGuests = false, user, machine }: GuestRunOptions = {},
  ) {
    const program = typeof real === "string" ? real : real ? null : scripted;
    const owner = user === undefined ? "" : `user = "${user}"\n`;
    const reading = readConfig(program === null ? toml : `${toml}\n[hypervisor]\nprogram = "${program}"\n${owner}`);
    assert(reading.kind === "config", `bad configuration: ${JSON.stringify(reading)}`);
    for (const { name } of reading.config.guests) playground.directory(name);
    this.control = new ControlClient(playground.runDirectory);
    this.#ended = runAppliance({
      version: "0.0.0",
      config: reading.config,
      stateDirectory: playground.stateDirectory,
      runDirectory: playground.runDirectory,
      clock: systemClock,
      logFor: () => silentLog,
      form: "json",
      write: (line) => {
        this.notices.push(JSON.parse(line) as Notice);
        this.#arrived.resolve();
        this.#arrived = Promise.withResolvers<void>();
      },
      stop: this.#stop.signal,
      stopGuests,
      kvm: real !== false ? undefined : "/dev/null",
      machine,
    });
    this.#ended.catch(() => this.#arrived.resolve());
  }

  /** The first notice of this kind that was not asked for yet, with these fields. */
  async next(fields: Partial<Record<string, unknown>>): Promise<Notice> {
    const late = (): HypervisorError =>
      new HypervisorError("hypervisor.timeout", `no ${JSON.stringify(fields)} in ${JSON.stringify(this.notices)}`);
    using limit = deadline(patienceMs, late);
    const aborted = new Promise<never>((_, reject) => {
      limit.signal.addEventListener("abort", () => reject(limit.signal.reason), { once: true });
    });
    aborted.catch(() => {});
    for (;;) {
      const at = this.notices.findIndex((notice) => matches(notice, fields));
      if (at >= 0) return this.notices.splice(at, 1)[0]!;
      await Promise.race([this.#arrived.promise, aborted, this.#ended.then(() => aborted)]);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#ended;
  }
}

const matches = (notice: Notice, fields: Partial<Record<string, unknown>>): boolean =>
  Object.entries(fields).every(([key, value]) => (notice as Record<string, unknown>)[key] === value);
