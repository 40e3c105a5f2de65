// SPDX-License-Identifier: Apache-2.0
/**
 * Who is to blame, and who must not pay: pipelined requests, faults at the same moment, damaged state, a culprit who comes
 * again and again, and faults that happen with a bystander's session in hand.
 */
import { type Client, wordOf } from "../client.ts";
import type { Specimen, Stage } from "../specimen.ts";

const verdictMsMax = 5_000;

const enterMany = (stage: Stage, count: number): Promise<Client[]> =>
  Promise.all(Array.from({ length: count }, () => stage.enter()));

/** Three requests in one packet, the second one fatal: what is answered is right and in order, as far as it goes. */
async function pipelined({ enter }: Stage): Promise<readonly string[]> {
  const client = await enter();
  client.send("add 1\ndie load\nadd 2\n");
  const heard: string[] = [];
  for (let answer = 0; answer < 3; answer += 1) heard.push(wordOf(await client.hear(2000)));
  const told = heard.join(", ");
  return [["cut, cut, cut", "said 1, said error, said 3"].includes(told) ? "in step" : told];
}

/** Clients on different threads fault together. */
const together =
  (count: number, what: string) =>
  async (stage: Stage): Promise<readonly string[]> => {
    const clients = await enterMany(stage, count);
    for (const client of clients) client.send(`die ${count} ${what}\n`);
    return await Promise.all(clients.map(async (client) => wordOf(await client.hear())));
  };

async function overAndOver({ enter }: Stage): Promise<readonly string[]> {
  const heard: string[] = [];
  for (let turn = 0; turn < 6; turn += 1) heard.push(wordOf(await (await enter()).ask("die load")));
  return heard;
}

/**
 * State that one client has spoilt makes the requests of all others fault. After two that were there before, the state is
 * blamed: only the function that failed is abandoned, and the requests are answered. Each waits for the verdict before.
 */
async function spoilt(stage: Stage): Promise<readonly string[]> {
  const { guard } = stage.guarded;
  const clients = await enterMany(stage, 7);
  for (const client of clients) await client.ask("echo here");
  const heard = [wordOf(await clients[0]!.ask("break"))];
  for (const client of clients.slice(1)) {
    const from = guard.events.length;
    heard.push(wordOf(await client.ask("use")));
    await guard.waitFor(({ event }) => event === "outcome", verdictMsMax, from);
  }
  return heard;
}

/** The members of a room, who did nothing, are still there and in step. */
const room =
  (word: string, answered: boolean, turns: number) =>
  async ({ enter }: Stage): Promise<readonly string[]> => {
    const members: Client[] = [];
    for (let index = 0; index < 5; index += 1) {
      const member = await enter();
      members.push(member);
      member.send(`${word}\n`);
      if (answered) await member.hear();
    }
    for (let turn = 0; turn < turns; turn += 1) await (await enter()).ask("die hello");
    const heard = await Promise.all(members.map(async (member) => wordOf(await member.ask("echo still here"))));
    return heard;
  };

const here = Array.from({ length: 5 }, () => "said still here");

export const sessions: readonly Specimen[] = [
  {
    name: "memory.c, three requests in one packet",
    build: { source: "memory.c" },
    core: true,
    deed: pipelined,
    expected: { trials: ["request clean"], culprit: ["in step"], program: "same" },
  },
  {
    name: "pair.c, two threads at the same moment",
    build: { source: "pair.c" },
    loop: "workers",
    core: true,
    deed: together(2, "load"),
    expected: { trials: ["request clean", "request clean"], culprit: ["lost", "lost"], program: "same" },
  },
  {
    name: "pair.c, four threads abort at the same moment",
    build: { source: "pair.c" },
    loop: "threads",
    deed: together(4, "abort"),
    expected: {
      trials: Array.from({ length: 4 }, () => "request clean" as const),
      culprit: Array.from({ length: 4 }, () => "lost"),
      program: "same",
    },
  },
  {
    name: "memory.c, six times in a row",
    build: { source: "memory.c" },
    deed: overAndOver,
    expected: {
      trials: Array.from({ length: 6 }, () => "request clean" as const),
      culprit: Array.from({ length: 6 }, () => "lost"),
      program: "same",
    },
  },
  {
    name: "state.c, spoilt by one and used by six",
    build: { source: "state.c" },
    deed: spoilt,
    expected: {
      trials: ["request clean", "request clean", "request clean", "inward clean", "inward clean", "inward clean"],
      culprit: ["said broken", "lost", "lost", "lost", "said used 7", "said used 7", "said used 7"],
      program: "same",
    },
  },
  {
    name: "room.c, a bystander's session in hand",
    build: { source: "room.c" },
    core: true,
    deed: room("join", true, 3),
    expected: { trials: ["request clean", "request clean", "request clean"], culprit: here, program: "same" },
  },
  {
    name: "room.c, the session in hand has never been answered",
    build: { source: "room.c" },
    deed: room("listen", false, 3),
    expected: { trials: ["request clean", "request clean", "request clean"], culprit: here, program: "same" },
  },
];
