// SPDX-License-Identifier: Apache-2.0
/**
 * One injected fault: the control without Holdfast, which must kill the server, and runs under guard.
 *
 * Gets a server's name, a fault and how often it recurs; gives what was seen. Every run has a server of its own, started
 * fresh, under checked load from before the fault until after the verdict.
 */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { FaultEvent, OutcomeEvent } from "#appliance/demo/guardEvents.ts";
import { GuardProcess } from "#appliance/demo/guardProcess.ts";
import { parseElf } from "#binary/elf.ts";
import { parseMaps } from "#binary/maps.ts";
import { systemClock as clock } from "#clock.ts";
import { assert, ProgramError } from "#errors.ts";
import { attachBare } from "./bareStub.ts";
import type { Observation } from "./classify.ts";
import type { FaultPlace } from "./faultPlaces.ts";
import { biasOf, type ProgramText } from "./hotCode.ts";
import { Load } from "./load.ts";
import type { Act } from "./orders.ts";
import { RelayPlace } from "./relayPlace.ts";
import { type ServerName, startTarget, type Target } from "./servers.ts";

export type Attack = {
  readonly server: ServerName;
  readonly text: ProgramText;
  readonly connections: number;
  readonly seed: number;
};

const warmAnswers = 5;
const passMsMax = 300;
const hitMsMax = 5_000;
const deathMsMax = 5_000;
const pollMs = 10;
/** Watched so long after the last fault or verdict. */
const quietMs = 1_700;
const watchMsMax = 30_000;
const newcomers = 8;
const newcomerAnswers = 25;
const laterAnswers = 10;

const startLoad = ({ connections, seed }: Attack, target: Target): Promise<Load> =>
  Load.start({ port: target.port, talk: target.talk, connections, seed, prefix: "client", clock });

export type Control = { readonly place: FaultPlace; readonly killed: boolean; readonly signals: readonly string[] };

/** Sets up the fault without Holdfast at the first of the places that a thread comes by; null where none does. */
export async function runControl(attack: Attack, places: readonly FaultPlace[]): Promise<Control | null> {
  await using target = await startTarget(attack.server);
  await using load = await startLoad(attack, target);
  await load.moreAnswers(warmAnswers);
  await using bare = await attachBare(target.pid);
  for (const place of places) {
    const from = bare.relay.reports.length;
    bare.relay.send(await orderFor(attack, target, place, 1, true));
    const report = await bare.relay.waitFor(({ report }) => report !== "cleared", passMsMax, from);
    assert(report?.report !== "broken", `the relay failed: ${JSON.stringify(report)}`);
    if (report === null || report.report !== "injected") continue;
    for (let waitedMs = 0; waitedMs < deathMsMax && target.isSame(); waitedMs += pollMs) await clock.sleep(pollMs);
    return { place, killed: !target.isSame(), signals: bare.delivered };
  }
  return null;
}

export type GuardSetting = { readonly options: readonly string[]; readonly keep: string | null };

/** The same fault under guard, `times` times at most; null where no thread came by. */
export async function runGuarded(
  attack: Attack,
  place: FaultPlace,
  times: number,
  setting: GuardSetting,
): Promise<Observation | null> {
  await using target = await startTarget(attack.server);
  await using load = await startLoad(attack, target);
  await using relay = await RelayPlace.open();
  const scratch = setting.keep ?? (await mkdtemp(join(tmpdir(), "holdfast-inject-")));
  await mkdir(scratch, { recursive: true });
  await using _scratch = { [Symbol.asyncDispose]: () => forget(scratch, setting.keep !== null) };
  const name = `inject-${process.pid}-${target.pid}`;
  const words = ["--name", name, "--state", join(scratch, "state"), ...setting.options, "--pid", String(target.pid)];
  await using guard = new GuardProcess({
    holdfast: ["env", `PATH=${relay.searchPath}`, process.execPath, join(import.meta.dir, "../../../src/cli/main.ts")],
    guardArguments: words,
    logPath: join(scratch, "log"),
  });
  await guard.guarding();
  await relay.ready();
  await load.moreAnswers(warmAnswers);
  relay.send(await orderFor(attack, target, place, times, false));
  const first = await relay.waitFor(({ report }) => report === "injected" || report === "broken", hitMsMax);
  if (first === null) return null;
  assert(first.report !== "broken", `the relay failed: ${JSON.stringify(first)}`);
  await untilQuiet(guard, relay, target);
  return await observe(attack, target, load, guard, relay);
}

