// SPDX-License-Identifier: Apache-2.0
/**
 * Death of the parts: the supervisor is killed, its stub is killed, the program replaces itself. The program runs on, is
 * guarded again, its faults are survived or reported as what they are, and no thread stays stopped.
 */
import { afterAll, beforeAll, expect } from "bun:test";
import { copyFileSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startTicksOf, threadStateOf, tracerOf } from "#appliance/demo/processFacts.ts";
import { seededRandom, systemClock } from "#clock.ts";
import { readCommandLine, readStatus } from "#monitor/processes.ts";
import { compileOrdered, type OrderedProgram } from "#scripts/bench/orderedProgram.ts";
import { compileFaulter } from "#tests/peers/faulter.ts";
import { freshName, GuardRun, until } from "#tests/peers/guardRun.ts";
import { need, tracing } from "#tests/skip.ts";

const guarded = need("gcc", "gdbserver", tracing);
const timeoutMs = 90_000;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "holdfast-deaths-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const isRunning = (pid: number): boolean => startTicksOf(pid) !== null && threadStateOf(pid, pid) !== "t";

/** Orders that the program has come back from. */
function returned(program: OrderedProgram): number {
  const bytes = program.shared();
  return bytes.left < 8 ? 0 : Number(bytes.u64());
}

/** One fault, survived. */
async function survives(program: OrderedProgram, order = "l"): Promise<void> {
  const before = returned(program);
  program.order(order);
  await until(() => returned(program) > before, `return from order ${order}`);
}

const guardOf = (name: string, state: string, command: readonly string[]): GuardRun =>
  new GuardRun(["--name", name, "--state", state, "--", ...command]);

guarded(
  "the supervisor is killed at any moment of its work: taken over, no thread left stopped, nothing settled wrongly",
  async () => {
    const seed = Math.floor(systemClock.wallMs()) % 100_000;
    console.log(`seed ${seed}`);
    const random = seededRandom(seed);
    await using program = await compileOrdered("stop");
    const [name, state] = [freshName("killed"), join(folder, "killed")];
    let run = guardOf(name, state, program.command);
    const pid = await run.guarding();
    const warnings: unknown[] = [];
    for (let round = 0; round < 6; round += 1) {
      const before = returned(program);
      if (round % 3 !== 2) program.order("l");
      // From the fault to its verdict; every third time the fault comes only when nobody is there.
      if (round % 3 !== 2) await systemClock.sleep(random() * 6);
      await run.kill();
      if (round % 3 === 2) program.order("s");
      warnings.push(...run.seen("warning"), ...run.seen("delivered"));
      const next = guardOf(name, state, program.command);
      await run[Symbol.asyncDispose]().catch(() => {});
      run = next;
      expect(await run.guarding()).toBe(pid);
      await until(() => returned(program) > before, `return in round ${round}`);
      expect(isRunning(pid)).toBe(true);
    }
    await using last = run;
    await survives(program, "d");
    program.order("q");
    expect(await last.end()).toBe(0);
    expect([...warnings, ...last.seen("warning")]).toEqual([]);
    const faults = Bun.spawnSync([...verb, "faults", "--json", "--state", state])
      .stdout.toString()
      .trim()
      .split("\n");
    for (const { trials } of faults.map((line) => JSON.parse(line)))
      for (const trial of trials) expect(trial.verdict).not.toBeNull();
    expect(existsSync(`/run/holdfast/guards/${name}`)).toBe(false);
  },
  timeoutMs,
);

const verb = [process.execPath, join(import.meta.dir, "../../src/cli/main.ts")];

guarded(
  "a stub that is killed is replaced, again and again",
  async () => {
    await using program = await compileOrdered("stop");
    await using run = guardOf(freshName("stub"), join(folder, "stub"), program.command);
    const pid = await run.guarding();
    for (let round = 1; round <= 3; round += 1) {
      const stub = tracerOf(pid);
      process.kill(stub, "SIGKILL");
      await run.event("unguarded", round);
      await run.guarding(round + 1);
      expect(tracerOf(pid)).not.toBe(stub);
      await survives(program);
    }
    expect((await run.event("outcome", 3)).verdict).toBe("clean");
    program.order("q");
    expect(await run.end()).toBe(0);
  },
  timeoutMs,
);

guarded(
  "a stub that is stopped is found out, ended and replaced",
  async () => {
    await using program = await compileOrdered("stop");
    await using run = guardOf(freshName("stuck"), join(folder, "stuck"), program.command);
    const pid = await run.guarding();
    const stub = tracerOf(pid);
    process.kill(stub, "SIGSTOP");
    await run.guarding(2);
    expect(startTicksOf(stub)).toBeNull();
    await survives(program);
    program.order("q");
    expect(await run.end()).toBe(0);
  },
  timeoutMs,
);

