// SPDX-License-Identifier: Apache-2.0
/**
 * Updates at the door of a running supervisor (control.ts): `holdfast update …` asks here.
 *
 *     GET  /update                      slots, the present update, what is refused
 *     POST /update/VERB  {…}            install verify mark rollback clear lock unlock
 *
 * install and verify answer once the bundle is found good; how the installation goes on is asked again. Limit:
 * `updateTimeoutMs`.
 */
import * as v from "valibot";
import { deadline } from "#clock.ts";
import { ConfigError, UpdateError } from "#errors.ts";
import { updateTold } from "../page/machineTold.ts";
import { noSlots } from "../verbs.ts";
import type { MachineCare } from "./machineCare.ts";
import type { BundleFacts } from "./rauc.ts";
import type { Updates } from "./updates.ts";

const updateTimeoutMs = 900_000;
const text = v.pipe(v.string(), v.maxLength(400));
const requestSchema = v.strictObject({
  path: v.optional(v.pipe(v.string(), v.startsWith("/"), v.maxLength(2_048))),
  older: v.optional(v.boolean(), false),
  good: v.optional(v.boolean(), true),
  version: v.optional(v.nullable(text), null),
  why: v.optional(text, ""),
  by: v.optional(text, "console"),
  untilMs: v.optional(v.nullable(v.pipe(v.number(), v.safeInteger())), null),
});
export type UpdateRequest = v.InferInput<typeof requestSchema>;
type ReadRequest = v.InferOutput<typeof requestSchema>;

export const updateVerbs = ["install", "verify", "mark", "rollback", "clear", "lock", "unlock"] as const;
export type UpdateVerb = (typeof updateVerbs)[number];
export type UpdateAnswer = { readonly version?: string; readonly compatible?: string };

export async function answerUpdate(request: Request, machine: MachineCare, wanted?: string): Promise<Response> {
  const { updates } = machine;
  if (updates === null) throw new UpdateError("update.noSlots", noSlots.why);
  if (wanted === undefined) return Response.json(updateTold(updates));
  const verb = updateVerbs.find((known) => known === wanted);
  const asked = v.safeParse(requestSchema, await request.json().catch(() => null));
  if (verb === undefined || request.method !== "POST" || !asked.success) {
    throw new ConfigError("config.argument", `an update cannot ${wanted} like that`);
  }
  const late = (): UpdateError => new UpdateError("update.tool", `${verb} is not done after ${updateTimeoutMs} ms`);
  using limit = deadline(updateTimeoutMs, late, request.signal);
  return Response.json(await carryOut(updates, verb, asked.output, limit.signal));
}

async function carryOut(
  updates: Updates,
  verb: UpdateVerb,
  { path, older, good, version, why, by, untilMs }: ReadRequest,
  signal: AbortSignal,
): Promise<UpdateAnswer> {
  switch (verb) {
    case "install":
      return { version: await updates.install({ path: named(path), olderToo: older, job: null }, signal, () => {}) };
    case "verify": {
      const facts: BundleFacts = await updates.verify(named(path), older, signal);
      return { ...facts };
    }
    case "mark":
      updates.give({ kind: "mark", good });
      return {};
    case "rollback":
      updates.give({ kind: "back", by });
      return {};
    case "clear":
      updates.give({ kind: "clear", version });
      return {};
    case "lock":
      updates.hold(why === "" ? "work on the box" : why, by, untilMs);
      return {};
    case "unlock":
      updates.give({ kind: "lock", lock: null });
      return {};
  }
}

function named(path: string | undefined): string {
  if (path === undefined) throw new ConfigError("config.argument", "which bundle?");
  return path;
}
