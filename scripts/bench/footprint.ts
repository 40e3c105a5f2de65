// SPDX-License-Identifier: Apache-2.0
/**
 * What a whole supervisor takes while nothing happens: `holdfast run` with four idle programs, against a bare runtime.
 *
 * Gives resident memory above that of a bare Bun process that only waits, and how much of it is memory of its own (not pages of
 * files, which the machine holds once for all), and processor time (user and system, of all its
 * threads, from /proc) as a share of a core, in windows between which a bare process is measured too. Its stubs are told
 * apart. `--windows N`, `--seconds N` a window, `--json FILE`.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { askView } from "#appliance/viewSocket.ts";
import { systemBox } from "#board/box.ts";
import { pageBytesOfMachine } from "#board/native/pause.ts";
import { systemClock } from "#clock.ts";
import { ProgramError } from "#errors.ts";
import { parseProcessStat } from "#monitor/health/procFiles.ts";
import { controlResult, publish, readFlags, rounded } from "./benchReport.ts";
import { median } from "./statistics.ts";

const seed = 1;
const programs = 4;
const [rssMebibytesMax, shareMax] = [64, 0.01];
const mebibyte = 2 ** 20;
/** All are guarded by then, or the run has failed. */
const guardedMsMax = 180_000;
/** What the attach and the rehearsals left behind is collected by then: at 10 s of quiet, and a minute after. */
const settleMs = 75_000;

const look = (pid: number): { cpuSeconds: number; residentBytes: number; ownBytes: number } => {
  const stat = parseProcessStat(systemBox.text(`/proc/${pid}/stat`) ?? "");
  const own = /^Anonymous: +(\d+) kB$/m.exec(systemBox.text(`/proc/${pid}/smaps_rollup`) ?? "")?.[1] ?? 0;
  const residentBytes = (stat?.residentPages ?? 0) * pageBytesOfMachine();
  return { cpuSeconds: stat?.cpuSeconds ?? 0, residentBytes, ownBytes: Number(own) * 1024 };
};

async function measure(windows: number, seconds: number) {
  const directory = await mkdtemp(join(tmpdir(), "holdfast-footprint-"));
  await using _scratch = { [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }) };
  const sections = Array.from({ length: programs }, (_, index) =>
    [
      "[[program]]",
      `name = "idle${index}"`,
      `command = ["/usr/bin/redis-server", "--port", "0", "--unixsocket", "${directory}/${index}.sock", "--save", ""]`,
    ].join("\n"),
  );
  const config = join(directory, "holdfast.toml");
  await Bun.write(config, `state = "${directory}/state"\nrun = "${directory}/run"\n\n${sections.join("\n\n")}\n`);
  const quiet = { stdio: ["ignore", "ignore", "ignore"] as ["ignore", "ignore", "ignore"] };
  const main = join(import.meta.dir, "../../src/cli/main.ts");
  const bare = Bun.spawn([process.execPath, "-e", "setInterval(() => {}, 1e6)"], quiet);
  const supervisor = Bun.spawn([process.execPath, main, "run", "--config", config], quiet);
  try {
    await untilGuarded(join(directory, "run"));
    await systemClock.sleep(settleMs);
    const windowsSeen: { share: number; bareShare: number; aboveBare: number; ownAboveBare: number }[] = [];
    for (let window = 0; window < windows; window += 1) {
      const [from, fromBare, fromNs] = [look(supervisor.pid), look(bare.pid), systemClock.monotonicNs()];
      await systemClock.sleep(seconds * 1000);
      const [to, toBare] = [look(supervisor.pid), look(bare.pid)];
      const passed = (systemClock.monotonicNs() - fromNs) / 1e9;
      windowsSeen.push({
        share: (to.cpuSeconds - from.cpuSeconds) / passed,
        bareShare: (toBare.cpuSeconds - fromBare.cpuSeconds) / passed,
        aboveBare: to.residentBytes - toBare.residentBytes,
        ownAboveBare: to.ownBytes - toBare.ownBytes,
      });
    }
    return windowsSeen;
  } finally {
    supervisor.kill("SIGTERM");
    bare.kill("SIGKILL");
    await Promise.all([supervisor.exited, bare.exited]);
    // Ending a run leaves its programs running.
    for (const pid of serversIn(directory)) process.kill(pid, "SIGKILL");
  }
}

/** @throws ProgramError where not all programs are guarded in time */
async function untilGuarded(runDirectory: string): Promise<void> {
  const endNs = systemClock.monotonicNs() + guardedMsMax * 1e6;
  while (systemClock.monotonicNs() < endNs) {
    const view = await askView(runDirectory).catch(() => null);
    if ((view?.workloads ?? []).filter(({ health }) => health.process.kind === "seen").length === programs) return;
    await systemClock.sleep(500);
  }
  throw new ProgramError("program.gone", `not all ${programs} programs were guarded within ${guardedMsMax} ms`);
}

/** The programs of this run, by the directory of their sockets. */
const serversIn = (directory: string): number[] =>
  systemBox
    .names("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((name) => (systemBox.text(`/proc/${name}/cmdline`) ?? "").includes(`${directory}/`))
    .map(Number);

const { json, numbers } = readFlags(process.argv.slice(2), { windows: 10, seconds: 10 });
const { windows, seconds } = numbers as { windows: number; seconds: number };
const seen = await measure(windows, seconds);
const results = {
  programs,
  mebibytesAboveBare: {
    median: rounded(median(seen.map(({ aboveBare }) => aboveBare / mebibyte)), 1),
    limit: rssMebibytesMax,
  },
  mebibytesOwnAboveBare: { median: rounded(median(seen.map(({ ownAboveBare }) => ownAboveBare / mebibyte)), 1) },
  shareOfCore: { median: rounded(median(seen.map(({ share }) => share)), 4), limit: shareMax },
  bareShareOfCore: { median: rounded(median(seen.map(({ bareShare }) => bareShare)), 4) },
  control: controlResult(seen.map(({ share }) => share + 1e-6)),
};
await publish({ name: "footprint", seed, rounds: windows, results, failed_runs: [] }, json);
