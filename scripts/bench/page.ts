// SPDX-License-Identifier: Apache-2.0
/**
 * What the status page costs the fault path, and what a fault storm costs the page. Rounds in turn, in one guard: quiet, and
 * flooded by 100 live readers that read nothing (16 are admitted) and `--connections` idle or half-open connections.
 *
 * In each round a guarded program (stop.c) faults `--faults` times, and pages and answers are asked for during the storm and
 * after it. Gives medians, their ratio, and the growth of the supervisor's memory. `--rounds N`, `--json FILE`.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GuardProcess } from "#appliance/demo/guardProcess.ts";
import { systemClock } from "#clock.ts";
import { publish, readFlags, rounded } from "./benchReport.ts";
import { compileOrdered, type OrderedProgram } from "./orderedProgram.ts";
import { median, quantile } from "./statistics.ts";

const outcomeMsMax = 20_000;
const betweenMs = 60;
const password = "correct horse battery";
const paths = ["", "faults", "api/v1/summary", "api/v1/faults"];
const holdfast = [process.execPath, join(import.meta.dir, "../../src/cli/main.ts")];

type Asked = { readonly headers: Readonly<Record<string, string>> };
type Phase = { stopsUs: number[]; stormMs: number[]; calmMs: number[]; rssBytes: number[] };
const phase = (): Phase => ({ stopsUs: [], stormMs: [], calmMs: [], rssBytes: [] });

/** Claims the page; gives a cookie for reading and tokens for live readers. */
async function logIn(url: string, claim: string): Promise<{ cookie: string; tokens: string[] }> {
  const post = (path: string, form: Record<string, string>, cookie = ""): Promise<Response> =>
    fetch(`${url}${path}`, {
      method: "POST",
      redirect: "manual",
      body: new URLSearchParams(form),
      headers: { origin: url.slice(0, -1), cookie },
    });
  const answer = await post("claim", { code: claim, name: "admin", password, again: password });
  const cookie = answer.headers.get("set-cookie")!.split(";")[0]!;
  const account = await (await fetch(`${url}account`, { headers: { cookie } })).text();
  const csrf = /name="csrf" value="([^"]+)"/.exec(account)![1]!;
  const tokens: string[] = [];
  for (let number = 0; number < 5; number += 1) {
    const text = await (
      await post("account/token", { csrf, label: `flood ${number}`, role: "view", days: "1" }, cookie)
    ).text();
    tokens.push(/hf_[\w-]{43}/.exec(text)![0]);
  }
  return { cookie, tokens };
}

async function ask(url: string, { headers }: Asked): Promise<number[]> {
  const times: number[] = [];
  for (const path of paths) {
    const startNs = systemClock.monotonicNs();
    const answer = await fetch(`${url}${path}`, { headers });
    await answer.arrayBuffer();
    if (answer.status === 200) times.push((systemClock.monotonicNs() - startNs) / 1e6);
  }
  return times;
}

async function round(
  guard: GuardProcess,
  program: OrderedProgram,
  url: string,
  asked: Asked,
  into: Phase,
  faults: number,
): Promise<void> {
  for (let number = 0; number < faults; number += 1) {
    const from = guard.events.length;
    program.order("l");
    const [times, outcome] = await Promise.all([
      ask(url, asked),
      guard.waitFor((event) => event.event === "outcome", outcomeMsMax, from),
    ]);
    into.stormMs.push(...times);
    if (outcome?.event === "outcome") into.stopsUs.push(outcome.stopUs);
  }
  for (let number = 0; number < faults; number += 1) {
    await systemClock.sleep(betweenMs);
    into.calmMs.push(...(await ask(url, asked)));
  }
  into.rssBytes.push(await rss(guard.pid));
}

async function rss(pid: number): Promise<number> {
  return Number(/VmRSS:\s+(\d+)/.exec(await Bun.file(`/proc/${pid}/status`).text())![1]) * 1024;
}

const flags = readFlags(process.argv.slice(2), { rounds: 3, faults: 40, connections: 10_000 });
const { rounds = 3, faults = 40, connections = 10_000 } = flags.numbers;
const scratch = await mkdtemp(join(tmpdir(), "holdfast-bench-"));
await using _scratch = { [Symbol.asyncDispose]: () => rm(scratch, { recursive: true, force: true }) };
await using program = await compileOrdered("stop");
const opened = Promise.withResolvers<{ url: string; claim: string }>();
const words = [
  "--name",
  `bench-page-${process.pid}`,
  "--state",
  join(scratch, "state"),
  "--status",
  "0",
  "--",
  ...program.command,
];
await using guard = new GuardProcess({
  holdfast,
  guardArguments: words,
  logPath: join(scratch, "log"),
  onLine: (line) => {
    if (line.includes('"event":"status"')) opened.resolve(JSON.parse(line));
  },
});
await guard.guarding();
const { url, claim } = await opened.promise;
const { cookie, tokens } = await logIn(url, claim);
const asked = { headers: { cookie } };
const flood = Bun.spawn([process.execPath, join(import.meta.dir, "pageFlood.ts"), new URL(url).port, ...tokens], {
  stdio: ["pipe", "pipe", "inherit"],
});
const lines = flood.stdout.pipeThrough(new TextDecoderStream()).getReader();
const order = async (text: string): Promise<Record<string, number>> => {
  flood.stdin.write(`${text}\n`);
  await flood.stdin.flush();
  return JSON.parse((await lines.read()).value ?? "{}");
};
const [warm, quiet, flooded] = [phase(), phase(), phase()];
await round(guard, program, url, asked, warm, faults);
const floods: Record<string, number>[] = [];
for (let number = 0; number < rounds; number += 1) {
  await round(guard, program, url, asked, quiet, faults);
  floods.push(await order(`open ${connections}`));
  await round(guard, program, url, asked, flooded, faults);
  await order("close");
}
flood.kill();
const summary = (values: readonly number[]) => ({
  count: values.length,
  median: rounded(median(values)),
  p99: rounded(quantile(values, 0.99)),
});
const results = {
  floods,
  quietStopUs: summary(quiet.stopsUs),
  floodedStopUs: summary(flooded.stopsUs),
  medianStopRatio: rounded(median(flooded.stopsUs) / median(quiet.stopsUs)),
  "page, quiet, calm, ms": summary(quiet.calmMs),
  "page, quiet, storm, ms": summary(quiet.stormMs),
  "page, flooded, calm, ms": summary(flooded.calmMs),
  "page, flooded, storm, ms": summary(flooded.stormMs),
  medianPageRatio: rounded(median(flooded.calmMs) / median(quiet.calmMs)),
  memoryGrowthMiB: rounded((Math.max(...flooded.rssBytes) - Math.max(...quiet.rssBytes, ...warm.rssBytes)) / 2 ** 20),
  memoryMiB: {
    quiet: quiet.rssBytes.map((bytes) => rounded(bytes / 2 ** 20)),
    flooded: flooded.rssBytes.map((bytes) => rounded(bytes / 2 ** 20)),
  },
};
await publish({ name: "page", seed: 0, rounds, results, failed_runs: [] }, flags.json);
