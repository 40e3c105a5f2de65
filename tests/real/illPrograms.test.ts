// SPDX-License-Identifier: Apache-2.0
/**
 * Programs that live on and are of no use after a fault, or that fault without an end: the supervisor starts them again, from
 * what it has seen itself, without a probe; and what was spent or could not be saved has its outcome.
 */
import { expect } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { startTicksOf } from "#appliance/demo/processFacts.ts";
import { systemClock } from "#clock.ts";
import { until } from "#tests/peers/guardRun.ts";
import { GuestRun, Playground } from "#tests/peers/guestRun.ts";
import { long, need, tracing } from "#tests/skip.ts";
import { build } from "./zoo/build.ts";
import { Client } from "./zoo/client.ts";

const testMs = 90_000;
const name = "server";
const askMs = 100;
const shortMs = 200;

/** A server of ours as `[[program]]`, through its lives. */
class Lives extends GuestRun {
  readonly portFile: string;

  static async start(ground: Playground, source: string, loop: string, ...lines: string[]): Promise<Lives> {
    const portFile = join(ground.path, "port");
    const program = await build({ source });
    return new Lives(ground, portFile, JSON.stringify([program, loop, `tcp:${portFile}`]), lines);
  }

  private constructor(ground: Playground, portFile: string, command: string, lines: readonly string[]) {
    const quick = ["probeEveryMs = 200", "restart = { backoffMs = 10 }"];
    super(ground, ["[[program]]", `name = "${name}"`, `command = ${command}`, ...quick, ...lines].join("\n"));
    this.portFile = portFile;
  }

  async guarding(): Promise<number> {
    const { pid } = (await this.next({ event: "guarding", workload: name })) as unknown as { pid: number };
    await until(() => existsSync(this.portFile), "its port");
    return pid;
  }

  open(): Promise<Client> {
    const port = Number(readFileSync(this.portFile, "utf8"));
    return Client.open({ kind: "tcp", host: "127.0.0.1", port, tls: false });
  }

  async stopAll(): Promise<void> {
    await this.control.program(name, "stop");
  }
}

const guarded = need("gcc", "gdbserver", tracing);

guarded(
  "a busy server reads on after a fault and answers nobody: it was not saved",
  async () => {
    using ground = new Playground();
    await using lives = await Lives.start(ground, "zombie.c", "epoll");
    await lives.guarding();
    const crowd = await Promise.all(Array.from({ length: 8 }, () => lives.open()));
    // One after the other without a pause: at no moment are most of them at rest.
    const asking = crowd.map(async (client) => {
      while (typeof (await client.ask("echo on")) !== "string");
    });
    await systemClock.sleep(shortMs);
    using culprit = await lives.open();
    culprit.send("die read\n");
    const { evidence } = (await lives.next({ event: "outcome", verdict: "failed" })) as unknown as {
      evidence: string[];
    };
    expect(String(evidence)).toContain("were read and not answered");
    for (const client of crowd) client[Symbol.dispose]();
    await Promise.all(asking);
    await lives.stopAll();
  },
  testMs,
);

guarded(
  "after a fault it sleeps for ever while requests wait: it is started again",
  async () => {
    using ground = new Playground();
    await using lives = await Lives.start(ground, "zombie.c", "epoll");
    const first = await lives.guarding();
    using culprit = await lives.open();
    const crowd = await Promise.all([lives.open(), lives.open(), lives.open()]);
    culprit.send("die sleep\n");
    await lives.next({ event: "fault", workload: name });
    const asking = new AbortController();
    const asked = (async () => {
      for (; !asking.signal.aborted; await systemClock.sleep(askMs)) for (const client of crowd) client.send("add 1\n");
    })();
    expect(await lives.next({ event: "outcome", workload: name })).toMatchObject({ verdict: "failed" });
    expect(await lives.next({ event: "programFault" })).toMatchObject({ kind: "zombie", act: "restart" });
    const second = await lives.guarding();
    asking.abort();
    await asked;
    expect(second).not.toBe(first);
    expect(await lives.next({ event: "programOutcome" })).toMatchObject({ rung: "restart", verdict: "clean" });
    expect(startTicksOf(first)).toBeNull();
    for (const client of crowd) client[Symbol.dispose]();
    await lives.stopAll();
  },
  testMs,
);