guarded(
  "a stub that is killed in a fatal stop takes the program with it, which is told as what it is",
  async () => {
    for (const attached of [false, true]) {
      await using program = await compileOrdered("stop");
      const own = attached ? Bun.spawn([...program.command], { stdio: ["ignore", "ignore", "ignore"] }) : null;
      const words = own === null ? ["--restart", "never", "--", ...program.command] : ["--pid", String(own.pid)];
      await using run = new GuardRun(["--name", freshName("fatal"), ...words]);
      const pid = await run.guarding();
      run.signal("SIGSTOP");
      program.order("l");
      await until(() => threadStateOf(pid, pid) === "t", "the fatal stop");
      process.kill(tracerOf(pid), "SIGKILL");
      await until(() => startTicksOf(pid) === null, "the end of the program");
      run.signal("SIGCONT");
      // How an attached one ended is only seen where its parent has not asked first.
      expect(own === null ? [139] : [139, 76]).toContain((await run.end())!);
      expect(run.seen("exit")).toMatchObject([{ code: null, ...(own === null ? { signal: "SIGSEGV" } : {}) }]);
      expect(run.seen("outcome").filter(({ verdict }) => verdict !== "failed")).toEqual([]);
    }
  },
  timeoutMs,
);

guarded(
  "rung 6: a program that was lost to a fatal signal is started again under the same guard",
  async () => {
    await using program = await compileOrdered("stop");
    await using run = guardOf(freshName("again"), join(folder, "again"), program.command);
    const pid = await run.guarding();
    run.signal("SIGSTOP");
    program.order("l");
    await until(() => threadStateOf(pid, pid) === "t", "the fatal stop");
    process.kill(tracerOf(pid), "SIGKILL");
    await until(() => startTicksOf(pid) === null, "the end of the program");
    run.signal("SIGCONT");
    const next = await run.guarding(2);
    expect(next).not.toBe(pid);
    expect(run.seen("exit")).toMatchObject([{ code: null, signal: "SIGSEGV" }]);
    expect(run.seen("programFault")).toMatchObject([{ kind: "signal", act: "restart" }]);
    expect(await run.event("programOutcome")).toMatchObject({ rung: "restart", verdict: "clean" });
    expect(run.seen("outcome").filter(({ verdict }) => verdict !== "failed")).toEqual([]);
    expect(tracerOf(next)).not.toBe(0);
    run.signal("SIGTERM");
    expect(await run.end()).toBe(143);
  },
  timeoutMs,
);

guarded(
  "a program that replaces itself goes on being guarded",
  async () => {
    await using program = await compileOrdered("stop");
    const gate = join(folder, "gate");
    Bun.spawnSync(["mkfifo", gate]);
    const script = `exec 3<>${gate}; read line <&3; exec "$@"`;
    await using run = guardOf(freshName("exec"), join(folder, "exec"), ["sh", "-c", script, "sh", ...program.command]);
    const pid = await run.guarding();
    await Bun.write(Bun.file(gate), "go\n");
    expect(await run.guarding(2)).toBe(pid);
    expect(readCommandLine(pid)).toEqual([...program.command]);
    await survives(program);
    expect(await run.event("outcome")).toMatchObject({ rung: "abandon", verdict: "clean" });
    program.order("q");
    expect(await run.end()).toBe(0);
  },
  timeoutMs,
);

guarded(
  "a program whose threads come and go while it is attached to, and let go of",
  async () => {
    const program = Bun.spawn([compileFaulter()], { stdin: "pipe", stdout: "ignore", stderr: "ignore" });
    const churn = setIntervalOf(() => program.stdin.write("churn 100\n"));
    try {
      for (let round = 0; round < 3; round += 1) {
        await using run = new GuardRun(["--name", freshName("churn"), "--pid", String(program.pid)]);
        await run.guarding();
        run.signal("SIGTERM");
        expect(await run.end()).toBe(0);
        expect(run.seen("warning")).toEqual([]);
        for (const tid of threadsOf(program.pid)) expect(threadStateOf(program.pid, tid) ?? "gone").not.toMatch(/[tT]/);
        expect(tracerOf(program.pid)).toBe(0);
      }
      program.stdin.write("exit 4\n");
      program.stdin.flush();
      expect(await program.exited).toBe(4);
    } finally {
      churn.abort();
      program.kill("SIGKILL");
    }
  },
  timeoutMs,
);

/** Does something every few ms until it is aborted. */
function setIntervalOf(act: () => void): AbortController {
  const controller = new AbortController();
  const go = async (): Promise<void> => {
    while (!controller.signal.aborted) {
      act();
      await systemClock.sleep(40);
    }
  };
  void go();
  return controller;
}

