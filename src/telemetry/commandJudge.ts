// SPDX-License-Identifier: Apache-2.0
/**
 * Whether a received command is believed and obeyed. Gets the message, the trust list, the time; gives a ruling. Pure but for
 * the look-ups it is handed; whether counter and id are new is asked afterwards, in one place, with the disk.
 *
 * The checks stand in the order of their cost. A stranger gets no answer, only a counter; who has signed gets a reason.
 */
import { TelemetryError } from "#errors.ts";
import { isVerbName, type Role, roleAllows, type VerbArguments, type VerbName, verbRoles } from "#verbs.ts";
import { commandSecondsMax, openCommand, readArguments, toAll } from "./command.ts";
import { readUntrusted } from "./cose.ts";
import { asKeyId, type KeyId } from "./keys.ts";
import { commandBytesMax } from "./payloads.ts";
import { inDate, type TrustedKey } from "./trust.ts";

/** A command may come from a clock that is ahead of ours by this much. */
const skewSeconds = 300;

export type Incoming = {
  readonly verb: string;
  readonly to: "box" | "all";
  readonly payload: Uint8Array;
  readonly retain: boolean;
};

export type JudgeContext = {
  readonly device: string;
  readonly nowSeconds: number;
  readonly clockKnown: boolean;
  readonly find: (id: KeyId) => TrustedKey | null;
};

/** Why somebody unknown is not answered. */
export type StrangerWhy = "size" | "retained" | "verb" | "form" | "key" | "signature" | "payload";

export type SignedCommand = {
  readonly keyId: KeyId;
  readonly keyRole: Role;
  readonly id: string;
  readonly verb: VerbName;
  readonly counter: number;
  readonly role: Role;
  readonly expiresAt: number;
};

export type Ruling =
  | { readonly kind: "stranger"; readonly why: StrangerWhy }
  | {
      readonly kind: "refused";
      readonly command: SignedCommand;
      readonly state: "rejected" | "expired";
      readonly why: string;
    }
  | {
      readonly kind: "believed";
      readonly command: SignedCommand;
      readonly args: VerbArguments;
      /** Two different admin keys have to ask for it. */
      readonly pair: boolean;
    };

export function judgeCommand(incoming: Incoming, context: JudgeContext): Ruling {
  const { verb, to, payload, retain } = incoming;
  if (payload.length > commandBytesMax) return stranger("size");
  if (retain) return stranger("retained");
  if (!isVerbName(verb)) return stranger("verb");
  let keyId: KeyId;
  try {
    ({ keyId } = readUntrusted(payload, commandBytesMax));
  } catch (error) {
    return strangerFor(error, "form");
  }
  const trusted = context.find(keyId);
  if (trusted === null || trusted.use === "fleet" || !inDate(trusted, context.nowSeconds, context.clockKnown)) {
    return stranger("key");
  }
  try {
    const read = openCommand(payload, trusted.key, to === "all" ? toAll : context.device, verb);
    const { id, ctr, role, exp, iat, rawArgs } = read;
    const command = { keyId, keyRole: trusted.use, id, verb, counter: ctr, role, expiresAt: exp };
    return judgeSigned(command, iat, rawArgs, to, context);
  } catch (error) {
    return strangerFor(error, "payload");
  }
}

function judgeSigned(
  command: SignedCommand,
  issuedAt: number,
  rawArgs: unknown,
  to: "box" | "all",
  { nowSeconds, clockKnown, find }: JudgeContext,
): Ruling {
  const refused = (why: string, state: "rejected" | "expired" = "rejected"): Ruling => ({
    kind: "refused",
    command,
    state,
    why,
  });
  const { verb, role, keyRole, expiresAt } = command;
  const needed = verbRoles[verb];
  if (expiresAt <= issuedAt || expiresAt - issuedAt > commandSecondsMax) return refused("valid for more than an hour");
  if (clockKnown && issuedAt > nowSeconds + skewSeconds) return refused("issued in the future: compare the clocks");
  if (clockKnown && expiresAt < nowSeconds) return refused("it came too late", "expired");
  if (!roleAllows(keyRole, role)) return refused(`this key may not act as ${role}`);
  if (!roleAllows(role, needed)) return refused(`${verb} needs the role ${needed}`);
  if (to === "all" && needed !== "view") return refused(`${verb} cannot be asked of all boxes at once`);
  if (!clockKnown && needed === "admin") return refused("this box does not know the time, so admin verbs are closed");
  try {
    const args = readArguments(verb, rawArgs);
    return { kind: "believed", command, args, pair: needsPair(verb, args, find) };
  } catch (error) {
    return refused(error instanceof TelemetryError ? `${error.message} (${error.context.key})` : "arguments");
  }
}

/** Wipe, and every change of an admin key. */
function needsPair(verb: VerbName, args: VerbArguments, find: JudgeContext["find"]): boolean {
  if (verb === "wipe") return true;
  if (verb === "keys.grant") return args.role === "admin";
  return verb === "keys.revoke" && find(asKeyId(args.kid as Uint8Array))?.use === "admin";
}

const stranger = (why: StrangerWhy): Ruling => ({ kind: "stranger", why });

function strangerFor(error: unknown, otherwise: StrangerWhy): Ruling {
  if (!(error instanceof TelemetryError)) throw error;
  return stranger(
    error.code === "telemetry.signature" ? "signature" : error.code === "telemetry.size" ? "size" : otherwise,
  );
}
