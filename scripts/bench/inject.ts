// SPDX-License-Identifier: Apache-2.0
/**
 * Seeded injection run: fatal faults at hot functions of live servers under checked load, guarded and not.
 *
 * `--seed N --faults N --servers redis,memcached,nginx,mosquitto (or lighttpd,apache2,haproxy,unbound,named,mariadb)
 * --json FILE [--policy ladder|neutralise-only] [--modes transient,sticky] [--library NAME] [--connections N] [--keep DIR]`.
 * For each server, functions that run all the time under load are drawn by the seed, of the program or of the library whose
 * file name begins so, and in each one a kind of fault: null base, wild base, call through null, abort. A control without
 * Holdfast comes first: a fault that does not kill there does not count. Then the same fault under guard, once
 * (transient) and up to 8 times (sticky), each on a fresh server. Classes: classify.ts. `--keep` keeps the state of runs
 * that were not survived. x86-64 only.
 */
import { join } from "node:path";
import { systemClock as clock, type Random, seededRandom } from "#clock.ts";
import { ConfigError, explain } from "#errors.ts";
import { publish } from "./benchReport.ts";
import { type Attack, type Control, runControl, runGuarded } from "./inject/attack.ts";
import { attachBare } from "./inject/bareStub.ts";
import { judgeRun } from "./inject/classify.ts";
import { type FaultKind, faultKinds, placesIn } from "./inject/faultPlaces.ts";
import { type CodeFunction, findHot, ProgramText, shuffled } from "./inject/hotCode.ts";
import { Load } from "./inject/load.ts";
import { lineOf, type Run, recordOf, totalsOf } from "./inject/runRecord.ts";
import { type ServerName, serverNames, startTarget, usualServers } from "./inject/servers.ts";

const modes = { transient: 1, sticky: 8 } as const;
type Mode = keyof typeof modes;
const policies = { ladder: [], "neutralise-only": ["--rungs", "neutralise"] } as const;
type PolicyName = keyof typeof policies;

type Settings = {
  readonly seed: number;
  readonly faults: number;
  readonly connections: number;
  readonly servers: readonly ServerName[];
  readonly modes: readonly Mode[];
  readonly policy: PolicyName;
  /** Whose code is attacked in place of the program's own: what a library's file name begins with. */
  readonly library: string | null;
  readonly json: string | null;
  readonly keep: string | null;
};

const placesMax = 12;
const warmAnswers = 20;
const listed = (words: string, known: readonly string[], flag: string): string[] => {
  const named = words.split(",").filter((word) => word !== "");
  const unknown = named.find((word) => !known.includes(word));
  if (unknown === undefined && named.length > 0) return named;
  throw new ConfigError("config.argument", `--${flag} takes ${known.join(", ")}, not ${unknown ?? "nothing"}`);
};

function readSettings(words: readonly string[]): Settings {
  const flags = new Map<string, string>();
  for (let index = 0; index < words.length; index += 2)
    flags.set(words[index]!.replace(/^--/, ""), words[index + 1] ?? "");
  const take = (flag: string, usual: string): string => {
    const value = flags.get(flag) ?? usual;
    flags.delete(flag);
    return value;
  };
  const count = (flag: string, usual: number): number => {
    const value = Number(take(flag, String(usual)));
    if (Number.isInteger(value) && value > 0) return value;
    throw new ConfigError("config.argument", `--${flag} takes a whole number from 1`);
  };
  const settings: Settings = {
    seed: count("seed", 1),
    faults: count("faults", 30),
    connections: count("connections", 48),
    servers: listed(take("servers", usualServers.join()), serverNames, "servers") as ServerName[],
    modes: listed(take("modes", "transient,sticky"), Object.keys(modes), "modes") as Mode[],
    policy: listed(take("policy", "ladder"), Object.keys(policies), "policy")[0] as PolicyName,
    library: take("library", "") || null,
    json: take("json", "") || null,
    keep: take("keep", "") || null,
  };
  const [unknown] = flags.keys();
  if (unknown !== undefined) throw new ConfigError("config.argument", `there is no --${unknown}`);
  return settings;
}

/** The functions that run under load, by looking at a server of its own. */
async function profile(attack: Attack): Promise<readonly CodeFunction[]> {
  await using target = await startTarget(attack.server);
  const { connections, seed } = attack;
  await using load = await Load.start({
    ...{ port: target.port, talk: target.talk, connections, seed, prefix: "client", clock },
  });
  await load.moreAnswers(warmAnswers);
  await using bare = await attachBare(target.pid);
  return await findHot(attack.text, target.pid, bare.relay, clock);
}

