// SPDX-License-Identifier: Apache-2.0
/**
 * The verbs that concern telemetry alone: ping, rebirth, jobs, resend, cancel, keys, herd. Gets verified requests; does
 * them and answers; passes every other verb on. Nothing here touches a workload.
 */
import { explain, TelemetryError } from "#errors.ts";
import type { VerbJob, VerbName, VerbResult } from "#verbs.ts";
import type { CommandDesk } from "./commandDesk.ts";
import type { FleetRecords } from "./fleetRecords.ts";
import type { HerdIdentity } from "./herdIdentity.ts";
import type { Jobs } from "./jobs.ts";
import type { JournalPump } from "./journalPump.ts";
import { asKeyId, publicKey } from "./keys.ts";
import { isFinal } from "./payloads.ts";
import { type KeyUse, type TrustList, trustedKeysMax } from "./trust.ts";

const daySeconds = 86_400;
const usualKeyDays = 730;
const usualBlockDays = 180;

export type OwnVerbPorts = {
  readonly desk: CommandDesk;
  readonly jobs: Jobs;
  readonly pump: JournalPump;
  readonly trust: TrustList;
  readonly records: FleetRecords;
  readonly identity: HerdIdentity;
  readonly rebirth: () => void;
  /** Small facts for `ping`. */
  readonly about: () => Readonly<Record<string, string | number | boolean>>;
  readonly nowSeconds: () => number;
};

type Act = (job: VerbJob, ports: OwnVerbPorts) => VerbResult | Promise<VerbResult>;

const acts: Partial<Record<VerbName, Act>> = {
  ping: (_, { about }) => ({ kind: "succeeded", result: about() }),
  rebirth: (_, { rebirth }) => {
    rebirth();
    return { kind: "succeeded" };
  },
  jobs: (_, { jobs }) => {
    for (const job of jobs.all().slice(0, 8)) if (job.payload.verb !== "jobs") jobs.answer({ ...job, answer: null });
    const open = jobs.all().filter(({ payload }) => !isFinal(payload.s)).length;
    return { kind: "succeeded", result: { jobs: jobs.all().length, open } };
  },
  resend: async ({ request, signal }, { pump }) => {
    const { from, to } = request.args as { from: number; to: number };
    return { kind: "succeeded", result: { events: await pump.resend(from, to, signal) } };
  },
  cancel: ({ request }, { desk }) => {
    const { job } = request.args as { job: string };
    if (job === request.id) return { kind: "failed", why: "a job cannot cancel itself" };
    return desk.cancel(job, `by ${request.by.who}`)
      ? { kind: "succeeded" }
      : { kind: "failed", why: "there is no open job of this id" };
  },
  "keys.grant": (job, ports) => grantKey(job, ports),
  "keys.revoke": ({ request }, { trust }) => {
    const id = asKeyId(request.args.kid as Uint8Array);
    return trust.remove(id) ? { kind: "succeeded" } : { kind: "failed", why: "this box does not know the key" };
  },
  "herd.forget": ({ request }, { records }) => {
    const { build, site } = request.args as { build: string; site?: string };
    return { kind: "succeeded", result: { records: records.forget(build, site ?? null) } };
  },
  "herd.block": ({ request }, { records, nowSeconds }) => {
    const { build, site, days } = request.args as { build: string; site: string; days?: number };
    records.block(build, site, nowSeconds() + (days ?? usualBlockDays) * daySeconds);
    return { kind: "succeeded" };
  },
};

export const isOwnVerb = (verb: VerbName): boolean => verb in acts;

/** Does the job and ends it, whatever comes of it. */
export async function doOwnVerb(job: VerbJob, ports: OwnVerbPorts): Promise<void> {
  let result: VerbResult;
  try {
    result = await acts[job.request.verb]!(job, ports);
  } catch (error) {
    if (!(error instanceof TelemetryError) && !job.signal.aborted) throw error;
    result = { kind: "failed", why: explain(error) };
  }
  await job.finish(result);
}

function grantKey({ request }: VerbJob, { trust, identity, nowSeconds }: OwnVerbPorts): VerbResult {
  const { args } = request;
  if (args.grant instanceof Uint8Array) {
    identity.install(args.grant, trust);
    return { kind: "succeeded" };
  }
  const { pub, role, name, days } = args as { pub: Uint8Array; role: KeyUse; name: string; days?: number };
  const key = publicKey(pub);
  const notBefore = nowSeconds();
  const expiresAt = notBefore + (days ?? usualKeyDays) * daySeconds;
  if (trust.add({ key, use: role, name, notBefore, expiresAt })) return { kind: "succeeded", result: { kid: key.id } };
  return { kind: "failed", why: `the list holds ${trustedKeysMax} keys already; revoke one first` };
}
