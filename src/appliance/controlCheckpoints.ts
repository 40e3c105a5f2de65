// SPDX-License-Identifier: Apache-2.0
/**
 * Checkpoints at the door of a running supervisor (control.ts).
 *
 *     GET  /checkpoints                    all of them, newest first
 *     POST /checkpoints/GUEST/create       takes one                      /checkpoints/ID/restore   goes back to it
 *     POST /checkpoints/ID/delete          …/verify   …/pin   …/unpin     /checkpoints/PATH/import  takes a file in
 *
 * Restoring by the name of a guest goes back to its last good one. Limit: `checkpointTimeoutMs`.
 */
import { deadline } from "#clock.ts";
import { ConfigError, HypervisorError } from "#errors.ts";
import type { Guests } from "./guests/guests.ts";

export const checkpointTimeoutMs = 1_800_000;

export const checkpointVerbs = ["create", "restore", "delete", "verify", "pin", "unpin", "import"] as const;
export type CheckpointVerb = (typeof checkpointVerbs)[number];

export async function answerCheckpoint(
  request: Request,
  guests: Guests,
  name: string | undefined,
  wanted: string | undefined,
): Promise<Response> {
  const { checkpoints } = guests;
  if (name === undefined) return Response.json(checkpoints.list);
  const verb = checkpointVerbs.find((known) => known === wanted);
  if (verb === undefined || request.method !== "POST") {
    throw new ConfigError("config.argument", `a checkpoint cannot ${wanted}`);
  }
  const late = (): HypervisorError =>
    new HypervisorError("hypervisor.timeout", `${name}: ${verb} is not done after ${checkpointTimeoutMs} ms`);
  using limit = deadline(checkpointTimeoutMs, late, request.signal);
  return Response.json(await carryOut(guests, name, verb, limit.signal));
}

async function carryOut(guests: Guests, name: string, verb: CheckpointVerb, signal: AbortSignal): Promise<unknown> {
  const { checkpoints } = guests;
  switch (verb) {
    case "create":
      return await guests.checkpoint(name, signal);
    case "restore":
      return await guests.restore(name, signal);
    case "delete":
      await checkpoints.drop(checkpoints.find(name).id);
      return {};
    case "verify":
      return await checkpoints.verify(name);
    case "pin":
      await checkpoints.mark(name, "pinned");
      return {};
    case "unpin":
      await checkpoints.mark(name, "unpinned");
      return {};
    case "import":
      return { ids: await checkpoints.import(name) };
  }
}