async function textOf(server: ServerName, library: string | null): Promise<ProgramText> {
  await using target = await startTarget(server);
  return await ProgramText.ofProcess(target.pid, library);
}

type Draw = { readonly function: CodeFunction; readonly kind: FaultKind; readonly control: Control };

/** A sequence for one function: which other functions are hot in this run changes nothing of it. */
const randomOf = (seed: number, server: ServerName, code: CodeFunction): Random =>
  seededRandom(Number(Bun.hash.xxHash32(`${seed} ${server} ${code.start}`)));

/** Goes through the hot functions in the order of the seed; gives those with a fault that is met and kills unguarded. */
async function* draws(attack: Attack): AsyncGenerator<Draw> {
  const { server, seed, text } = attack;
  const drawn = (await profile(attack)).map((code) => ({ code, random: randomOf(seed, server, code) }));
  const inOrder = drawn.map((draw) => ({ ...draw, rank: draw.random() })).sort((a, b) => a.rank - b.rank);
  console.log(`${server}: ${drawn.length} hot functions`);
  for (const { code, random } of inOrder) {
    for (const kind of shuffled(faultKinds, random)) {
      const places = placesIn(text, code, kind, random).slice(0, placesMax);
      const control = places.length === 0 ? null : await runControl(attack, places);
      if (control?.killed !== true) continue;
      yield { function: code, kind, control };
      break;
    }
  }
}

async function attackServer(server: ServerName, settings: Settings, runs: Run[], broken: unknown[]): Promise<void> {
  const { seed, connections, faults } = settings;
  const attack: Attack = { server, text: await textOf(server, settings.library), connections, seed };
  let number = 0;
  for await (const draw of draws(attack)) {
    for (const mode of settings.modes) {
      try {
        const run = await oneRun(attack, draw, mode, number, settings);
        if (run === null) broken.push({ server, mode, number, why: "no thread came by again" });
        else runs.push(run);
      } catch (error) {
        broken.push({ server, mode, number, why: explain(error) });
        console.log(`${server} ${number} ${mode}: ${explain(error)}`);
      }
    }
    number += 1;
    if (number >= faults) return;
  }
}

async function oneRun(attack: Attack, draw: Draw, mode: Mode, number: number, settings: Settings): Promise<Run | null> {
  const { server } = attack;
  const keep = settings.keep === null ? null : join(settings.keep, `${server}-${number}-${mode}`);
  const options = policies[settings.policy];
  const { place } = draw.control;
  const seen = await runGuarded(attack, place, modes[mode], { options, keep });
  if (seen === null) return null;
  const judgement = judgeRun(seen);
  const at = { function: `0x${draw.function.start.toString(16)}`, place: `0x${place.place.toString(16)}` };
  const run: Run = { number, server, mode, kind: draw.kind, ...at, judgement, seen };
  console.log(lineOf(run));
  return run;
}

function results(settings: Settings, runs: readonly Run[]): Record<string, unknown> {
  const rows: Record<string, unknown> = {
    policy: settings.policy,
    library: settings.library ?? "none",
    connections: settings.connections,
  };
  for (const mode of settings.modes) {
    const ofMode = runs.filter((run) => run.mode === mode);
    rows[mode] = totalsOf(ofMode);
    for (const server of settings.servers)
      rows[`${mode} ${server}`] = totalsOf(ofMode.filter((run) => run.server === server));
    for (const kind of faultKinds) rows[`${mode} ${kind}`] = totalsOf(ofMode.filter((run) => run.kind === kind));
  }
  return rows;
}

async function attackAll(): Promise<void> {
  const settings = readSettings(process.argv.slice(2));
  const runs: Run[] = [];
  const broken: unknown[] = [];
  for (const server of settings.servers) await attackServer(server, settings, runs, broken);
  const failed = runs.filter(
    ({ judgement: { strict, falseVerdict, resets } }) => !strict || falseVerdict || resets > 0,
  );
  await publish(
    {
      ...{ name: "inject", seed: settings.seed, rounds: runs.length, results: results(settings, runs) },
      failed_runs: [...failed.map(recordOf), ...broken],
    },
    settings.json,
  );
}

try {
  await attackAll();
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  console.error(`inject: ${explain(error)}`);
  process.exit(2);
}