async function untilQuiet(guard: GuardProcess, relay: RelayPlace, target: Target): Promise<void> {
  const startNs = clock.monotonicNs();
  let news = 0;
  let newsNs = startNs;
  while (clock.monotonicNs() - startNs < watchMsMax * 1e6) {
    const seen = guard.events.length + relay.reports.length;
    if (seen !== news) [news, newsNs] = [seen, clock.monotonicNs()];
    const judged = guard.outcomes().length >= faultsOf(guard).length;
    const quiet = clock.monotonicNs() - newsNs > quietMs * 1e6;
    if ((quiet && judged) || !target.isSame()) return;
    await clock.sleep(pollMs);
  }
}

async function observe(
  attack: Attack,
  target: Target,
  load: Load,
  guard: GuardProcess,
  relay: RelayPlace,
): Promise<Observation> {
  // What is still to recur would hit newcomers, who are to show that the server serves.
  relay.send({ order: "clear", pid: target.pid });
  const goesOn = await load.moreAnswers(laterAnswers);
  const newcomerFates = await welcome(attack, target);
  return {
    injected: relay.reports.filter(({ report }) => report === "injected").length,
    faults: faultsOf(guard),
    outcomes: guard.outcomes() as OutcomeEvent[],
    same: target.isSame(),
    fates: load.fates(),
    goesOn,
    newcomers: newcomerFates,
  };
}

/** Clients that come now, as many as reach every worker, and have a checked talk; none where they are not let in. */
async function welcome({ seed }: Attack, target: Target): Promise<Observation["newcomers"]> {
  try {
    const { port, talk } = target;
    await using load = await Load.start({
      port,
      talk,
      connections: newcomers,
      seed: seed + 1,
      prefix: "newcomer",
      clock,
    });
    await load.moreAnswers(newcomerAnswers);
    return load.fates();
  } catch {
    return []; // Not accepted: that is the answer.
  }
}

const faultsOf = (guard: GuardProcess): FaultEvent[] =>
  guard.events.filter((event): event is FaultEvent => event.event === "fault");

async function orderFor(
  { text }: Attack,
  { pid }: Target,
  { place, act }: FaultPlace,
  times: number,
  natural: boolean,
) {
  const bias = await text.biasIn(pid);
  return { order: "inject" as const, pid, place: place + bias, act: await moved(act, bias, pid), times, natural };
}

async function moved(act: Act, bias: number, pid: number): Promise<Act> {
  if (act.kind !== "abort") return act;
  return { ...act, returnTo: act.returnTo + bias, abort: await addressOf("abort", pid) };
}

const libraryPattern = /\/libc\.so\.6$/;

/** Where a function of the C library lies in a process. */
async function addressOf(symbol: string, pid: number): Promise<number> {
  const maps = parseMaps(await Bun.file(`/proc/${pid}/maps`).text());
  const path = maps.find((row) => libraryPattern.test(row.path))?.path;
  assert(path !== undefined, "the program uses no glibc", { pid });
  const image = parseElf(await Bun.file(path).bytes());
  for (let index = 0; index < image.frames.count; index += 1) {
    const start = image.frames.startAt(index);
    if (image.symbolAt(start)?.name === symbol) return start + (await biasOf(pid, path, image));
  }
  throw new ProgramError("program.unsupported", `the C library has no ${symbol}`, { path });
}

async function forget(directory: string, kept: boolean): Promise<void> {
  if (!kept) await rm(directory, { recursive: true, force: true });
}
