// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast update VERB`: the slots of a flashed box, and the update that is under way. Asks the running supervisor.
 *
 * install answers once the bundle is whole, signed by a key that the box trusts, for this board and newer than what runs; it
 * then shows how it is written. The box restarts by itself when neither a lock nor work under way forbids it, and goes back by
 * itself where the new version does not prove itself. Exit code 0 when done, 1 where a bundle is refused.
 */
import { resolve } from "node:path";
import type { Command } from "commander";
import { ControlClient } from "#appliance/controlClient.ts";
import type { UpdateStatus } from "#appliance/page/machineTold.ts";
import { systemClock } from "#clock.ts";
import { ConfigError, HypervisorError, UpdateError } from "#errors.ts";
import { runDirectoryOf, runOption } from "./programVerb.ts";
import { printable, table } from "./table.ts";

type Flags = { readonly run?: string; readonly json?: true; readonly older?: true; readonly for?: string };

const lookMs = 500;
const olderOption = ["--older", "also a version that is not newer than the one that runs"] as const;
const hourMs = 3_600_000;

export function addUpdate(program: Command): void {
  const update = program
    .command("update")
    .description("the slots of a flashed box: install, go back, hold updates back");
  addBundleVerbs(update);
  const add = (name: string, about: string, act: (client: ControlClient, flags: Flags) => Promise<string>): Command =>
    update
      .command(name)
      .description(about)
      .option(...runOption)
      .action(async (flags: Flags) => tell(await act(clientFor(flags), flags)));
  add(
    "rollback",
    "leave the version that runs for the one in the other slot; it is refused from then on",
    async (client) => {
      await client.orderUpdate("rollback", { by: who() });
      return "the box goes back to the other slot";
    },
  );
  add("unlock", "let updates go", async (client) => {
    await client.orderUpdate("unlock");
    return "updates may be installed";
  });
  addArgumentVerbs(update);
}

function addBundleVerbs(update: Command): void {
  update
    .command("status")
    .description("slots, versions, the present update, what is refused and why")
    .option(...runOption)
    .option("--json", "as JSON")
    .action(async (flags: Flags) => {
      const told = await clientFor(flags).update();
      tell(flags.json ? JSON.stringify(told) : describe(told));
    });
  for (const [verb, about] of [
    ["install", "install a bundle into the slot that does not run; the box restarts into it"],
    ["verify", "whether a bundle may be installed here; nothing is changed"],
  ] as const) {
    update
      .command(verb)
      .description(about)
      .argument("<file>", "a .raucb bundle")
      .option(...olderOption)
      .option(...runOption)
      .action((file: string, flags: Flags) => (verb === "install" ? install(file, flags) : verify(file, flags)));
  }
}

function addArgumentVerbs(update: Command): void {
  update
    .command("mark")
    .description("end the trial by hand")
    .argument("<verdict>", "good or bad")
    .option(...runOption)
    .action(async (verdict: string, flags: Flags) => {
      if (verdict !== "good" && verdict !== "bad") throw new ConfigError("config.argument", "say good or bad");
      await clientFor(flags).orderUpdate("mark", { good: verdict === "good" });
      tell(`marked ${verdict}`);
    });
  update
    .command("clear")
    .description("let a version that failed here try again (all of them, where none is named)")
    .argument("[version]")
    .option(...runOption)
    .action(async (version: string | undefined, flags: Flags) => {
      await clientFor(flags).orderUpdate("clear", { version: version ?? null });
      tell(`${version ?? "all versions"}: no longer refused`);
    });
  update
    .command("lock")
    .description("hold updates back: none is installed, and one that is installed is not started")
    .argument("[why]")
    .option("--for <hours>", "until then; left out: until holdfast update unlock")
    .option(...runOption)
    .action(async (why: string | undefined, flags: Flags) => {
      await clientFor(flags).orderUpdate("lock", { why: why ?? "", by: who(), untilMs: untilOf(flags.for) });
      tell("updates are held back");
    });
}

async function install(file: string, flags: Flags): Promise<void> {
  const client = clientFor(flags);
  const { version } = await client.orderUpdate("install", { path: resolve(file), older: flags.older === true });
  for (let last = ""; ; ) {
    const told = await client.update().catch(onlyRestart);
    if (told === null) break;
    const line = told.percent === null ? told.says : `${String(told.percent).padStart(3)} % ${told.says}`;
    if (line !== last) tell(line);
    last = line;
    if (told.phase === "failed") throw new UpdateError("update.install", told.says);
    if (told.phase !== "installing") break;
    await systemClock.sleep(lookMs);
  }
  tell(`version ${version} is installed; the box restarts into it when nothing forbids it: holdfast update status`);
}

/** The supervisor is gone in the middle of it: with the box, or to be started again. */
function onlyRestart(error: unknown): null {
  if (error instanceof HypervisorError && error.code === "hypervisor.unsupervised") return null;
  throw error;
}

async function verify(file: string, flags: Flags): Promise<void> {
  const order = { path: resolve(file), older: flags.older === true };
  const { version, compatible } = await clientFor(flags).orderUpdate("verify", order);
  tell(`${file}: version ${version} for ${compatible}, whole and signed by a key of this box; it may be installed`);
}

function describe({ slots, says, refused, lastRollback, lock, testKey, sinceMs }: UpdateStatus): string {
  const rows = slots.map(({ slot, running, version, good, tries }) => [
    slot,
    running ? "runs" : "",
    version ?? "not proven",
    good ? (tries > 0 ? `good, ${tries} starts not proven` : "good") : "bad",
  ]);
  const lines = [
    table(["SLOT", "", "VERSION", "BOOT LOADER"], rows).trimEnd(),
    `update: ${says}${sinceMs === null ? "" : `, since ${new Date(sinceMs).toISOString()}`}`,
    `lock:   ${lock === null ? "none" : `${lock.by}: ${lock.why}${lock.untilMs === null ? "" : `, until ${new Date(lock.untilMs).toISOString()}`}`}`,
    ...refused.map(({ version, reason }) => `refused: ${version}: ${reason}`),
    ...(lastRollback === null ? [] : [`last rollback: ${lastRollback.version}: ${lastRollback.reason}`]),
    ...(testKey ? ["keys:   this image believes a test key; anybody may have it"] : []),
  ];
  return lines.map((line) => line.split("\n").map(printable).join("\n")).join("\n");
}

function untilOf(hours: string | undefined): number | null {
  if (hours === undefined) return null;
  const value = Number(hours);
  if (!(value > 0 && value <= 720)) throw new ConfigError("config.argument", "--for wants hours, up to 720");
  return Math.round(systemClock.wallMs() + value * hourMs);
}

const clientFor = (flags: Flags): ControlClient => new ControlClient(runDirectoryOf(flags));
const who = (): string => process.env.SUDO_USER ?? process.env.USER ?? "console";
const tell = (line: string): void => void process.stdout.write(`${line}\n`);
