// SPDX-License-Identifier: Apache-2.0
/**
 * Sees one running guest from all sides and decides nothing: events, serial console, probes, the API, the end.
 *
 * Gets a hypervisor and what to look for; tells what it saw as inputs of the supervision machine. Probes count only once
 * the guest has settled, or `bootMs` after its boot. Without probes a guest counts as settled `quietMs` after its boot.
 * Limits: `pingEveryMs`, `pingMsMax`, `silentAfter` unanswered pings in a row.
 */
import type { Clock } from "#clock.ts";
import { explain, HypervisorError } from "#errors.ts";
import type { Log } from "#log.ts";
import type { Probe } from "#monitor/probes.ts";
import type { TaskGroup } from "#tasks.ts";
import type { Hypervisor } from "#vm/hypervisor.ts";
import type { SerialConsole } from "#vm/serialConsole.ts";
import { describeVcpus, lookAtVcpus } from "#vm/vcpuActivity.ts";
import { faultOfEvent, faultOfLine } from "./guestFault.ts";
import type { SuperviseInput } from "./supervision.ts";

export const pingEveryMs = 5_000;
/** The first ping may take so long, each after an unanswered one twice as long: on a busy box all is late, and to end a guest for that would be worse. */
const pingMsMax = 5_000;
export const silentAfter = 3;
export const quietMs = 2_000;
/** Events come later than answers, at most so much. */
const eventDelayMs = 5_000;
const probeWhileBootingMs = 500;

/** An input without its time, which the lane adds. */
export type Seen = SuperviseInput extends infer One ? (One extends unknown ? Omit<One, "atMs"> : never) : never;

export type WatchParts = {
  readonly hypervisor: Hypervisor;
  readonly serial: SerialConsole | null;
  readonly probes: readonly Probe[];
  readonly probeEveryMs: number;
  readonly probeFailuresMax: number;
  readonly bootMs: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly tell: (seen: Seen) => void;
};

export class GuestWatch {
  #bootedAtNs: number;
  #settled = false;
  #failures = 0;
  /** Until when a reboot is our own doing, ns. */
  #ownRebootUntilNs = 0;

  /** Starts watching; ends with the task group. */
  constructor(
    private readonly parts: WatchParts,
    tasks: TaskGroup,
  ) {
    this.#bootedAtNs = parts.clock.monotonicNs();
    tasks.start((signal) => this.#followEvents(signal));
    if (parts.serial !== null) tasks.start(() => this.#followSerial(parts.serial!));
    tasks.start((signal) => this.#probe(signal));
    tasks.start((signal) => this.#ping(signal));
    void parts.hypervisor.gone.then((report) => parts.tell({ kind: "ended", report }));
  }

  /** It boots anew: its probes get their time again. */
  bootsAgain(): void {
    this.#bootedAtNs = this.parts.clock.monotonicNs();
    this.#settled = false;
    this.#failures = 0;
  }

  /** The next reboot that is told is ours: its event may come before the answer to our call, or after. */
  async onRequest(reboot: () => Promise<void>): Promise<void> {
    this.#ownRebootUntilNs = Number.POSITIVE_INFINITY;
    try {
      await reboot();
      this.bootsAgain();
    } finally {
      const told = this.#ownRebootUntilNs === 0;
      this.#ownRebootUntilNs = told ? 0 : this.parts.clock.monotonicNs() + eventDelayMs * 1e6;
    }
  }

  async #followEvents(signal: AbortSignal): Promise<void> {
    for await (const event of this.parts.hypervisor.events(signal)) {
      const fault = faultOfEvent(event);
      if (fault !== null) this.parts.tell({ kind: "fault", fault });
      if (event.kind === "vm.rebooted") {
        const own = this.parts.clock.monotonicNs() < this.#ownRebootUntilNs;
        this.#ownRebootUntilNs = 0;
        if (own) continue;
        this.bootsAgain();
        this.parts.tell({ kind: "rebooted" });
      }
    }
  }

  async #followSerial(serial: SerialConsole): Promise<void> {
    for await (const line of serial.lines()) {
      const fault = faultOfLine(line);
      if (fault !== null) this.parts.tell({ kind: "fault", fault });
    }
  }

  async #probe(signal: AbortSignal): Promise<void> {
    const { clock, probes, probeEveryMs } = this.parts;
    while (!signal.aborted) {
      const waitMs = this.#settled ? probeEveryMs : Math.min(probeEveryMs, probeWhileBootingMs);
      await clock.sleep(waitMs, signal);
      if (this.parts.hypervisor.state.kind !== "running") continue;
      const since = this.#bootedAtNs;
      const bootingMs = (clock.monotonicNs() - since) / 1e6;
      if (probes.length === 0) {
        if (!this.#settled && bootingMs >= quietMs) this.#settle();
        continue;
      }
      const troubles = (await Promise.all(probes.map((probe) => probe(signal)))).filter((text) => text !== null);
      // A reboot, a pause or the end overtook the answers: they say nothing about now.
      if (signal.aborted || since !== this.#bootedAtNs || this.parts.hypervisor.state.kind !== "running") continue;
      if (troubles.length === 0) this.#settle();
      else if (this.#settled || bootingMs > this.parts.bootMs) await this.#failed(troubles);
    }
  }

  #settle(): void {
    this.#failures = 0;
    if (this.#settled) return;
    this.#settled = true;
    this.parts.tell({ kind: "settled" });
  }

  async #failed(troubles: readonly string[]): Promise<void> {
    this.#failures += 1;
    this.parts.log("info", "guest.probeFailed", { count: this.#failures, why: troubles.join("; ") });
    if (this.#failures < this.parts.probeFailuresMax) return;
    this.#failures = 0;
    const activity = await lookAtVcpus(this.parts.hypervisor.pid, this.parts.clock);
    const why = `it does not serve (${troubles.join("; ")}); ${describeVcpus(activity)}`;
    this.parts.tell({ kind: "fault", fault: { kind: "hang", why } });
  }

  async #ping(signal: AbortSignal): Promise<void> {
    const { clock, hypervisor } = this.parts;
    let silent = 0;
    while (!signal.aborted) {
      await clock.sleep(pingEveryMs, signal);
      // Its control thread does one thing after the other: while a call of ours is under way, silence says nothing.
      if (hypervisor.busy || hypervisor.state.kind === "absent") continue;
      try {
        await hypervisor.call("vmm.ping", undefined, { signal, timeoutMs: pingMsMax * 2 ** silent });
        silent = 0;
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof HypervisorError && error.code === "hypervisor.closed") continue;
        if (hypervisor.busy) continue;
        silent += 1;
        this.parts.log("warn", "guest.silent", { count: silent, why: explain(error) });
        if (silent < silentAfter) continue;
        silent = 0;
        const why = `Cloud Hypervisor has not answered ${silentAfter} times`;
        this.parts.tell({ kind: "fault", fault: { kind: "hypervisorSilent", why } });
      }
    }
  }
}
