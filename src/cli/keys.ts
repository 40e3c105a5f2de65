// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast keys …`: keys of operators and the trust list of this box. Gets files and ids; changes the list of a state
 * directory, also while a supervisor runs there. Whoever may write that directory may say whom the box believes.
 */
import { type Command, InvalidArgumentError } from "commander";
import { fromHex } from "#bytes.ts";
import { systemClock } from "#clock.ts";
import { ConfigError } from "#errors.ts";
import { stateDirectories } from "#storage/inspect.ts";
import { editOutbox, type OutboxEdit } from "#storage/outboxEdit.ts";
import { readKeys, readNotes } from "#storage/outboxReader.ts";
import { defaultStateDirectory, guardDirectory } from "#storage/ownership.ts";
import { asKeyId, publicPem, readKeyPair, readPublicKey } from "#telemetry/keys.ts";
import { grantDevice, grantSigner, openGrant, signGrant } from "#telemetry/rescueRecord.ts";
import { type KeyUse, keyUses, TrustList } from "#telemetry/trust.ts";
import { readText } from "./brokerOptions.ts";
import { exitCodes } from "./exitCodes.ts";
import { makeKeyFiles, readKeyFile } from "./keyFiles.ts";
import { printable, table } from "./table.ts";

const daySeconds = 86_400;
const namesMax = 8;

type Place = { state?: string; name?: string };

export function addKeys(program: Command): void {
  const keys = program.command("keys").description("whom this box believes: keys of operators, admins and the fleet");
  const here = (command: Command): Command =>
    command
      .option("--state <dir>", "state directory (default: /var/lib/holdfast, or your own)")
      .option("--name <guard>", "the guard of this name instead of the whole box");
  keys
    .command("new")
    .description("make a key pair: FILE (private, keep it) and FILE.pub")
    .argument("<file>")
    .action(make);
  here(keys.command("list").description("the trust list")).option("--json", "one JSON object a line").action(list);
  here(keys.command("add").description("believe a key: as view, operate, admin, or as fleet (signs grants of boxes)"))
    .argument("<key>", "file of a public key, or its 64 hex digits")
    .requiredOption("--as <use>", keyUses.join(", "), readUse)
    .requiredOption("--label <text>", "whose it is")
    .option("--days <n>", "valid so long", readDays, 730)
    .action(add);
  here(keys.command("remove").description("believe a key no more"))
    .argument("<id>", "its id, 16 hex digits")
    .action(remove);
  here(keys.command("box").description("the key of this box, and whether it may publish rescue records"))
    .option("--json", "one JSON object")
    .action(box);
  keys
    .command("grant")
    .description("sign, with a fleet key, that a box may publish rescue records")
    .argument("<key>", "the box's public key: `holdfast keys box` there, or `herd` in its birth")
    .requiredOption("--fleet-key <file>", "private key of the fleet")
    .requiredOption("--device <name>", "name of the box")
    .option("--days <n>", "valid so long", readDays, 365)
    .action(grant);
  here(keys.command("install").description("give this box its grant"))
    .argument("<grant>", "what `keys grant` printed")
    .action(install);
}

function make(file: string): void {
  const { id, raw } = makeKeyFiles(file).public;
  print(`${file} and ${file}.pub: key ${id}, public ${raw.toHex()}`);
}

function list(flags: Place & { json?: true }): void {
  const found = trustOf(flags).all();
  const date = (seconds: number): string => new Date(seconds * 1000).toISOString().slice(0, 10);
  if (flags.json) {
    for (const { key, use, name, notBefore, expiresAt } of found) {
      print(JSON.stringify({ id: key.id, use, label: name, public: key.raw.toHex(), notBefore, expiresAt }));
    }
  } else if (found.length === 0) print("Nobody is believed yet: holdfast keys add FILE.pub --as operate --label WHO");
  else {
    const rows = found.map(({ key, use, name, expiresAt }) => [key.id, use, name, date(expiresAt)]);
    process.stdout.write(table(["ID", "AS", "LABEL", "UNTIL"], rows));
  }
}

function add(keyText: string, flags: Place & { as: KeyUse; label: string; days: number }): void {
  const key = readPublicKey(/^[0-9a-fA-F]{64}$/.test(keyText) ? keyText : readText(keyText));
  const nowSeconds = Math.floor(systemClock.wallMs() / 1000);
  const dates = { notBefore: nowSeconds - 300, expiresAt: nowSeconds + flags.days * daySeconds };
  const rows: OutboxEdit[] = [];
  const fits = trustOf(flags, rows).add({ key, use: flags.as, name: flags.label.slice(0, 64), ...dates });
  if (!fits) throw new ConfigError("config.argument", "the trust list is full; remove a key first");
  editOutbox(directoryOf(flags), rows, systemClock);
  print(`${key.id} is believed as ${flags.as}`);
  const guards =
    flags.name === undefined ? stateDirectories(directoryOf(flags)).flatMap(({ guard }) => guard || []) : [];
  if (guards.length > 0) {
    const names = printable(guards.slice(0, namesMax).join(", "));
    process.stderr.write(
      `holdfast: by holdfast run; guards here have lists of their own (${names}): add it with --name for those\n`,
    );
  }
}

