// SPDX-License-Identifier: Apache-2.0
/**
 * Many things at once: faults while the program ends, becomes another, forks, or is halted by an administrator; faults on
 * all threads, over and over. No thread may be left stopped, and no end may be missed.
 */
import { deadline } from "#clock.ts";
import type { Client } from "../client.ts";
import { wordOf } from "../client.ts";
import type { Expected, Specimen, Stage } from "../specimen.ts";

/** All say theirs together, each on a thread of its own; what they hear. */
const atOnce =
  (...whats: readonly string[]) =>
  async ({ enter }: Stage): Promise<readonly string[]> => {
    const clients: Client[] = [];
    for (const _ of whats) clients.push(await enter());
    for (const [index, what] of whats.entries()) clients[index]!.send(`die ${whats.length} ${what}\n`);
    return await Promise.all(clients.map(async (client) => wordOf(await client.hear())));
  };

const endsWith = (program: string, culprits: number): Expected => ({
  trials: ["more failed"],
  culprit: Array.from({ length: culprits }, () => "lost"),
  program,
});

const culprits = 6;
const turns = 5;

/** Cuts of one address whose close is seen at once; that of a later one is withheld for longer than a client waits. */
const cutsSeenAtOnce = 2;
const verdictsMsMax = 30_000;

/** Each comes back as often as it is cut. Gives how many went without an answer that no withheld close explains. */
async function storm({ enter, guarded: { guard } }: Stage): Promise<readonly string[]> {
  const heard = await Promise.all(
    Array.from({ length: culprits }, async () => {
      const own: string[] = [];
      for (let turn = 0; turn < turns; turn += 1) {
        const client = await enter();
        own.push(wordOf(await client.ask("die load")));
      }
      return own;
    }),
  );
  const silent = heard.flat().filter((word) => word === "silent").length;
  if (silent === 0) return ["silent 0"];
  const faults = guard.events.filter(({ event }) => event === "fault").length;
  await guard.waitFor((seen) => seen.event === "exit" || guard.outcomes().length >= faults, verdictsMsMax);
  const cuts = guard.outcomes().filter(({ rung }) => rung === "quarantine").length;
  return [`silent ${Math.max(0, silent - Math.max(0, cuts - cutsSeenAtOnce))}`];
}

/** Halted by SIGSTOP, the program is asked; it faults when it goes on. */
async function halted({ guarded, enter }: Stage): Promise<readonly string[]> {
  const client = await enter();
  process.kill(guarded.pid, "SIGSTOP");
  client.send("die load\n");
  process.kill(guarded.pid, "SIGCONT");
  return [wordOf(await client.hear())];
}

async function killed(stage: Stage): Promise<readonly string[]> {
  const raging = storm(stage).catch(() => []);
  process.kill(stage.guarded.pid, "SIGKILL");
  await raging;
  return [];
}

/** Microseconds from the fault to the signals of two timers: all within the stop, or nearly. */
const alarms = [200, 500, 1_000, 1_500, 2_000, 3_000];
const alarmsMsMax = 2_000;

/** Gives what each culprit hears, and how often a signal has come. */
async function alarmed({ enter, guarded: { guard } }: Stage): Promise<readonly string[]> {
  const heard: string[] = [];
  for (const [index, delayUs] of alarms.entries()) {
    heard.push(wordOf(await (await enter()).ask(`die ${delayUs}`)));
    await guard.waitFor(() => guard.outcomes().length > index, verdictsMsMax);
  }
  const listener = await enter();
  using late = deadline(alarmsMsMax, () => new DOMException("not all signals came", "TimeoutError"));
  for (;;) {
    const rung = wordOf(await listener.ask("rung"));
    if (rung === `said rung ${2 * alarms.length}` || late.signal.aborted) return [...heard, rung];
  }
}

const stormy = { trials: ["more clean"], culprit: ["silent 0"], program: "same" } as const;

export const storms: readonly Specimen[] = [
  {
    name: "memory.c, six culprits five times each, workers",
    build: { source: "memory.c" },
    loop: "workers",
    deed: storm,
    expected: stormy,
  },
  {
    name: "memory.c, six culprits five times each, threads",
    build: { source: "memory.c" },
    loop: "threads",
    core: true,
    deed: storm,
    expected: stormy,
  },
  {
    name: "memory.c, six culprits five times each, epoll",
    build: { source: "memory.c" },
    deed: storm,
    expected: stormy,
  },
  {
    name: "memory.c, halted by an administrator",
    build: { source: "memory.c" },
    core: true,
    deed: halted,
    expected: { trials: ["request clean"], culprit: ["lost"], program: "same" },
  },
  {
    name: "alarm.c, two timers' signals within the stop",
    build: { source: "alarm.c" },
    core: true,
    deed: alarmed,
    expected: {
      trials: ["more clean"],
      culprit: [...alarms.map(() => "lost"), `said rung ${2 * alarms.length}`],
      program: "same",
    },
  },
  {
    name: "memory.c, killed in a storm",
    build: { source: "memory.c" },
    loop: "workers",
    deed: killed,
    expected: { trials: ["more failed"], culprit: [], program: "SIGKILL" },
  },
  {
    name: "pair.c, a fault while another thread ends the program",
    build: { source: "pair.c" },
    loop: "threads",
    deed: atOnce("load", "load", "exit"),
    expected: endsWith("code 5", 3),
  },
  {
    name: "pair.c, a fault while another thread becomes another program",
    build: { source: "pair.c" },
    loop: "threads",
    deed: atOnce("load", "load", "exec"),
    expected: endsWith("code 6", 3),
  },
  {
    name: "pair.c, faults while another thread forks",
    build: { source: "pair.c" },
    loop: "threads",
    deed: atOnce("load", "fork", "load"),
    expected: {
      trials: ["request clean", "request clean"],
      culprit: ["lost", "said alive", "lost"],
      program: "same",
    },
  },
];
