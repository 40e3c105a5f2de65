// SPDX-License-Identifier: Apache-2.0
/**
 * A specimen of the zoo: one kind of fault in one kind of server, what must come of it, and the run that shows it.
 *
 * Gets a specimen; builds its program, guards it as a user would, lets a culprit do its deed among bystanders who check
 * every answer, and gives what happened: the trials with their verdicts, the fate of culprit, bystanders and newcomers,
 * whether the program is the same, and whether any of its threads was left stopped.
 */
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { threadStateOf } from "#appliance/demo/processFacts.ts";
import { systemClock } from "#clock.ts";
import type { Rung, Verdict } from "#fault.ts";
import { type Guarded, guardCommand } from "../guardedServer.ts";
import { type Build, build } from "./build.ts";
import { Client, type Place, wordOf } from "./client.ts";
import { Crowd } from "./crowd.ts";

export type Loop = "epoll" | "poll" | "select" | "threads" | "fork" | "workers";

export type Specimen = {
  readonly name: string;
  readonly build: Build;
  readonly loop?: Loop;
  readonly listen?: "tcp" | "tcp6" | "unix" | "tls";
  /** Where no other processor has this kind of fault, or its compiler these flags. */
  readonly only?: "x64";
  /** Options of the guard. */
  readonly guard?: readonly string[];
  /** What the culprit says, each after the answer to the one before; or all it does. */
  readonly deed: readonly string[] | ((stage: Stage) => Promise<readonly string[]>);
  readonly expected: Expected;
  /** What happens until a named part of the engine exists; it passes too, and the test's name says what is missing. */
  readonly yet?: Expected & { readonly missing: string };
  /** True for those that the default form always runs. */
  readonly core?: boolean;
};

export type Expected = {
  /**
   * One for each fault, in order. `request`: abandoned as a whole or in part, and cut where the blame was sure (abandon,
   * quarantine or inward). `more`: any number of others with this verdict.
   */
  readonly trials: readonly `${Rung | "request" | "more"} ${Verdict}`[];
  /**
   * What the culprit heard: lines as `said …`, or how it ended. `lost`: its request failed in one of the ways that a
   * client can live with: cut, told of an error, or answered after all. `given up`: cut, or never answered again.
   */
  readonly culprit: readonly string[];
  /** "same", or how the program ended: a signal or `code N`; "unserved": the same, and of no use to anybody. */
  readonly program: string;
};

/** What a deed can use. Clients that it opens are closed with the stage. */
export type Stage = { readonly place: Place; readonly guarded: Guarded; enter(): Promise<Client> };

export type Observed = Expected & {
  readonly harmed: readonly string[];
  readonly newcomers: "served" | "not served";
  readonly threadsLeftStopped: number;
};

const portMsMax = 10_000;
const settleMsMax = 8_000;
const lookMs = 5;
/** Where no fault is to be seen, one is waited for so long. */
const quietMs = 300;

