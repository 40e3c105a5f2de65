// SPDX-License-Identifier: Apache-2.0
/**
 * Sends a signed command and follows its job to the end; publishes a deny list. Gets signed bytes and the broker; prints
 * each change of the job. Exit code 0 where it succeeded, 1 where it did not, or no box answered in time.
 */
import { deadline, systemClock } from "#clock.ts";
import { ConfigError, TelemetryError } from "#errors.ts";
import { toAll } from "#telemetry/command.ts";
import { signDeny } from "#telemetry/deny.ts";
import { asKeyId } from "#telemetry/keys.ts";
import type { ReceivedMessage } from "#telemetry/link.ts";
import type { SignedWish } from "#telemetry/operator.ts";
import { isFinal, type JobPayload, jobSchema, readPayload } from "#telemetry/payloads.ts";
import { FleetTopics, isBuildId, isSiteName } from "#telemetry/topics.ts";
import { type BrokerFlags, openBroker, untilInterrupted } from "./brokerOptions.ts";
import { exitCodes } from "./exitCodes.ts";
import { readKeyFile } from "./keyFiles.ts";
import { printable } from "./table.ts";

export type SendFlags = BrokerFlags & { readonly wait: number; readonly valid: number; readonly json?: true };

export async function send(wish: SignedWish, flags: SendFlags): Promise<void> {
  const topics = new FleetTopics(flags.root);
  const { id, device, verb, bytes } = wish;
  const answers = `${topics.answers}/${id}`;
  const ended = Promise.withResolvers<JobPayload>();
  const boxes = new Set<string>();
  const said = new Set<string>();
  const receive = async (message: ReceivedMessage): Promise<void> => {
    const job = readJob(message.payload);
    if (job === null || job.id !== id) return;
    // The answer and the job's own topic say the same; which of them we may read is the broker's to decide.
    const box = message.topic === answers ? device : (message.topic.slice(topics.tree.length + 1).split("/")[0] ?? "");
    const words = `${box} ${JSON.stringify(job)}`;
    if (!said.has(words)) show(box, job, flags.json === true);
    said.add(words);
    if (!isFinal(job.s)) return;
    boxes.add(box);
    if (device !== toAll) ended.resolve(job);
  };
  await untilInterrupted(async (signal) => {
    await using link = await openBroker(flags, receive, signal);
    const jobs = `${topics.tree}/${device === toAll ? "+" : device}/job/${id}`;
    await link.subscribe(device === toAll ? [jobs] : [jobs, answers]);
    const topic = device === toAll ? topics.commandToAll(verb) : `${topics.tree}/${device}/cmd/${verb}`;
    // The broker forgets it when it would be refused anyway.
    const expirySeconds = flags.valid;
    await link.publish({ topic, payload: bytes, qos: 1, retain: false, responseTopic: answers, expirySeconds });
    using patience = deadline(
      flags.wait * 1000,
      () => new TelemetryError("telemetry.timeout", "no answer in time"),
      signal,
    );
    const late = new Promise<null>((resolve) =>
      patience.signal.addEventListener("abort", () => resolve(null), { once: true }),
    );
    const job = await Promise.race([ended.promise, late, link.ended.then(() => null)]);
    if (device === toAll ? boxes.size > 0 : job?.s === "succeeded") return;
    if (job === null) process.stderr.write(`${silence(id, flags.wait)}\n`);
    process.exitCode = exitCodes.no;
  });
}

export async function deny(
  flags: BrokerFlags & { key: string; number: number; kid: string[]; record: string[] },
): Promise<void> {
  const topics = new FleetTopics(flags.root);
  const keys = flags.kid.map((id) => {
    if (!/^[0-9a-f]{16}$/.test(id)) throw new ConfigError("config.argument", `"${id}" is no key id: 16 hex digits`);
    return asKeyId(Uint8Array.fromHex(id));
  });
  const records = flags.record.map((word) => {
    const [build = "", site = ""] = word.split("/");
    if (isBuildId(build) && isSiteName(site)) return { build, site };
    throw new ConfigError("config.argument", `"${word}" is not BUILD/SITE as in the topic of the record`);
  });
  const issuedAt = Math.floor(systemClock.wallMs() / 1000);
  const payload = signDeny(readKeyFile(flags.key), { number: flags.number, issuedAt, keys, records });
  await untilInterrupted(async (signal) => {
    await using link = await openBroker(flags, async () => {}, signal);
    await link.publish({ topic: topics.deny, payload, qos: 1, retain: true, schema: "deny/1.0" });
  });
  process.stdout.write(`List ${flags.number} with ${keys.length} keys and ${records.length} records is published\n`);
}

function readJob(payload: Uint8Array): JobPayload | null {
  try {
    return readPayload(jobSchema, payload);
  } catch (error) {
    // Somebody else's message on our topic: not an answer.
    if (error instanceof TelemetryError) return null;
    throw error;
  }
}

function show(box: string, job: JobPayload, json: boolean): void {
  if (json) {
    process.stdout.write(`${JSON.stringify({ box, ...job })}\n`);
    return;
  }
  const more = [
    job.pct === undefined ? "" : `${job.pct} %`,
    job.step ?? "",
    job.why ?? "",
    job.result === undefined ? "" : JSON.stringify(job.result),
  ].filter((part) => part !== "");
  process.stdout.write(`${printable([box, job.s, ...more].join("  "))}\n`);
}

/** A box tells strangers nothing, not even that it heard them. */
const silence = (id: string, waitSeconds: number): string =>
  `holdfast: no end of job ${id} within ${waitSeconds} s; it goes on if the box has it. A box gives no answer to a key ` +
  "that it does not believe: holdfast keys list there, for a guard with --name NAME";
