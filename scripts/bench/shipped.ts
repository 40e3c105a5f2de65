// SPDX-License-Identifier: Apache-2.0
/**
 * Faults that shipped: the crash commands of stock servers, each so many times in a row under checked load, guarded and not.
 *
 * `[--rounds 10] [--connections 100] [--seed N] [--json FILE]`. For each trigger and each pace of the load (closed: every
 * client always asks; open: at a fixed rate) one server with its own defaults, redis's memory test after a crash included.
 * Survived: the same process, no bystander cut, no answer wrong or missing, newcomers served after each crash, the last
 * verdict of each clean or degraded, and nobody cut but the guilty. A trigger that a newer package has fixed says so.
 */
import { Bystanders, type Pace } from "#appliance/demo/bystanders.ts";
import { frameMemcached, frameResp } from "#appliance/demo/framing.ts";
import type { OutcomeEvent } from "#appliance/demo/guardEvents.ts";
import type { GuardProcess } from "#appliance/demo/guardProcess.ts";
import { authenticatedTraffic } from "#appliance/demo/memcachedTraffic.ts";
import { threadStateOf } from "#appliance/demo/processFacts.ts";
import { redisTraffic } from "#appliance/demo/redisTraffic.ts";
import { limitAddressSpace, startServer } from "#appliance/demo/serverProcess.ts";
import { memcachedAccount } from "#appliance/demo/serverRecipes.ts";
import { type Trigger, triggers } from "#appliance/demo/triggers.ts";
import { systemClock as clock } from "#clock.ts";
import { explain } from "#errors.ts";
import { type GuardedServer, guardServer } from "#tests/real/guardedServer.ts";
import { publish, readFlags } from "./benchReport.ts";
import { median } from "./statistics.ts";

const paces: readonly Pace[] = [
  { kind: "closed", underWay: 2 },
  { kind: "open", requestsPerSecond: 4_000 },
];
const faultMsMax = 3_000;
const verdictMsMax = 20_000;
const newcomerRounds = 20;
const deathMsMax = 10_000;

const { json, numbers } = readFlags(process.argv.slice(2), { rounds: 10, connections: 100, seed: 1 });
const { rounds, connections, seed } = numbers as { rounds: number; connections: number; seed: number };

const talkOf = (program: Trigger["program"]) =>
  program === "memcached"
    ? { framing: frameMemcached, traffic: authenticatedTraffic(memcachedAccount.user, memcachedAccount.password) }
    : { framing: frameResp, traffic: redisTraffic };

/** What one crash came to; `wrong` is null where it was survived as promised. */
type Crash = { readonly verdict: string; readonly stopUs: number; readonly wrong: string | null };

/** `guilty`: clients that have crashed the server so far; one that was not cut may fault again when it leaves. */
async function crash(
  trigger: Trigger,
  number: number,
  { guard, port, pid }: GuardedServer,
  guilty: Set<string>,
): Promise<Crash | "fixed"> {
  const from = guard.events.length;
  if (trigger.addressBytesMax !== null) await limitAddressSpace(pid, trigger.addressBytesMax);
  const enough = new AbortController();
  const sending = trigger.send(port, number, enough.signal);
  sending.catch(() => {}); // Met again below, after the guard's word.
  const fault = await guard.waitFor(({ event }) => event === "fault" || event === "exit", faultMsMax, from);
  if (fault !== null) await guard.waitFor(() => isSettled(guard, from), verdictMsMax, from);
  enough.abort();
  await using killing = await sending;
  if (trigger.addressBytesMax !== null) await limitAddressSpace(pid, null);
  if (fault === null) return "fixed";
  const outcomes = guard.events.slice(from).filter((event): event is OutcomeEvent => event.event === "outcome");
  guilty.add(killing.peer);
  const wrong =
    whatIsWrong(outcomes, guilty) ?? ((await welcome(trigger, port, number)) ? null : "newcomer not served");
  const last = outcomes.at(-1);
  return { verdict: last?.verdict ?? "none", stopUs: last?.stopUs ?? 0, wrong };
}

function isSettled(guard: GuardProcess, from: number): boolean {
  const seen = guard.events.slice(from);
  const judged = new Set(seen.flatMap((event) => (event.event === "outcome" ? [event.id] : [])));
  const isOpen = seen.some((event) => event.event === "fault" && !judged.has(event.id));
  return seen.some(({ event }) => event === "exit") || !isOpen;
}