const threadsOf = (pid: number): number[] =>
  [...new Bun.Glob("*").scanSync({ cwd: `/proc/${pid}/task`, onlyFiles: false })].map(Number);

guarded(
  "names of guards side by side, and who takes over what",
  async () => {
    const own = freshName("napper");
    const file = join(folder, own);
    copyFileSync(Bun.which("tail")!, file);
    const command = ["--", file, "-f", "/dev/null"];
    const state = ["--state", join(folder, "names")];
    const at = { directory: folder };
    await using first = new GuardRun([...state, ...command], at);
    const pid = await first.guarding();
    await using second = new GuardRun([...state, ...command], at);
    const other = await second.guarding();
    expect([first, second].map((run) => run.seen("guarding")[0]!.workload)).toEqual([own, `${own}-2`]);
    expect(other).not.toBe(pid);

    await using taken = new GuardRun([...state, "--name", own, ...command]);
    expect(await taken.end()).toBe(75);
    expect(taken.said).toMatch(
      new RegExp(`^holdfast: another supervisor \\(process ${first.pid}\\) guards under the name ${own};`),
    );
    await using again = new GuardRun([...state, "--pid", String(pid)]);
    expect(await again.end()).toBe(75);
    expect(again.said).toContain(`process ${first.pid}`);

    // Its supervisor dies: another command of that name is refused, another directory is another program.
    await first.kill();
    await using foreign = new GuardRun([...state, "--name", own, "--", file, "-f", "/dev/zero"]);
    expect(await foreign.end()).toBe(75);
    expect(foreign.said).toContain(`--name ${own} --pid ${pid}`);
    await using elsewhere = new GuardRun([...state, ...command], { directory: "/" });
    await elsewhere.guarding();
    expect(elsewhere.seen("guarding")[0]!.workload).toBe(`${own}-3`);
    await using heir = new GuardRun([...state, ...command], at);
    expect(await heir.guarding()).toBe(pid);
    expect(heir.seen("guarding")[0]!.workload).toBe(own);

    // By its process id it keeps its name, and is only let go.
    await heir.kill();
    await using byPid = new GuardRun([...state, "--pid", String(pid)]);
    expect(await byPid.guarding()).toBe(pid);
    expect(byPid.seen("guarding")[0]!.workload).toBe(own);
    byPid.signal("SIGINT");
    expect(await byPid.end()).toBe(0);
    expect([isRunning(pid), tracerOf(pid)]).toEqual([true, 0]);
    process.kill(pid, "SIGKILL");
  },
  timeoutMs,
);

guarded(
  "what an earlier supervisor left of a program that has ended since is cleared away",
  async () => {
    await using program = await compileOrdered("stop");
    const [name, state] = [freshName("left"), join(folder, "left")];
    await using first = guardOf(name, state, program.command);
    const pid = await first.guarding();
    const stub = tracerOf(pid);
    await first.kill();
    process.kill(pid, "SIGKILL");
    await until(() => startTicksOf(pid) === null);
    expect(startTicksOf(stub)).not.toBeNull();
    await using second = guardOf(name, state, program.command);
    expect(await second.guarding()).not.toBe(pid);
    expect(startTicksOf(stub)).toBeNull();
    program.order("q");
    expect(await second.end()).toBe(0);
  },
  timeoutMs,
);

guarded(
  "ten guards side by side",
  async () => {
    const programs = await Promise.all(Array.from({ length: 10 }, () => compileOrdered("stop")));
    const runs = programs.map((program, index) =>
      guardOf(freshName("ten"), join(folder, `ten-${index}`), program.command),
    );
    try {
      const pids = await Promise.all(runs.map((run) => run.guarding()));
      expect(new Set(pids).size).toBe(10);
      await Promise.all(programs.map((program) => survives(program)));
      await Promise.all(runs.map((run) => run.event("outcome")));
      expect(runs.map((run) => run.seen("outcome")[0]!.verdict)).toEqual(Array(10).fill("clean"));
      for (const pid of pids) expect(readStatus(pid)).not.toBeNull();
      for (const program of programs) program.order("q");
      expect(await Promise.all(runs.map((run) => run.end()))).toEqual(Array(10).fill(0));
      expect(runs.map((run) => run.said).join("")).toBe("");
      for (const run of runs) expect(existsSync(`/run/holdfast/guards/${run.words[1]}`)).toBe(false);
    } finally {
      for (const run of runs) await run[Symbol.asyncDispose]();
      for (const program of programs) await program[Symbol.asyncDispose]();
    }
  },
  timeoutMs,
);
