// SPDX-License-Identifier: Apache-2.0
/**
 * A signed command as bytes and as value: what each verb may be given, and how a command is signed and read. Pure.
 *
 * The external data `holdfast/1/cmd/<device or _all>/<verb>` binds a signature to one box and one verb, whatever the root
 * of the topics is. An argument that the verb does not know is refused: a typing error must not be half obeyed.
 */
import * as v from "valibot";
import { TelemetryError } from "#errors.ts";
import { isVerbName, type Role, roles, type VerbArguments, type VerbName } from "#verbs.ts";
import { type CborMap, decodeCborMap, encodeCbor } from "./cbor.ts";
import { openSigned, signBytes } from "./cose.ts";
import { type KeyPair, keyIdBytes, type PublicKey, publicKeyBytes } from "./keys.ts";
import { check, commandBytesMax } from "./payloads.ts";
import { grantBytesMax } from "./rescueRecord.ts";

/** A command lives at most this long. */
export const commandSecondsMax = 3600;
export const toAll = "_all";

const whole = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const idText = v.pipe(v.string(), v.regex(/^[a-z0-9][a-z0-9._-]{7,63}$/, "an id is 8 to 64 of a-z, 0-9, . _ -"));
const name = v.pipe(v.string(), v.minLength(1), v.maxLength(64));
const seconds = (most: number) => v.pipe(whole, v.minValue(1), v.maxValue(most));
const build = v.pipe(v.string(), v.regex(/^([0-9a-f]{2}){8,64}$/));
const site = v.pipe(v.string(), v.maxLength(80));
const bytes = (least: number, most: number) =>
  v.pipe(
    v.instance(Uint8Array),
    v.check((value) => value.length >= least && value.length <= most),
  );
const keyId = bytes(keyIdBytes, keyIdBytes);
const scalar = v.union([v.pipe(v.string(), v.maxLength(512)), v.number(), v.boolean()]);

const daySeconds = 86_400;
/** Spreads the answers to a command to all. */
const jitter = v.optional(v.pipe(whole, v.maxValue(3600)));
const nothing = v.strictObject({});
const view = v.strictObject({ jitter_s: jitter });
const workload = v.strictObject({ w: name });

/** What each verb takes. Whole numbers of seconds; names are names of workloads, never paths. */
const argumentSchemas = {
  ping: view,
  rebirth: view,
  diag: view,
  jobs: view,
  resend: v.strictObject({ from: whole, to: whole, jitter_s: jitter }),
  "config.get": v.strictObject({ key: v.optional(name), jitter_s: jitter }),
  "workload.restart": workload,
  "workload.hold": v.strictObject({ w: name, for_s: v.optional(seconds(7 * daySeconds)) }),
  "workload.release": workload,
  "guest.checkpoint": workload,
  "guest.restore": v.strictObject({ w: name, checkpoint: v.optional(name) }),
  "suppression.off": v.strictObject({ w: v.optional(name), for_s: v.optional(seconds(7 * daySeconds)) }),
  "suppression.on": v.strictObject({ w: v.optional(name) }),
  maintenance: v.strictObject({ on: v.boolean(), for_s: v.optional(seconds(7 * daySeconds)) }),
  reboot: v.strictObject({ delay_s: v.optional(seconds(3600)) }),
  cancel: v.strictObject({ job: idText }),
  "herd.forget": v.strictObject({ build, site: v.optional(site) }),
  "update.install": v.strictObject({
    sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
    url: v.pipe(v.string(), v.regex(/^https:\/\//), v.maxLength(512)),
  }),
  "update.rollback": nothing,
  "config.set": v.strictObject({ set: v.record(name, scalar), revert_s: v.optional(seconds(3600)) }),
  // Either a key to trust, or the grant by which this box may publish rescue records.
  "keys.grant": v.union([
    v.strictObject({
      pub: bytes(publicKeyBytes, publicKeyBytes),
      role: v.picklist([...roles, "fleet"]),
      name,
      days: v.optional(v.pipe(whole, v.minValue(1), v.maxValue(3660))),
    }),
    v.strictObject({ grant: bytes(64, grantBytesMax) }),
  ]),
  "keys.revoke": v.strictObject({ kid: keyId }),
  "herd.block": v.strictObject({ build, site, days: v.optional(v.pipe(whole, v.minValue(1), v.maxValue(180))) }),
  wipe: nothing,
} as const satisfies Record<VerbName, v.GenericSchema>;

const commandSchema = v.object({
  v: v.literal(1),
  /** The box, or `_all`. */
  dev: v.pipe(v.string(), v.maxLength(63)),
  verb: v.pipe(v.string(), v.maxLength(32)),
  args: v.record(v.pipe(v.string(), v.maxLength(32)), v.unknown()),
  id: idText,
  /** Rises with each command of a key. */
  ctr: whole,
  /** Seconds since 1970. */
  iat: whole,
  exp: whole,
  role: v.picklist(roles),
});

export type Command = {
  readonly dev: string;
  readonly verb: VerbName;
  readonly args: VerbArguments;
  readonly id: string;
  readonly ctr: number;
  readonly iat: number;
  readonly exp: number;
  readonly role: Role;
};

/** A command whose signature holds and whose arguments are not yet looked at. */
export type ReadCommand = Omit<Command, "args"> & { readonly rawArgs: unknown };

export const commandExternal = (device: string, verb: string): string => `holdfast/1/cmd/${device}/${verb}`;

/** @throws TelemetryError telemetry.payload where the arguments do not fit the verb */
export function signCommand(pair: KeyPair, command: Command): Uint8Array<ArrayBuffer> {
  const { dev, verb, id, ctr, iat, exp, role } = command;
  const args = readArguments(verb, command.args);
  const payload = { v: 1, dev, verb, args: args as CborMap, id, ctr, iat, exp, role };
  check(commandSchema, payload);
  return signBytes(pair, encodeCbor(payload), commandExternal(dev, verb));
}

/** Verifies and reads; `device` is what the topic was for. @throws TelemetryError */
export function openCommand(signed: Uint8Array, key: PublicKey, device: string, verb: string): ReadCommand {
  const { payload } = openSigned(signed, key, commandExternal(device, verb), commandBytesMax);
  const command = check(commandSchema, decodeCborMap(payload, commandBytesMax));
  if (command.dev !== device || command.verb !== verb || !isVerbName(verb)) {
    throw new TelemetryError("telemetry.payload", "the signed words name another box or verb", { device, verb });
  }
  const { id, ctr, iat, exp, role, args } = command;
  return { dev: device, verb, id, ctr, iat, exp, role, rawArgs: args };
}

/** @throws TelemetryError telemetry.payload that names the argument */
export function readArguments(verb: VerbName, raw: unknown): VerbArguments {
  return check(argumentSchemas[verb], { ...(raw as object) }) as VerbArguments;
}
