// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast guest VERB`: asks the running supervisor about its guests, and tells it what to do with them.
 *
 * Exit code 0 when done; the supervisor's reason and another code when not. `console` shows what the guest prints and,
 * on a terminal, types into it until Ctrl-].
 */
import { closeSync, existsSync, openSync, readSync, statSync } from "node:fs";
import type { Command } from "commander";
import { guestCommands } from "#appliance/control.ts";
import { ControlClient } from "#appliance/controlClient.ts";
import type { GuestStatus } from "#appliance/guests/guests.ts";
import { systemClock } from "#clock.ts";
import { ConfigError } from "#errors.ts";
import { defaultRunDirectory } from "#storage/ownership.ts";
import { table } from "./table.ts";

const runOption = ["--run <dir>", "run directory of the supervisor (default: /run/holdfast, or your own)"] as const;
const summaries = {
  start: "start a guest that is down or held down",
  stop: "stop a guest: power button first, then by force",
  pause: "stop a guest's processors where they are",
  resume: "let a paused guest go on",
  reset: "boot a guest anew, as its reset button would",
} as const;
const tailBytes = 16 << 10;
const lookMs = 100;
/** Ctrl-], as telnet(1) has it. */
const leaveKey = "\u001d";

export function addGuest(program: Command): void {
  const guest = program
    .command("guest")
    .description("list, show, start, stop, pause, resume and reset guests, and their consoles");
  guest
    .command("list")
    .description("all guests")
    .option(...runOption)
    .option("--json", "one JSON object a line")
    .action(list);
  guest
    .command("show")
    .description("one guest in full")
    .argument("<name>")
    .option(...runOption)
    .option("--json", "as JSON")
    .action(show);
  guest
    .command("console")
    .description("what the guest prints, as it prints it; on a terminal also what you type (leave with Ctrl-])")
    .argument("<name>")
    .option(...runOption)
    .option("--no-follow", "show what is there and end")
    .action(showConsole);
  for (const command of guestCommands) {
    guest
      .command(command)
      .description(summaries[command])
      .argument("<name>")
      .option(...runOption)
      .action(async (name: string, flags: Flags) => {
        const { phase, pid } = await clientFor(flags).command(name, command);
        process.stdout.write(`${name}: ${phase}${pid === null ? "" : `, process ${pid}`}\n`);
      });
  }
}

type Flags = { readonly run?: string; readonly json?: true; readonly follow?: boolean };

const clientFor = (flags: Flags): ControlClient =>
  new ControlClient(flags.run ?? defaultRunDirectory(process.env, process.getuid?.() ?? 0));

async function list(flags: Flags): Promise<void> {
  const guests = await clientFor(flags).list();
  if (flags.json) for (const guest of guests) process.stdout.write(`${JSON.stringify(guest)}\n`);
  else if (guests.length === 0) process.stdout.write("The configuration names no guests.\n");
  else process.stdout.write(table(["GUEST", "PHASE", "PROCESS", "CPUS", "MEMORY", "RESTARTS", "WHY"], guests.map(row)));
}

const row = (guest: GuestStatus): string[] => [
  guest.name,
  guest.phase,
  guest.pid === null ? "-" : String(guest.pid),
  String(guest.cpus),
  mebibytes(guest.memoryBytes),
  `${guest.attempts} of ${guest.attemptsMax}`,
  guest.why ?? "-",
];

const mebibytes = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MiB`;

async function show(name: string, flags: Flags): Promise<void> {
  const guest = await clientFor(flags).show(name);
  if (flags.json) {
    process.stdout.write(`${JSON.stringify(guest)}\n`);
    return;
  }
  const { lastFault } = guest;
  const facts: readonly [string, string][] = [
    ["guest", guest.name],
    ["phase", guest.why === null ? guest.phase : `${guest.phase}: ${guest.why}`],
    ["process", guest.pid === null ? "none" : `${guest.pid}, Cloud Hypervisor ${guest.version}`],
    ["machine", `${guest.cpus} cpus, ${mebibytes(guest.memoryBytes)}`],
    ["restarts", `${guest.attempts} of ${guest.attemptsMax} in the window`],
    ["last fault", lastFault === null ? "none" : `${new Date(lastFault.atMs).toISOString()} ${lastFault.why}`],
    ["checkpoint", guest.lastGood?.id ?? `none: ${guest.noCheckpoint ?? "no good one yet"}`],
    ["stands by", standsBy(guest)],
    ["programs", guest.programs.join(", ") || "none"],
    ["run directory", guest.runDirectory],
    ["console", guest.console ?? "none"],
  ];
  for (const [label, text] of facts) process.stdout.write(`${label.padEnd(14)} ${text}\n`);
}

/** The process that would take the guest over, or why there is none. */
function standsBy({ standby: { state, checkpoint, pid, why } }: GuestStatus): string {
  if (state === "ready") return `process ${pid}, with checkpoint ${checkpoint}`;
  return state === "raising" ? `soon, with checkpoint ${checkpoint}` : `none: ${why}`;
}

async function showConsole(name: string, flags: Flags): Promise<void> {
  const client = clientFor(flags);
  const path = (await client.show(name)).console;
  if (path === null) throw new ConfigError("config.argument", `${name} has no serial console (serial = false)`);
  const left = new AbortController();
  const typing = flags.follow !== false && process.stdin.isTTY;
  if (typing) typeUntilLeft(client, name, left);
  let at = existsSync(path) ? Math.max(0, statSync(path).size - tailBytes) : 0;
  for (;;) {
    at = copyFrom(path, at);
    if (flags.follow === false || left.signal.aborted) break;
    await systemClock.sleep(lookMs, left.signal).catch(() => {});
  }
  if (typing) process.stdin.setRawMode(false);
  process.stdout.write("\n");
  process.exit(0);
}

function typeUntilLeft(client: ControlClient, name: string, left: AbortController): void {
  process.stdin.setRawMode(true);
  process.stderr.write(`console of ${name}; leave with Ctrl-]\r\n`);
  process.stdin.on("data", (bytes: Buffer) => {
    const text = bytes.toString();
    if (text.includes(leaveKey)) left.abort();
    // A key that the guest does not take is lost, as on any serial line.
    else client.type(name, text).catch((error: Error) => process.stderr.write(`\r\n${error.message}\r\n`));
  });
}

/** Copies what the file has from `from` on; begins anew where it was cut. Gives where it ended. */
function copyFrom(path: string, from: number): number {
  if (!existsSync(path)) return 0;
  const size = statSync(path).size;
  const start = size < from ? 0 : from;
  if (size === start) return start;
  const file = openSync(path, "r");
  try {
    const bytes = new Uint8Array(size - start);
    const got = readSync(file, bytes, 0, bytes.length, start);
    process.stdout.write(bytes.subarray(0, got));
    return start + got;
  } finally {
    closeSync(file);
  }
}