function whatIsWrong(outcomes: readonly OutcomeEvent[], guilty: ReadonlySet<string>): string | null {
  const last = outcomes.at(-1);
  if (last === undefined || last.verdict === "failed") return `the last verdict is ${last?.verdict ?? "missing"}`;
  const cut = outcomes.find(({ rung, session }) => rung === "quarantine" && !guilty.has(session?.peer ?? ""));
  return cut === undefined ? null : `${cut.session?.peer} was cut, and is not guilty`;
}

async function welcome({ program }: Trigger, port: number, number: number): Promise<boolean> {
  const prefix = `newcomer${number}`;
  const pace: Pace = { kind: "closed", underWay: 1 };
  try {
    await using newcomer = await Bystanders.start({
      ...{ port, ...talkOf(program), pace, prefix, connections: 1, seed: number, clock },
    });
    for (let round = 0; round < newcomerRounds; round += 1) await newcomer.roundTrip();
    const counts = await newcomer.stop();
    return counts.wrong + counts.missing + counts.lost === 0 && counts.right >= newcomerRounds;
  } catch {
    return false; // Not let in.
  }
}

type Row = { readonly crashes: readonly Crash[]; readonly harm: string | null; readonly fixed: boolean };

async function inARow(trigger: Trigger, pace: Pace): Promise<Row> {
  await using server = await guardServer(trigger.program);
  const load = await Bystanders.start({
    ...{ port: server.port, ...talkOf(trigger.program), pace, connections, seed, clock },
  });
  await load.roundTrip();
  const crashes: Crash[] = [];
  const guilty = new Set<string>();
  for (let number = 0; number < rounds; number += 1) {
    const seen = await crash(trigger, number, server, guilty);
    if (seen === "fixed") return { crashes, harm: null, fixed: true };
    crashes.push(seen);
    await load.roundTrip();
  }
  const { wrong, missing, lost, evidence } = await load.stop();
  const isStopped = "tT".includes(threadStateOf(server.pid, server.pid) ?? "-");
  const harms = [
    ...(server.isSame() ? [] : ["not the same process"]),
    ...(isStopped ? ["left stopped"] : []),
    ...(wrong + missing + lost > 0
      ? [`bystanders: ${wrong} wrong, ${missing} missing, ${lost} lost: ${evidence[0]}`]
      : []),
  ];
  return { crashes, harm: harms.length === 0 ? null : harms.join("; "), fixed: false };
}

/** Unguarded, one crash is the end; gives the signal that it ended with, or that it lived. */
async function unguarded(trigger: Trigger): Promise<string> {
  await using server = await startServer(trigger.program, clock);
  if (trigger.addressBytesMax !== null) await limitAddressSpace(server.pid, trigger.addressBytesMax);
  await using _killing = await trigger.send(server.port, 0);
  const end = await Promise.race([server.exited, clock.sleep(deathMsMax)]);
  return end === undefined ? "lives" : (end.signal ?? `code ${end.code}`);
}

const results: Record<string, unknown> = {};
const failedRuns: unknown[] = [];
for (const trigger of triggers) {
  const alone = await unguarded(trigger);
  for (const pace of paces) {
    const name = `${trigger.program} ${trigger.name}, ${pace.kind}`;
    const run = await inARow(trigger, pace).catch((error: unknown) => ({
      crashes: [],
      harm: explain(error),
      fixed: false,
    }));
    const { crashes, harm, fixed } = run;
    const count = (verdict: string): number => crashes.filter((seen) => seen.verdict === verdict).length;
    const good = harm === null ? crashes.filter(({ wrong }) => wrong === null).length : 0;
    const stopUsMedian = crashes.length === 0 ? null : median(crashes.map(({ stopUs }) => stopUs));
    results[name] = fixed
      ? "fixed in this package"
      : {
          survived: `${good} of ${rounds}`,
          clean: count("clean"),
          degraded: count("degraded"),
          stopUsMedian,
          unguarded: alone,
        };
    console.log(`${name}: ${JSON.stringify(results[name])}`);
    if (!fixed && good < rounds) failedRuns.push({ name, harm, wrong: crashes.map(({ wrong }) => wrong) });
  }
}
await publish({ name: "shipped", seed, rounds, results, failed_runs: failedRuns }, json);
