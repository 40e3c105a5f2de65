// SPDX-License-Identifier: Apache-2.0
/**
 * Our link in the chain of watchdogs: hardware watches init, init watches us, we watch the workloads. Gets the environment and
 * checks; says READY when told to, and WATCHDOG from the main loop as long as every check passes.
 *
 *     READY=1 ─▶ every third of WatchdogSec: checks pass? ─yes─▶ WATCHDOG=1
 *                                            └─no─▶ STATUS= what is wrong; init restarts us when its patience ends
 *
 * A restart costs the workloads nothing. Without NOTIFY_SOCKET (no service manager, or Type= is not notify) nothing is said.
 * Source: sd_notify(3), sd_watchdog_enabled(3).
 */
import { NotifySocket } from "#board/native/notifySocket.ts";
import type { Clock } from "#clock.ts";
import type { Log } from "#log.ts";

/** Pings within one WatchdogSec. */
const pingsPerPeriod = 3;
const statusLengthMax = 200;

/** What is wrong, or null. Called from the main loop; must be quick. */
export type ServiceCheck = { readonly name: string; readonly check: () => string | null };

export type ServiceOptions = {
  /** The words of the service manager are taken out of it. */
  readonly environment: Record<string, string | undefined>;
  readonly pid: number;
  readonly checks: readonly ServiceCheck[];
  readonly clock: Clock;
  readonly log: Log;
};

export class ServiceChain implements Disposable {
  readonly #options: ServiceOptions;
  readonly #socket: NotifySocket | null;
  /** WatchdogSec; null where the service manager does not watch us. */
  readonly #periodMs: number | null;
  #ready = false;
  #wrong: string | null = null;

  constructor(options: ServiceOptions) {
    this.#options = options;
    const { environment, log } = options;
    this.#socket = openSocket(environment.NOTIFY_SOCKET, log);
    this.#periodMs = periodOf(options);
    // A program that we start must not speak in our name.
    for (const name of ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"]) delete environment[name];
  }

  /** What keeps the pings back now; null where nothing does. */
  get wrong(): string | null {
    return this.#wrong;
  }

  /** All that was asked for has begun. Only the first call counts. */
  ready(): void {
    if (this.#ready) return;
    this.#ready = true;
    this.#say(`READY=1\nMAINPID=${this.#options.pid}`);
  }

  /** Pings while the checks pass, until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    if (this.#socket === null || this.#periodMs === null) return;
    while (!signal.aborted) {
      this.ping();
      await clock.sleep(this.#periodMs / pingsPerPeriod, signal).catch(() => {});
    }
  }

  /** One round: pings where every check passes, else says what does not. */
  ping(): void {
    const { checks, log } = this.#options;
    const found = checks.flatMap(({ name, check }) => {
      const trouble = check();
      return trouble === null ? [] : [`${name}: ${trouble}`];
    });
    const wrong = found.length === 0 ? null : found.join("; ").replaceAll(/\s+/g, " ").slice(0, statusLengthMax);
    if (wrong === null) this.#say(this.#wrong === null ? "WATCHDOG=1" : "WATCHDOG=1\nSTATUS=well again");
    else this.#say(`STATUS=no watchdog ping: ${wrong}`);
    if (wrong !== this.#wrong) log(wrong === null ? "info" : "error", "service.checks", { wrong });
    this.#wrong = wrong;
  }

  [Symbol.dispose](): void {
    this.#say("STOPPING=1");
    this.#socket?.[Symbol.dispose]();
  }

  #say(text: string): void {
    const errno = this.#socket?.send(text) ?? 0;
    if (errno !== 0) this.#options.log("warn", "service.notSaid", { text, errno });
  }
}

function periodOf({ environment, pid }: ServiceOptions): number | null {
  const { WATCHDOG_USEC: periodUs = "", WATCHDOG_PID: meant = `${pid}` } = environment;
  return /^[1-9]\d{0,15}$/.test(periodUs) && Number(meant) === pid ? Number(periodUs) / 1000 : null;
}

function openSocket(name: string | undefined, log: Log): NotifySocket | null {
  if (name === undefined || name === "") return null;
  try {
    return new NotifySocket(name);
  } catch (error) {
    log("warn", "service.noSocket", { name, why: String(error) });
    return null;
  }
}
