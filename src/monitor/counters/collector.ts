// SPDX-License-Identifier: Apache-2.0
/**
 * Once a second, what the files of the kernel say of the watched workloads. Gets targets; gives a snapshot. Runs in the
 * sampling Worker, so that nothing that is slow here ever holds the main loop.
 *
 * The box and control groups are read every `slowEvery` rounds, as are threads that have not run. Limit: `threadsMax`
 * threads a workload are looked at.
 */
import type { Box } from "#board/box.ts";
import type { Clock } from "#clock.ts";
import {
  absent,
  type ControlGroupHealth,
  type CounterAbilities,
  type HostHealth,
  type ProcessHealth,
  type Seen,
  seen,
} from "#health.ts";
import { readControlGroup } from "../health/controlGroup.ts";
import { type HostSources, readHostHealth } from "../health/hostHealth.ts";
import { type ProcessSources, readProcessHealth } from "../health/processHealth.ts";
import { parseProcessStat, parseSwitches, parseUptime } from "../health/procFiles.ts";
import type { Snapshot, Target, TargetSnapshot, ThreadLook } from "../snapshot.ts";
import { abilitiesOf } from "./abilities.ts";
import type { EventPlan } from "./eventPlan.ts";
import { isVirtualProcessor, readExits, withoutDeadExits } from "./kvmStatistics.ts";
import type { Opened, Sampler } from "./sampler.ts";

export const slowEvery = 5;
export const threadsMax = 256;
/** Share of the last second above which a thread's switches are read. */
const busyShare = 0.05;

/** A look, and how long the thread had run before it. */
type LastLook = { readonly ranNs: number | null; readonly look: ThreadLook };

export type CollectorParts = {
  readonly plan: EventPlan;
  readonly sampler: Sampler;
  readonly host: HostSources;
  readonly process: ProcessSources;
  readonly clock: Clock;
};

export class Collector {
  readonly #box: Box;
  #targets: readonly Target[] = [];
  #workloads: string[] = [];
  #round = 0;
  #groups = new Map<string, Seen<ControlGroupHealth>>();
  #looks = new Map<number, LastLook>();
  /** Of what the kernel said last. */
  #abilities: { readonly of: readonly Opened[]; readonly value: CounterAbilities } | null = null;
  #atNs = 0;

  constructor(private readonly parts: CollectorParts) {
    this.#box = parts.host.box;
  }

  watch(targets: readonly Target[]): void {
    for (const { workload } of this.#targets) {
      if (!targets.some((each) => each.workload === workload))
        this.parts.sampler.watch(this.#indexOf(workload), [], false);
    }
    this.#targets = targets;
    // A target that is new has its control group read at once.
    this.#round = 0;
  }

  collect(samplesLate: number): Snapshot {
    const { clock, host, sampler, plan } = this.parts;
    const slow = this.#round % slowEvery === 0;
    this.#round += 1;
    const monotonicNs = clock.monotonicNs();
    const passedSeconds = (monotonicNs - this.#atNs) / 1e9;
    this.#atNs = monotonicNs;
    const looks = new Map<number, LastLook>();
    const atMs = clock.wallMs();
    const bootMs = parseUptime(this.#box.text("/proc/uptime") ?? "");
    const targets = this.#targets.map((target) => this.#look(target, slow, passedSeconds, looks, atMs));
    this.#looks = looks;
    const box: HostHealth | null = slow ? readHostHealth(host, atMs) : null;
    if (this.#abilities?.of !== sampler.opened) {
      this.#abilities = { of: sampler.opened, value: abilitiesOf(plan, sampler.opened) };
    }
    return { atMs, monotonicNs, bootMs, host: box, abilities: this.#abilities.value, targets, samplesLate };
  }

  #look(
    target: Target,
    slow: boolean,
    passedSeconds: number,
    looks: Map<number, LastLook>,
    atMs: number,
  ): TargetSnapshot {
    const { workload, kind, pids } = target;
    const main = pids[0] ?? 0;
    const threads: ThreadLook[] = [];
    for (const pid of pids) {
      for (const name of this.#box.names(`/proc/${pid}/task`)) {
        if (threads.length >= threadsMax) break;
        const last = this.#lookAtThread(pid, Number(name), slow, passedSeconds);
        if (last === null) continue;
        looks.set(Number(name), last);
        threads.push(last.look);
      }
    }
    if (slow) this.#groups.set(workload, readControlGroup(this.#box, main));
    const index = this.#indexOf(workload);
    const { sampler } = this.parts;
    const isGuest = kind === "guest";
    const counted = isGuest ? threads.filter(({ name }) => isVirtualProcessor(name)) : threads;
    sampler.watch(
      index,
      counted.map(({ tid }) => tid),
      isGuest,
    );
    const totals = sampler.totals(index);
    const ranSeconds = counted.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0);
    const readings = isGuest ? withoutDeadExits(totals, ranSeconds) : totals;
    return {
      ...{ workload, kind, threads },
      process: this.#processOf(pids),
      controlGroup: this.#groups.get(workload) ?? absent("it was not looked at yet"),
      counters: {
        ...{ workload, atMs, threads: sampler.threadsOf(index).length, readings },
        exits: isGuest ? readExits(this.#box, main) : absent("it is no guest"),
      },
    };
  }

  /** A thread that has not run since the last look is what it was: its file need not be asked. */
  #lookAtThread(pid: number, tid: number, slow: boolean, passedSeconds: number): LastLook | null {
    const ranNs = this.parts.sampler.ranNs(tid);
    const last = this.#looks.get(tid);
    if (!slow && last !== undefined && ranNs !== null && ranNs === last.ranNs) {
      return last.look.switches === null ? last : { ranNs, look: { ...last.look, switches: null } };
    }
    const stat = parseProcessStat(this.#box.text(`/proc/${pid}/task/${tid}/stat`) ?? "");
    if (stat === null) return null;
    const { name, state, cpuSeconds } = stat;
    const busy = last !== undefined && cpuSeconds - last.look.cpuSeconds > busyShare * passedSeconds;
    const switches = busy ? parseSwitches(this.#box.text(`/proc/${pid}/task/${tid}/status`) ?? "") : null;
    return { ranNs, look: { tid, name, state, cpuSeconds, switches } };
  }

  /** All processes of a workload as one; the first one gives its name and state. */
  #processOf(pids: readonly number[]): Seen<ProcessHealth> {
    const all = pids.map((pid) => readProcessHealth(this.parts.process, pid));
    const [first] = all;
    if (first === undefined) return absent("it does not run");
    if (first.kind === "absent") return first;
    const alive = all.flatMap((each) => (each.kind === "seen" ? [each.value] : []));
    const sum = (read: (each: ProcessHealth) => number): number => alive.reduce((total, each) => total + read(each), 0);
    return seen({
      ...first.value,
      cpuSeconds: sum((each) => each.cpuSeconds),
      minorFaults: sum((each) => each.minorFaults),
      majorFaults: sum((each) => each.majorFaults),
      residentBytes: sum((each) => each.residentBytes),
      threads: sum((each) => each.threads),
      ioBytes: alive.some(({ ioBytes }) => ioBytes === null) ? null : sum((each) => each.ioBytes ?? 0),
    });
  }

  /** Workloads are numbered for the sample board. */
  #indexOf(workload: string): number {
    const known = this.#workloads.indexOf(workload);
    if (known >= 0) return known;
    this.#workloads.push(workload);
    return this.#workloads.length - 1;
  }

  get workloads(): readonly string[] {
    return this.#workloads;
  }
}
