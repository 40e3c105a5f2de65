// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast top`: what the running supervisors of this box see, again every second. `q` or Ctrl-C ends it.
 *
 * With `--once`, or where standard output is no terminal, it is printed once, after one second for the rates.
 */
import type { Command } from "commander";
import { type ScreenSize, topScreen } from "#appliance/topScreen.ts";
import { askView, findSupervisors } from "#appliance/viewSocket.ts";
import { systemClock } from "#clock.ts";
import { HypervisorError } from "#errors.ts";
import type { MonitorView } from "#health.ts";
import { defaultRunDirectory } from "#storage/ownership.ts";
import { printable } from "./table.ts";
import { terminalSize } from "./terminalSize.ts";

const everyMs = 1_000;
const controlC = 3;
/** Where the width is not known. */
const plainSize: ScreenSize = { columns: 140, rows: 1_000 };
const [enter, leave, home, clearBelow, clearRight] = [
  "\x1b[?1049h\x1b[?25l",
  "\x1b[?25h\x1b[?1049l",
  "\x1b[H",
  "\x1b[J",
  "\x1b[K",
];

export function addTop(program: Command): void {
  program
    .command("top")
    .description("live view of workloads, counters, pressure and faults")
    .option("--run <dir>", "run directory (default: /run/holdfast, or your own)")
    .option("--once", "print it once and end")
    .action(top);
}

async function top(flags: { run?: string; once?: true }): Promise<void> {
  const root = flags.run ?? defaultRunDirectory(process.env, process.getuid?.() ?? 0);
  if (flags.once === true || !process.stdout.isTTY) {
    const before = await look(root);
    if (before.length === 0) throw noSupervisor(root);
    await systemClock.sleep(everyMs);
    process.stdout.write(
      `${topScreen(await look(root), before, plainSize)
        .map(printable)
        .join("\n")}\n`,
    );
    return;
  }
  await live(root);
}

const noSupervisor = (root: string): HypervisorError =>
  new HypervisorError(
    "hypervisor.unsupervised",
    `no supervisor runs below ${root}; start one with holdfast guard or holdfast run`,
  );

/** What all supervisors see that answer now. */
async function look(root: string): Promise<MonitorView[]> {
  const views = await Promise.all(findSupervisors(root).map((directory) => askView(directory).catch(() => null)));
  return views.filter((view) => view !== null);
}

async function live(root: string): Promise<void> {
  const stop = new AbortController();
  const end = (): void => stop.abort();
  process.once("SIGINT", end);
  process.once("SIGTERM", end);
  process.stdin.setRawMode(true);
  process.stdin.on("data", (keys: Buffer) => {
    if (keys.includes("q") || keys.includes(controlC)) end();
  });
  process.stdout.write(enter);
  try {
    let before: MonitorView[] = [];
    while (!stop.signal.aborted) {
      const views = await look(root);
      const { columns, rows } = terminalSize();
      const lines = topScreen(views, before, { columns, rows: rows - 1 }).map(printable);
      if (views.length === 0) lines.push("", `no supervisor runs below ${root}`);
      process.stdout.write(`${home}${lines.map((line) => `${line}${clearRight}`).join("\r\n")}${clearBelow}`);
      before = views;
      await systemClock.sleep(everyMs, stop.signal).catch(() => {});
    }
  } finally {
    process.stdout.write(leave);
    process.stdin.setRawMode(false);
    process.stdin.pause();
  }
}
