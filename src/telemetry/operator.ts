// SPDX-License-Identifier: Apache-2.0
/**
 * The operator's side of commands: words of a command line as arguments of a verb, a signed command from them, and the job
 * that came of it. Gets a key pair and the counter beside it; gives bytes to publish. Pure but for the clock it is handed.
 */
import { fromHex } from "#bytes.ts";
import { TelemetryError } from "#errors.ts";
import {
  isVerbName,
  type Role,
  roles,
  type VerbArguments,
  type VerbName,
  type VerbScalar,
  verbNames,
  verbRoles,
} from "#verbs.ts";
import { type Command, readArguments, signCommand, toAll } from "./command.ts";
import type { KeyPair } from "./keys.ts";
import { isDeviceName } from "./topics.ts";

export type Wish = {
  readonly device: string;
  readonly verb: string;
  /** `name=value`, and `set.PATH=value` for config.set. */
  readonly words: readonly string[];
  /** Absent: the role the verb needs. */
  readonly role?: string;
  readonly validSeconds: number;
  readonly id?: string;
};
export type SignedWish = {
  readonly id: string;
  readonly device: string;
  readonly verb: VerbName;
  readonly bytes: Uint8Array;
};

/** Arguments whose value is bytes, written as hex. */
const byteArguments: readonly string[] = ["pub", "kid", "grant"];

/** @throws TelemetryError telemetry.settings, telemetry.payload in words for a person */
export function signWish(wish: Wish, pair: KeyPair, counter: number, nowSeconds: number): SignedWish {
  const { device, verb, words, validSeconds } = wish;
  if (device !== toAll && !isDeviceName(device)) throw wrong(`"${device}" is no name of a box (nor _all)`);
  if (!isVerbName(verb)) throw wrong(`there is no verb "${verb}"; there are ${verbNames.join(", ")}`);
  const role = wish.role ?? verbRoles[verb];
  if (!isRole(role)) throw wrong(`"${role}" is no role; there are ${roles.join(", ")}`);
  const id = wish.id ?? `c-${Bun.randomUUIDv7()}`;
  const command: Command = {
    ...{ dev: device, verb, args: argumentsFrom(verb, words), id, ctr: counter, role },
    ...{ iat: nowSeconds, exp: nowSeconds + validSeconds },
  };
  return { id, device, verb, bytes: signCommand(pair, command) };
}

/** `name=value` words as what the verb takes: each value as text, number, truth or bytes, whichever the verb accepts. */
export function argumentsFrom(verb: VerbName, words: readonly string[]): VerbArguments {
  const args: Record<string, VerbScalar | Uint8Array | Record<string, VerbScalar>> = {};
  const texts: Record<string, string> = {};
  for (const word of words) {
    const at = word.indexOf("=");
    if (at < 1) throw wrong(`"${word}" is not NAME=VALUE`);
    const name = word.slice(0, at);
    const value = word.slice(at + 1);
    if (name.startsWith("set.")) args.set = { ...(args.set as object | undefined), [name.slice(4)]: scalar(value) };
    else if (byteArguments.includes(name)) args[name] = bytesOf(name, value);
    else {
      args[name] = scalar(value);
      texts[name] = value;
    }
  }
  try {
    return readArguments(verb, args);
  } catch (error) {
    // A name such as 123 or true is text for this verb.
    if (error instanceof TelemetryError) return readArguments(verb, { ...args, ...texts });
    throw error;
  }
}

function scalar(text: string): VerbScalar {
  if (text === "true" || text === "false") return text === "true";
  return /^-?\d{1,15}(\.\d{1,15})?$/.test(text) ? Number(text) : text;
}

function bytesOf(name: string, text: string): Uint8Array {
  try {
    return fromHex(text);
  } catch (cause) {
    throw new TelemetryError("telemetry.settings", `${name} is written in hex`, {}, cause);
  }
}

const isRole = (text: string): text is Role => (roles as readonly string[]).includes(text);
const wrong = (why: string): TelemetryError => new TelemetryError("telemetry.settings", why);