function remove(id: string, flags: Place): void {
  const rows: OutboxEdit[] = [];
  if (!trustOf(flags, rows).remove(asKeyId(hexId(id)))) {
    process.stderr.write(`holdfast: the list does not hold ${printable(id)}\n`);
    process.exitCode = exitCodes.notFound;
    return;
  }
  editOutbox(directoryOf(flags), rows, systemClock);
  print(`${id} is believed no more`);
}

function box(flags: Place & { json?: true }): void {
  const notes = new Map(
    readNotes(directoryOf(flags)).flatMap(({ group, id, head }) => (group === "herdKey" ? [[id, head]] : [])),
  );
  const own = notes.get("own");
  if (own === undefined) {
    process.stderr.write("holdfast: this box has no key yet; it makes one when it first runs with a broker\n");
    process.exitCode = exitCodes.notFound;
    return;
  }
  const { public: key } = readKeyPair(own);
  const granted = notes.has("grant");
  if (flags.json) print(JSON.stringify({ id: key.id, public: key.raw.toHex(), granted }));
  else
    print(`${key.id}\n${publicPem(key)}${granted ? "It has a grant to publish rescue records." : "It has no grant."}`);
}

function grant(keyText: string, flags: { fleetKey: string; device: string; days: number }): void {
  const key = readPublicKey(/^[0-9a-fA-F]{64}$/.test(keyText) ? keyText : readText(keyText));
  const notBefore = Math.floor(systemClock.wallMs() / 1000) - 300;
  const signed = signGrant(readKeyFile(flags.fleetKey), {
    ...{ key, device: flags.device, notBefore },
    expiresAt: notBefore + flags.days * daySeconds,
  });
  print(signed.toHex());
}

function install(text: string, flags: Place): void {
  const signed = fromHex(text.trim());
  const fleet = trustOf(flags).find(grantSigner(signed));
  if (fleet === null || fleet.use !== "fleet") {
    throw new ConfigError(
      "config.argument",
      "this box holds no fleet key that signed the grant: holdfast keys add … --as fleet",
    );
  }
  const own = readNotes(directoryOf(flags)).find(({ group, id }) => group === "herdKey" && id === "own");
  const { device, key } = openGrant(signed, fleet.key, grantDevice(signed));
  if (own === undefined || readKeyPair(own.head).public.id !== key.id) {
    throw new ConfigError("config.argument", "the grant is for another key than that of this box");
  }
  const row = {
    kind: "note",
    group: "herdKey",
    id: "grant",
    atMs: systemClock.wallMs(),
    head: new Uint8Array(signed).toBase64(),
  } as const;
  editOutbox(directoryOf(flags), [row], systemClock);
  print(`${device} may publish rescue records`);
}

/** The list as it is on the disk; changes are gathered in `rows`. */
function trustOf(flags: Place, rows: OutboxEdit[] = []): TrustList {
  const stored = readKeys(directoryOf(flags)).map(({ id, head }) => ({ id, value: head }));
  return new TrustList({
    notes: () => stored,
    note: (_, id) => stored.find((note) => note.id === id)?.value ?? null,
    putNote: (_, id, head) => void rows.push({ kind: "key", id, atMs: systemClock.wallMs(), head }),
  });
}

function directoryOf({ state, name }: Place): string {
  const directory = state ?? defaultStateDirectory(process.env, process.getuid?.() ?? 0);
  return name === undefined ? directory : guardDirectory(directory, name);
}

function readUse(text: string): KeyUse {
  const use = keyUses.find((known) => known === text);
  if (use === undefined) throw new InvalidArgumentError(`must be one of ${keyUses.join(", ")}`);
  return use;
}

function readDays(text: string): number {
  const days = Number(text);
  if (!Number.isInteger(days) || days < 1 || days > 3660) throw new InvalidArgumentError("must be 1 to 3660");
  return days;
}

function hexId(text: string): Uint8Array {
  if (!/^[0-9a-f]{16}$/.test(text))
    throw new ConfigError("config.argument", "an id has 16 hex digits; see holdfast keys list");
  return Uint8Array.fromHex(text);
}

const print = (text: string): void => void process.stdout.write(`${text}\n`);
