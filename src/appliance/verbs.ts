// SPDX-License-Identifier: Apache-2.0
/**
 * What a person or a fleet may ask of this supervisor, done: one function a verb. Gets verified requests, whoever asked, and
 * the parts that they concern; gives the result. What cannot be done here is a refusal that says why and what to do.
 *
 * The verbs of telemetry itself (ping, jobs, keys, herd …) never come here: src/telemetry/ownVerbs.ts.
 */
import { explain, HoldfastError } from "#errors.ts";
import type { VerbJob, VerbName, VerbResult, VerbScalar } from "#verbs.ts";
import type { LiveSettings } from "./liveSettings.ts";
import type { SuppressionSwitch } from "./suppressionSwitch.ts";

/** Workloads that can be started and stopped, by name. */
export interface WorkloadOrders {
  readonly names: readonly string[];
  /** @throws HoldfastError where it cannot be done */
  restart(name: string, signal: AbortSignal): Promise<void>;
  /** Ended, and not started again until it is released. */
  hold(name: string, signal: AbortSignal): Promise<void>;
  release(name: string, signal: AbortSignal): Promise<void>;
  /** Guests only. Gives what was taken, in small facts. */
  checkpoint?(name: string, signal: AbortSignal): Promise<Readonly<Record<string, VerbScalar>>>;
  /** null: the last good one. */
  restore?(name: string, checkpoint: string | null, signal: AbortSignal): Promise<void>;
}

/** Updates of a box with slots. */
export interface UpdateOrders {
  /** Resolves once it is being installed; the box tells the end of the job after its restart. @throws HoldfastError */
  install(job: VerbJob): Promise<void>;
  /** Back to the other slot. @throws HoldfastError */
  rollback(by: string): void;
}

export type VerbPorts = {
  readonly orders: WorkloadOrders;
  readonly suppression: SuppressionSwitch;
  readonly settings: LiveSettings;
  /** Small facts of how this supervisor is. */
  readonly diagnose: () => Readonly<Record<string, VerbScalar>>;
  /** Whoever asks wants to work on the box: updates wait meanwhile. */
  readonly maintenance: (on: boolean, by: string, forMs: number | undefined) => void;
  /** Restarts the machine; null where that is not ours to do, with the reason. */
  readonly reboot: ((job: string) => Promise<void>) | { readonly why: string };
  /** Slots to install into; null where there are none, with the reason. */
  readonly update: UpdateOrders | { readonly why: string };
  /** Erases all data of the box, in a moment; null where there is no such box. @throws HoldfastError */
  readonly wipe: (() => void) | null;
  readonly wait: (delayMs: number, signal: AbortSignal) => Promise<void>;
  /** Does it later, unless the supervisor ends first. */
  readonly later: (delayMs: number, act: () => void | Promise<void>) => void;
};

/** null: whoever outlives us tells the end. */
type Act = (job: VerbJob, ports: VerbPorts) => VerbResult | null | Promise<VerbResult | null>;

const done: VerbResult = { kind: "succeeded" };
const failed = (why: string): VerbResult => ({ kind: "failed", why });
const noGuests = "this supervisor has no guests: checkpoints are theirs";
export const noReset = "a wipe is for flashed boxes; here, remove the state directory";
export const noSlots = { why: "this installation has no slots to install into; update it by its package" };