guarded(
  "past its budget it ends by its signal, which is an outcome, and is started again",
  async () => {
    using ground = new Playground();
    const budget = "budget = { siteActsMax = 3, windowMs = 60000 }";
    await using lives = await Lives.start(ground, "memory.c", "epoll", budget);
    const first = await lives.guarding();
    for (let act = 0; act < 3; act += 1) {
      using culprit = await lives.open();
      culprit.send("die load\n");
      expect(await lives.next({ event: "outcome", workload: name })).toMatchObject({ verdict: "clean" });
    }
    using last = await lives.open();
    last.send("die load\n");
    const outcome = await lives.next({ event: "outcome", workload: name });
    expect(outcome).toMatchObject({ rung: "restart", verdict: "failed" });
    expect(JSON.stringify(outcome)).toContain("its budget is spent");
    expect(await lives.next({ event: "programFault" })).toMatchObject({ kind: "signal", act: "restart" });
    expect(await lives.guarding()).not.toBe(first);
    await lives.stopAll();
  },
  testMs,
);

guarded(
  "a connection whose close is withheld tells the program nothing more, whatever its client does",
  async () => {
    using ground = new Playground();
    await using lives = await Lives.start(ground, "memory.c", "epoll");
    const first = await lives.guarding();
    const acts = 8;
    for (let act = 1; act <= acts; act += 1) {
      // From the third on the supervisor holds the socket open, while the program has freed the session.
      using culprit = await lives.open();
      culprit.send("die load\n");
      const outcome = await lives.next({ event: "outcome", workload: name });
      expect(outcome).toMatchObject({ rung: "quarantine", verdict: "clean" });
      culprit.send("echo late\n");
    }
    using later = await lives.open();
    expect(await later.ask("add 1")).toEqual({ line: "1" });
    expect((await lives.control.programs())[0]).toMatchObject({ pid: first, phase: "running" });
    expect(lives.notices.filter(({ event }) => event === "fault")).toHaveLength(acts);
    await lives.stopAll();
  },
  testMs,
);

/** A server of tests/programs that prints its port, as `[[program]]`. */
async function startPrinted(ground: Playground, source: string, words: readonly string[], ...lines: string[]) {
  const [program, said] = [join(ground.path, source), join(ground.path, "said")];
  const path = join(import.meta.dir, `../programs/${source}.c`);
  expect(Bun.spawnSync(["gcc", "-O2", "-w", "-pthread", "-o", program, path]).exitCode).toBe(0);
  const command = JSON.stringify(["sh", "-c", `said="$0"; exec "$@" 2>"$said"`, said, program, ...words]);
  const run = new GuestRun(ground, ["[[program]]", `name = "${name}"`, `command = ${command}`, ...lines].join("\n"));
  const { pid } = (await run.next({ event: "guarding", workload: name })) as unknown as { pid: number };
  const port = Number(/port (\d+)/.exec(readFileSync(said, "utf8"))?.[1]);
  return { run, pid, open: () => Client.open({ kind: "tcp", host: "127.0.0.1", port, tls: false }) };
}

const atLength = long("real") ? guarded : () => {};

atLength(
  "a lock that nobody can release is left with somebody waiting for it: it is started again",
  async () => {
    using ground = new Playground();
    const quick = ['rungsOff = ["quarantine", "park"]', "probeEveryMs = 200", "restart = { backoffMs = 10 }"];
    const { run, pid, open } = await startPrinted(ground, "locks", [], ...quick);
    await using _run = run;
    using killer = await open();
    killer.send("x:");
    await run.next({ event: "fault", workload: name });
    using waiter = await open();
    waiter.send("l:");
    const trouble = await run.next({ event: "programFault" });
    expect(trouble).toMatchObject({ kind: "zombie", act: "restart" });
    expect(JSON.stringify(trouble)).toContain("lock");
    expect(await run.next({ event: "guarding", workload: name })).not.toMatchObject({ pid });
    await run.control.program(name, "stop");
  },
  testMs,
);

guarded(
  "how long a thread may burn its processor is the configuration's to say",
  async () => {
    using ground = new Playground();
    const { run, pid, open } = await startPrinted(ground, "loops", ["epoll"], "hang = { waitedMs = 600 }");
    await using _run = run;
    using bystander = await open();
    using guilty = await open();
    guilty.send("l0");
    // What was answered before the loop began makes nobody wait.
    do bystander.send("p0");
    while ((await bystander.hear(shortMs)) !== "silent");
    expect(await run.next({ event: "fault", workload: name })).toMatchObject({ signal: "SIGSTOP" });
    expect(await run.next({ event: "outcome", workload: name })).toMatchObject({ verdict: "clean" });
    expect(await bystander.hear()).toEqual({ line: "ok" });
    expect((await run.control.programs())[0]).toMatchObject({ pid, phase: "running" });
    await run.control.program(name, "stop");
  },
  testMs,
);
