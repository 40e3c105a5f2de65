// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast fleet sign|send|deny|watch`: the operator's side of a fleet. Adds the verbs; signing is here, what needs a broker
 * is in fleetSend.ts and fleetWatch.ts.
 */
import { writeFileSync } from "node:fs";
import { type Command, InvalidArgumentError } from "commander";
import { systemClock } from "#clock.ts";
import { ConfigError } from "#errors.ts";
import { type SignedWish, signWish } from "#telemetry/operator.ts";
import { withBrokerOptions } from "./brokerOptions.ts";
import { deny, send } from "./fleetSend.ts";
import { watch } from "./fleetWatch.ts";
import { nextCounter, readKeyFile } from "./keyFiles.ts";

export type WishFlags = {
  readonly key: string;
  readonly device: string;
  readonly arg: readonly string[];
  readonly role?: string;
  readonly valid: number;
  readonly id?: string;
};

export function addFleet(program: Command): void {
  const fleet = program
    .command("fleet")
    .description("many boxes behind one MQTT broker: signed commands, and a live view");
  wishOptions(fleet.command("sign"))
    .description("sign a command without sending it")
    .option("--out <file>", "write its bytes there; else they are printed in hex")
    .action(sign);
  withBrokerOptions(wishOptions(fleet.command("send")))
    .description("sign a command, send it, and show what comes of it")
    .option("--wait <seconds>", "wait so long for the end of the job", readSeconds, 60)
    .option("--json", "one JSON object a line")
    .action((verb: string, flags) => send(signed(verb, flags), flags));
  withBrokerOptions(fleet.command("deny"))
    .description("tell the fleet which keys and rescue records count no more")
    .requiredOption("--key <file>", "private key of an admin")
    .requiredOption("--number <n>", "number of the list, above that of the last one", readNumber)
    .option("--kid <id>", "a key that counts no more; repeat for more", collect, [])
    .option("--record <build/site>", "a rescue record that counts no more; repeat for more", collect, [])
    .action(deny);
  withBrokerOptions(fleet.command("watch"))
    .description("who is there, who is lost and since when, faults, alarms")
    .option("--seconds <n>", "end after so long", readSeconds)
    .option("--json", "one JSON object a line, for each box whenever it changes")
    .action(watch);
}

const wishOptions = (command: Command): Command =>
  command
    .argument("<verb>", "such as ping, workload.restart, config.set")
    .requiredOption("--key <file>", "private key that the box believes")
    .requiredOption("--device <name>", "name of the box, or _all")
    .option("--arg <name=value>", "an argument of the verb; repeat for more", collect, [])
    .option("--role <role>", "act as view, operate or admin (default: as the verb needs)")
    .option("--valid <seconds>", "valid so long, an hour at most", readSeconds, 600)
    .option("--id <text>", "id of the job; the second admin of a pair gives the first one's");

function sign(verb: string, flags: WishFlags & { out?: string }): void {
  const { id, bytes, device } = signed(verb, flags);
  if (flags.out === undefined) process.stdout.write(`${bytes.toHex()}\n`);
  else {
    try {
      writeFileSync(flags.out, bytes);
    } catch (cause) {
      throw new ConfigError("config.argument", `cannot write ${flags.out}`, {}, cause);
    }
    process.stdout.write(
      `Job ${id} for ${device} is in ${flags.out}; publish it on ROOT/1/${device}/cmd/${verb}, QoS 1\n`,
    );
  }
}

function signed(verb: string, flags: WishFlags): SignedWish {
  const pair = readKeyFile(flags.key);
  const nowSeconds = Math.floor(systemClock.wallMs() / 1000);
  const { device, arg: words, valid: validSeconds, role, id } = flags;
  const more = { ...(role === undefined ? {} : { role }), ...(id === undefined ? {} : { id }) };
  return signWish({ device, verb, words, validSeconds, ...more }, pair, nextCounter(flags.key), nowSeconds);
}

const collect = (word: string, words: readonly string[]): string[] => [...words, word];

function readSeconds(text: string): number {
  const seconds = Number(text);
  if (!Number.isInteger(seconds) || seconds < 1 || seconds > 3600) throw new InvalidArgumentError("must be 1 to 3600");
  return seconds;
}

function readNumber(text: string): number {
  const number = Number(text);
  if (!Number.isSafeInteger(number) || number < 1) throw new InvalidArgumentError("must be a whole number from 1");
  return number;
}