const acts: Partial<Record<VerbName, Act>> = {
  diag: (_, { diagnose }) => ({ kind: "succeeded", result: diagnose() }),
  "workload.restart": async (job, { orders }) => {
    job.progress({ percent: 10, step: "restarting" });
    await orders.restart(nameIn(job), job.signal);
    return done;
  },
  "workload.hold": async (job, { orders, later }) => {
    const name = nameIn(job);
    job.progress({ percent: 10, step: "stopping" });
    await orders.hold(name, job.signal);
    const forMs = durationMs(job);
    if (forMs !== undefined) later(forMs, () => orders.release(name, new AbortController().signal));
    return done;
  },
  "workload.release": async (job, { orders }) => {
    job.progress({ percent: 10, step: "starting" });
    await orders.release(nameIn(job), job.signal);
    return done;
  },
  "guest.checkpoint": async (job, { orders }) => {
    if (orders.checkpoint === undefined) return failed(noGuests);
    job.progress({ percent: 10, step: "taking a checkpoint" });
    return { kind: "succeeded", result: await orders.checkpoint(nameIn(job), job.signal) };
  },
  "guest.restore": async (job, { orders }) => {
    if (orders.restore === undefined) return failed(noGuests);
    const { checkpoint = null } = job.request.args as { checkpoint?: string };
    job.progress({ percent: 10, step: "restoring" });
    await orders.restore(nameIn(job), checkpoint, job.signal);
    return done;
  },
  "suppression.off": (job, { suppression, orders }) => {
    const name = optionalName(job);
    if (name !== null && !orders.names.includes(name)) return unknownName(name, orders);
    suppression.off(name, durationMs(job));
    return done;
  },
  "suppression.on": (job, { suppression }) => {
    suppression.on(optionalName(job));
    return done;
  },
  maintenance: (job, { maintenance, later }) => {
    const { on } = job.request.args as { on: boolean };
    const forMs = durationMs(job);
    maintenance(on, whoIn(job), forMs);
    if (on && forMs !== undefined) later(forMs, () => maintenance(false, whoIn(job), undefined));
    return done;
  },
  reboot: async (job, { reboot, wait }) => {
    if (typeof reboot !== "function") return failed(reboot.why);
    const { delay_s = 0 } = job.request.args as { delay_s?: number };
    job.progress({ percent: 10, step: "waiting", secondsLeft: delay_s });
    await wait(delay_s * 1000, job.signal);
    job.progress({ percent: 50, step: "restarting" });
    await reboot(job.request.id);
    return null;
  },
  "config.get": ({ request }, { settings }) => {
    const { key } = request.args as { key?: string };
    const all = settings.effective();
    if (key === undefined) return { kind: "succeeded", result: all };
    return key in all
      ? { kind: "succeeded", result: { [key]: all[key]! } }
      : failed(`there is no setting ${JSON.stringify(key)}; config.get without a key lists them`);
  },
  "config.set": ({ request }, { settings }) => {
    const { set, revert_s } = request.args as { set: Readonly<Record<string, VerbScalar>>; revert_s?: number };
    const refusal = settings.set(set, revert_s === undefined ? null : revert_s * 1000);
    return refusal === null ? done : failed(refusal);
  },
  "update.install": async (job, { update }) => {
    if ("why" in update) return failed(update.why);
    await update.install(job);
    return null;
  },
  "update.rollback": (job, { update }) => {
    if ("why" in update) return failed(update.why);
    update.rollback(whoIn(job));
    return done;
  },
  wipe: (_, { wipe }) => {
    if (wipe === null) return failed(noReset);
    wipe();
    return done;
  },
};

/** Does what was asked and ends the job, whatever comes of it. A bug is thrown on. */
export async function executeVerb(job: VerbJob, ports: VerbPorts): Promise<void> {
  const act = acts[job.request.verb];
  let result: VerbResult | null = failed(`${job.request.verb} is not known here`);
  try {
    if (act !== undefined) result = await act(job, ports);
  } catch (error) {
    if (job.signal.aborted) result = { kind: "cancelled", why: explain(job.signal.reason) };
    else if (error instanceof HoldfastError && error.code !== "bug") result = failed(explain(error));
    else throw error;
  }
  if (result !== null) await job.finish(result);
}

const whoIn = ({ request }: VerbJob): string => `${request.by.who} (${request.by.via})`;
const nameIn = ({ request }: VerbJob): string => String(request.args.w);
const optionalName = ({ request }: VerbJob): string | null =>
  request.args.w === undefined ? null : nameIn({ request } as VerbJob);
const durationMs = ({ request }: VerbJob): number | undefined =>
  request.args.for_s === undefined ? undefined : Number(request.args.for_s) * 1000;

const unknownName = (name: string, { names }: WorkloadOrders): VerbResult =>
  failed(`there is no workload ${JSON.stringify(name)}; there are: ${names.join(", ") || "none"}`);
