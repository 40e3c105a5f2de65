// SPDX-License-Identifier: Apache-2.0
/**
 * What a guard costs a server with a process for each connection: PostgreSQL, a new connection for every question (pgbench -C),
 * in interleaved rounds over two clusters, one of them guarded, its processes held from birth.
 *
 * Gives the paired ratio of the time of one connection with its question, that of questions on connections that stay, and
 * the same between two rounds without a guard as control. `--rounds N`, `--questions N` a round, `--json FILE`. Wants root and
 * Debian's postgresql.
 */
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GuardProcess } from "#appliance/demo/guardProcess.ts";
import { stopChild } from "#appliance/demo/serverProcess.ts";
import { systemClock } from "#clock.ts";
import { ProgramError } from "#errors.ts";
import { publish, readFlags, rounded } from "./benchReport.ts";
import { median, medianInterval } from "./statistics.ts";

const postgresDirectory = "/usr/lib/postgresql";
const asPostgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"];
const pollMs = 50;
const readyMsMax = 30_000;
const seed = 1;

async function binariesOf(): Promise<string> {
  const versions = (await readdir(postgresDirectory)).sort((a, b) => Number(b) - Number(a));
  return join(postgresDirectory, versions[0]!, "bin");
}

async function say(words: readonly string[]): Promise<string> {
  const child = Bun.spawn([...words], { stdio: ["ignore", "pipe", "ignore"] });
  const said = await child.stdout.text();
  if ((await child.exited) === 0) return said;
  throw new ProgramError("program.state", `${words.join(" ")} failed`);
}

class Cluster {
  static async make(binaries: string, directory: string): Promise<Cluster> {
    await say(["install", "-d", "-o", "postgres", directory]);
    await say([...asPostgres, join(binaries, "initdb"), "-D", join(directory, "cluster"), "-A", "trust", "--no-sync"]);
    return new Cluster(binaries, directory);
  }

  private constructor(
    private readonly binaries: string,
    private readonly directory: string,
  ) {}

  get command(): string[] {
    const { binaries, directory } = this;
    const where = ["-D", join(directory, "cluster"), "-k", directory, "-c", "listen_addresses="];
    return [...asPostgres, join(binaries, "postgres"), ...where];
  }

  async ready(): Promise<void> {
    for (let waitedMs = 0; waitedMs < readyMsMax; waitedMs += pollMs) {
      const asked = this.ask("select 1");
      if ((await asked.catch(() => "")) !== "") break;
      await systemClock.sleep(pollMs);
    }
    await this.#pgbench("-i", "-q");
  }

  ask(question: string): Promise<string> {
    return say(["psql", "-h", this.directory, "-U", "postgres", "-Atc", question]);
  }

  /** Average of one question, ms; `anew`: each on a connection of its own. */
  async questionMs(questions: number, anew: boolean): Promise<number> {
    const said = await this.#pgbench("-n", "-S", "-t", String(questions), ...(anew ? ["-C"] : []));
    return Number(/latency average = ([\d.]+) ms/.exec(said)?.[1]);
  }

  #pgbench(...words: readonly string[]): Promise<string> {
    return say([join(this.binaries, "pgbench"), "-h", this.directory, "-U", "postgres", ...words, "postgres"]);
  }
}

const { json, numbers } = readFlags(process.argv.slice(2), { rounds: 20, questions: 50 });
const { rounds = 20, questions = 50 } = numbers;
const stayingFactor = 200;
const scratch = await mkdtemp(join(tmpdir(), "holdfast-bench-"));
await say(["chmod", "711", scratch]);
const binaries = await binariesOf();
const [plain, guarded] = [
  await Cluster.make(binaries, join(scratch, "plain")),
  await Cluster.make(binaries, join(scratch, "guarded")),
];
const child = Bun.spawn(plain.command, { stdio: ["ignore", "ignore", "ignore"] });
const results: Record<string, unknown> = {};
{
  const holdfast = [process.execPath, join(import.meta.dir, "../../src/cli/main.ts")];
  const where = ["--name", `connections-${process.pid}`, "--state", join(scratch, "state")];
  const guardArguments = [...where, "--", ...guarded.command];
  await using guard = new GuardProcess({ holdfast, guardArguments, logPath: join(scratch, "guard.log") });
  await guard.guarding();
  await Promise.all([plain.ready(), guarded.ready()]);
  // One that stays for a while shows what kind of server it is.
  await guarded.ask("select pg_sleep(1)");
  const anew = { plain: [] as number[], guarded: [] as number[], control: [] as number[] };
  const staying = { plain: [] as number[], guarded: [] as number[] };
  for (let round = 0; round < rounds; round += 1) {
    anew.plain.push(await plain.questionMs(questions, true));
    anew.guarded.push(await guarded.questionMs(questions, true));
    anew.control.push(await plain.questionMs(questions, true));
    staying.guarded.push(await guarded.questionMs(questions * stayingFactor, false));
    staying.plain.push(await plain.questionMs(questions * stayingFactor, false));
  }
  const ratio = (values: readonly number[], to: readonly number[]) => {
    const ratios = values.map((value, index) => value / to[index]!);
    const { low, high } = medianInterval(ratios, seed);
    return {
      ratio: rounded(median(ratios), 3),
      low: rounded(low, 3),
      high: rounded(high, 3),
      ms: rounded(median(values), 3),
    };
  };
  results["a connection and a question"] = ratio(anew.guarded, anew.plain);
  results["a question"] = ratio(staying.guarded, staying.plain);
  results.control = ratio(anew.control, anew.plain);
}
await stopChild(child);
await rm(scratch, { recursive: true, force: true });
await publish({ name: "connections", seed, rounds, results, failed_runs: [] }, json);
