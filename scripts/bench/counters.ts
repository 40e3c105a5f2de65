// SPDX-License-Identifier: Apache-2.0
/**
 * What sampling costs, and what it costs the program that is sampled.
 *
 * Two comparisons, interleaved: the sampler at 100 Hz on a program of four threads (three that work often and shortly, and
 * the first, which waits) against a plain C loop that reads the same groups as often (A B B A), by processor time; and the
 * program's processor time for a piece of work without the sampler, and with it at 1,000 Hz. `--rounds N` (10 for figures to
 * quote), `--seconds N` a run, `--json FILE`.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { leanEnvironment } from "#cli/leanRuntime.ts";
import { systemClock } from "#clock.ts";
import { ProgramError } from "#errors.ts";
import { readThreads } from "#monitor/processes.ts";
import { controlResult, publish, readFlags, rounded } from "./benchReport.ts";
import { median, medianInterval } from "./statistics.ts";

const seed = 1;
const threads = 4;
const [sampledHz, fastHz] = [100, 1_000];

type ArmResult = {
  readonly loop: number;
  readonly sampler: number;
  readonly whole: number;
  readonly passedNs: number;
  readonly late: number;
};

async function compile(directory: string): Promise<string> {
  const program = join(directory, "counters");
  const built = Bun.spawnSync(["gcc", "-O2", "-pthread", "-o", program, join(import.meta.dir, "counters.c")]);
  if (!built.success) throw new ProgramError("program.notFound", `gcc: ${built.stderr.toString()}`);
  return program;
}

/** A program that works, and says how much processor time a piece of its work took since the last question. */
class Work implements AsyncDisposable {
  readonly #child;
  readonly #lines: AsyncIterator<string>;

  constructor(program: string) {
    this.#child = Bun.spawn([program, "work", `${threads - 1}`], { stdin: "pipe", stdout: "pipe" });
    this.#lines = linesOf(this.#child.stdout);
  }
  get pid(): number {
    return this.#child.pid;
  }
  async ready(): Promise<void> {
    await this.#lines.next();
  }
  /** ns for a piece of work since the last question. */
  async perPiece(): Promise<number> {
    this.#child.stdin.write("?\n");
    await this.#child.stdin.flush();
    const [ns, pieces] = String((await this.#lines.next()).value)
      .split(" ")
      .map(Number) as [number, number];
    return ns / pieces;
  }
  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.exited;
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let text = "";
  for await (const chunk of stream) {
    text += new TextDecoder().decode(chunk);
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n")) {
      yield text.slice(0, end);
      text = text.slice(end + 1);
    }
  }
}

/** In the form of the runtime that `holdfast run` has. */
async function output(command: string[]): Promise<string> {
  const env = leanEnvironment(process.env) ?? process.env;
  const child = Bun.spawn(command, { stdout: "pipe", stderr: "inherit", env });
  return (await child.stdout.text()).trim();
}

const arm = async (rateHz: number, seconds: number, pid: number): Promise<ArmResult> =>
  JSON.parse(
    await output([process.execPath, join(import.meta.dir, "countersArm.ts"), `${rateHz}`, `${seconds}`, `${pid}`]),
  ) as ArmResult;

async function measure(rounds: number, seconds: number) {
  const directory = await mkdtemp(join(tmpdir(), "holdfast-counters-"));
  await using _scratch = { [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }) };
  const program = await compile(directory);
  await using work = new Work(program);
  await work.ready();
  const ours: ArmResult[] = [];
  const plain: number[] = [];
  const [without, withSampler, control]: [number[], number[], number[]] = [[], [], []];
  const runPlain = async (): Promise<void> => {
    const tids = readThreads(work.pid).map(String);
    plain.push(Number(await output([program, "read", `${sampledHz}`, `${seconds}`, ...tids])) / seconds);
  };
  const runOurs = async (): Promise<void> => void ours.push(await arm(sampledHz, seconds, work.pid));
  const quiet = async (into: number[]): Promise<void> => {
    await work.perPiece();
    await systemClock.sleep(seconds * 1000);
    into.push(await work.perPiece());
  };
  const sampled = async (): Promise<void> => {
    // The bare loop of the arm runs first, then its Worker: the program is sampled all the time but for their beginnings.
    const running = arm(fastHz, seconds, work.pid);
    await systemClock.sleep(2_000);
    await work.perPiece();
    await systemClock.sleep(seconds * 1000);
    withSampler.push(await work.perPiece());
    await running;
  };
  for (let round = 0; round < rounds; round += 1) {
    const order = round % 2 === 0 ? [runPlain, runOurs] : [runOurs, runPlain];
    for (const run of order) await run();
    await quiet(round % 2 === 0 ? without : control);
    await sampled();
    await quiet(round % 2 === 0 ? control : without);
  }
  return { ours, plain, without, withSampler, control };
}

const { json, numbers } = readFlags(process.argv.slice(2), { rounds: 10, seconds: 5 });
const { rounds, seconds } = numbers as { rounds: number; seconds: number };
const { ours, plain, without, withSampler, control } = await measure(rounds, seconds);
const share = (ns: number, passedNs: number): number => ns / passedNs;
const ratios = ours.map(({ loop }, index) => loop / plain[index]!);
const slowed = withSampler.map((ns, index) => ns / ((without[index]! + control[index]!) / 2));
const results = {
  samplerShareOfCore: {
    median: rounded(median(ours.map(({ sampler, passedNs }) => share(sampler, passedNs))), 5),
    limit: 0.007,
  },
  bareLoopShareOfCore: { median: rounded(median(ours.map(({ loop }) => loop)) / 1e9, 5) },
  wholeProcessShareOfCore: { median: rounded(median(ours.map(({ whole, passedNs }) => share(whole, passedNs))), 5) },
  plainLoopShareOfCore: { median: rounded(median(plain) / 1e9, 5) },
  ratioToPlainLoop: { median: rounded(median(ratios), 3), interval: medianInterval(ratios, seed), limit: 1.5 },
  programSlowedAt1kHz: { median: rounded(median(slowed), 4), interval: medianInterval(slowed, seed), limit: 1.01 },
  lateTicks: ours.map(({ late }) => late),
  control: controlResult(control),
};
await publish({ name: "counters", seed, rounds, results, failed_runs: [] }, json);