export async function observe(specimen: Specimen): Promise<Observed> {
  const program = await build(specimen.build);
  const directory = await mkdtemp(join(tmpdir(), "holdfast-specimen-"));
  const listen = specimen.listen ?? "tcp";
  const words = [specimen.loop ?? "epoll", `${listen === "tls" ? "tcp" : listen}:${join(directory, "place")}`, "4"];
  const workers = specimen.loop === "workers" ? words : words.slice(0, 2);
  try {
    await using guarded = await guardCommand(...(specimen.guard ?? []), "--", program, ...workers);
    const place = await placeOf(listen, join(directory, "place"));
    await using crowd = await Crowd.gather(place, systemClock);
    const clients: Client[] = [];
    const enter = async (): Promise<Client> => {
      const client = await Client.open(place);
      clients.push(client);
      return client;
    };
    const culprit = await act(specimen, { place, guarded, enter });
    const end = await settle(guarded, specimen.expected);
    const mayFail = [specimen.expected, specimen.yet].some((outcome) => outcome?.program === "unserved");
    if (end === null && !mayFail) await crowd.askAfterwards();
    const newcomers = await crowd.newcomer();
    const serves = newcomers === "served" || !mayFail;
    const observed = {
      // That nothing was left to be tried is an outcome, and no trial.
      trials: guarded.guard
        .outcomes()
        .filter(({ rung }) => rung !== "restart")
        .map(({ rung, verdict }) => `${rung} ${verdict}` as const),
      culprit,
      program: end ?? (guarded.isSame() ? (serves ? "same" : "unserved") : "another"),
      harmed: crowd.harmed(),
      newcomers,
      threadsLeftStopped: await stoppedThreads(guarded.pid),
    };
    for (const client of clients) client[Symbol.dispose]();
    return observed;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** What must be observed: bystanders and newcomers fare well wherever the program goes on. */
export function wholeOf(expected: Expected): Observed {
  const { trials, culprit, program } = expected;
  const goesOn = program === "same";
  return { trials, culprit, program, harmed: [], newcomers: goesOn ? "served" : "not served", threadsLeftStopped: 0 };
}

/** What to compare with: what is expected, or what happens until the missing part is there, if that is what happened. */
export function expectedIn({ expected, yet }: Specimen, observed: Observed): Expected {
  if (yet === undefined) return expected;
  const isYet = Bun.deepEquals(inWordsOf(yet, observed), wholeOf(yet));
  return isYet ? yet : expected;
}

/** The observation in the words of the expectation, where it says the same less exactly. */
export function inWordsOf(expected: Expected, observed: Observed): Observed {
  const trials = trialsInWordsOf(expected.trials, observed.trials);
  const culprit = observed.culprit.map((word, index) =>
    (ways[expected.culprit[index] ?? ""]?.test(word) ?? false) ? expected.culprit[index]! : word,
  );
  const harmed = expected.program === "same" ? observed.harmed : [];
  return { ...observed, trials: trials as Observed["trials"], culprit, harmed };
}

function trialsInWordsOf(expected: readonly string[], observed: readonly string[]): string[] {
  const said: string[] = [];
  let at = 0;
  for (const word of expected) {
    const [rung, verdict] = word.split(" ");
    if (rung === "more") {
      while (at < observed.length && observed[at]!.endsWith(` ${verdict}`)) at += 1;
      said.push(word);
    } else if (at < observed.length) {
      const trial = observed[at++]!;
      said.push(rung === "request" ? trial.replace(/^(abandon|quarantine|inward) /, "request ") : trial);
    }
  }
  return [...said, ...observed.slice(at)];
}

const ways: Readonly<Record<string, RegExp>> = {
  lost: /^(cut|said (.* )?error|said (alive|used).*)$/,
  "given up": /^(cut|silent)$/,
};

async function act({ deed }: Specimen, stage: Stage): Promise<readonly string[]> {
  if (typeof deed === "function") return await deed(stage);
  const client = await stage.enter();
  const heard: string[] = [];
  for (const request of deed) {
    heard.push(wordOf(await client.ask(request)));
    if (!client.isConnected) break;
  }
  return heard;
}

/** Waits for as many verdicts as are expected, or for the end where that is. Gives null, or how the program ended. */
async function settle({ guard }: Guarded, { trials, program }: Expected): Promise<string | null> {
  const wanted = trials.filter((trial) => !trial.startsWith("more ")).length;
  const goesOn = program === "same" || program === "unserved";
  const isSettled = (): boolean => goesOn && guard.outcomes().length >= Math.max(wanted, faultsOf(guard));
  if (isSettled() && trials.length === 0) await systemClock.sleep(quietMs);
  const event = await guard.waitFor((seen) => seen.event === "exit" || isSettled(), settleMsMax);
  return event?.event === "exit" ? (event.signal ?? `code ${event.code}`) : null;
}

const faultsOf = (guard: Guarded["guard"]): number => guard.events.filter(({ event }) => event === "fault").length;

async function placeOf(listen: NonNullable<Specimen["listen"]>, path: string): Promise<Place> {
  if (listen === "unix") return { kind: "unix", path };
  for (let waitedMs = 0; waitedMs < portMsMax; waitedMs += lookMs) {
    const text = await Bun.file(path)
      .text()
      .catch(() => "");
    if (text !== "") {
      return { kind: "tcp", host: listen === "tcp6" ? "::1" : "127.0.0.1", port: Number(text), tls: listen === "tls" };
    }
    await systemClock.sleep(lookMs);
  }
  throw new DOMException("the program does not listen", "TimeoutError");
}

async function stoppedThreads(pid: number): Promise<number> {
  const threads = await readdir(`/proc/${pid}/task`).catch(() => []);
  return threads.filter((tid) => "tT".includes(threadStateOf(pid, Number(tid)) ?? "-")).length;
}
