// SPDX-License-Identifier: Apache-2.0
/**
 * `[[program]]` under `holdfast run`: started and guarded, started again after a fault, given up in `error`, released,
 * taken over; and one program's trouble is nobody else's.
 */
import { expect, test } from "bun:test";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ControlClient } from "#appliance/controlClient.ts";
import { startTicksOf, tracerOf } from "#appliance/demo/processFacts.ts";
import type { ProgramStatus } from "#appliance/programs/programStatus.ts";
import { systemClock } from "#clock.ts";
import { isAlive } from "#monitor/processes.ts";
import { until } from "#tests/peers/guardRun.ts";
import { GuestRun, Playground } from "#tests/peers/guestRun.ts";
import { need, root, tracing } from "#tests/skip.ts";

const guarded = need("gdbserver", tracing);
const testMs = 60_000;
const quick = "restart = { attemptsMax = 2, backoffMs = 10, backoffMsMax = 20 }";
const program = (name: string, command: readonly string[], ...lines: string[]): string =>
  ["[[program]]", `name = "${name}"`, `command = ${JSON.stringify(command)}`, ...lines].join("\n");
const waiting = ["sleep", "600"];

class Run extends GuestRun {
  async show(name: string): Promise<ProgramStatus> {
    return (await this.control.programs()).find((one) => one.name === name)!;
  }

  /** Its process, once it is guarded. */
  async guarding(name: string): Promise<number> {
    return ((await this.next({ event: "guarding", workload: name })) as unknown as { pid: number }).pid;
  }

  /** Stops what a test has started: programs outlive their supervisor. */
  async stopAll(): Promise<void> {
    for (const { name, pid } of await this.control.programs())
      if (pid !== null) await this.control.program(name, "stop");
  }
}

guarded(
  "a program that dies is started again up to its budget, then waits for a person; its neighbour never notices",
  async () => {
    using ground = new Playground();
    await using run = new Run(ground, [program("falls", waiting, quick), program("stands", waiting)].join("\n"));
    const stands = await run.guarding("stands");
    for (let life = 0; life < 3; life += 1) {
      const pid = await run.guarding("falls");
      expect(tracerOf(pid)).not.toBe(0);
      process.kill(pid, "SIGSEGV");
      const act = life < 2 ? "restart" : "hold";
      expect(await run.next({ event: "programFault" })).toMatchObject({ workload: "falls", kind: "signal", act });
      if (life > 0)
        expect(await run.next({ event: "programOutcome" })).toMatchObject({ rung: "restart", verdict: "clean" });
    }
    await run.next({ event: "program", workload: "falls", phase: "error" });
    expect(await run.show("falls")).toMatchObject({
      phase: "error",
      pid: null,
      guarded: false,
      attempts: 2,
      attemptsMax: 2,
    });
    expect(await run.control.program("falls", "start")).toMatchObject({ phase: "running", attempts: 0 });
    await expect(run.control.program("falls", "start")).rejects.toMatchObject({ code: "program.state" });
    expect(await run.show("stands")).toMatchObject({ phase: "running", pid: stands, guarded: true, attempts: 0 });
    await run.stopAll();
    expect(startTicksOf(stands)).toBeNull();
  },
  testMs,
);

guarded(
  "what lives and does not serve is stopped and started again",
  async () => {
    using ground = new Playground();
    const file = join(ground.path, "serves");
    writeFileSync(file, "");
    const probing = [`probes = ["cmd:test -e ${file}"]`, "probeEveryMs = 100", "probeFailuresMax = 2", "stopMs = 200"];
    const deaf = ["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"];
    await using run = new Run(ground, program("zombie", deaf, ...probing, quick));
    const pid = await run.guarding("zombie");
    rmSync(file);
    expect(await run.next({ event: "programFault" })).toMatchObject({ kind: "zombie", act: "restart" });
    writeFileSync(file, "");
    expect(await run.guarding("zombie")).not.toBe(pid);
    expect(await run.next({ event: "programOutcome" })).toMatchObject({ verdict: "clean" });
    expect(startTicksOf(pid)).toBeNull();
    await run.stopAll();
  },
  testMs,
);

guarded(
  "one that cannot be started, or not be guarded, is its own trouble",
  async () => {
    using ground = new Playground();
    const sections = [program("missing", ["no-such-program"]), program("wrong", ["sh", "-c", "exit 3"], quick)];
    await using run = new Run(
      ground,
      [...sections, program("stands", waiting, 'after = ["missing", "wrong"]')].join("\n"),
    );
    await run.guarding("stands");
    expect(await run.show("missing")).toMatchObject({
      phase: "error",
      why: expect.stringContaining("no-such-program"),
    });
    expect(await run.show("wrong")).toMatchObject({ phase: "error", lastFault: { kind: "exitCode" } });
    await expect(run.control.program("mising", "start")).rejects.toMatchObject({ code: "config.argument" });
    await run.stopAll();
  },
  testMs,
);

need("gdbserver", root)(
  "user, group, directory and environment are what the section says",
  async () => {
    using ground = new Playground();
    const setting = ['user = "nobody"', 'group = "daemon"', 'directory = "/tmp"', 'environment = { COLOUR = "blue" }'];
    await using run = new Run(ground, program("as", waiting, ...setting));
    const pid = await run.guarding("as");
    expect(readFileSync(`/proc/${pid}/environ`, "latin1").split("\0")).toContain("COLOUR=blue");
    expect(readFileSync(`/proc/${pid}/status`, "latin1")).toMatch(/^Uid:\s65534.*\nGid:\s1\s/m);
    expect(await Bun.file(`/proc/${pid}/cwd`).exists()).toBe(false);
    expect((await run.show("as")).guarded).toBe(true);
    await run.stopAll();
  },
  testMs,
);

guarded(
  "released, a program is free for another debugger; taken back, it is guarded again",
  async () => {
    using ground = new Playground();
    await using run = new Run(ground, program("free", waiting));
    const pid = await run.guarding("free");
    expect(await run.control.program("free", "release")).toMatchObject({ pid, guarded: false, released: true });
    expect(tracerOf(pid)).toBe(0);
    await expect(run.control.program("free", "release")).rejects.toMatchObject({ code: "program.state" });
    const other = Bun.spawn(["gdbserver", "--attach", "--once", "stdio", String(pid)], {
      stdio: ["pipe", "ignore", "ignore"],
    });
    await until(() => tracerOf(pid) === other.pid, "another debugger");
    await expect(run.control.program("free", "take-back")).rejects.toMatchObject({ code: "program.busy" });
    other.kill("SIGKILL");
    await other.exited;
    await run.control.program("free", "take-back");
    expect(await run.guarding("free")).toBe(pid);
    expect(await run.show("free")).toMatchObject({ guarded: true, released: false });
    await run.stopAll();
  },
  testMs,
);

guarded(
  "programs outlive their supervisor, killed or restarted, and the next one takes them over",
  async () => {
    using ground = new Playground();
    const toml = [program("lives", waiting), program("stays-down", waiting)].join("\n");
    const path = join(ground.path, "holdfast.toml");
    writeFileSync(path, `run = "${ground.runDirectory}"\nstate = "${ground.stateDirectory}"\n${toml}`);
    const start = (): Bun.Subprocess =>
      Bun.spawn([process.execPath, join(import.meta.dir, "../../src/cli/main.ts"), "run", "--config", path], {
        stdio: ["ignore", "ignore", "ignore"],
      });
    const control = new ControlClient(ground.runDirectory);
    const shown = async (name: string): Promise<ProgramStatus | undefined> =>
      (await control.programs().catch(() => [])).find((one) => one.name === name);
    const settled = async (name: string, wanted: (one: ProgramStatus) => boolean): Promise<ProgramStatus> => {
      for (;;) {
        const one = await shown(name);
        if (one !== undefined && wanted(one)) return one;
        await systemClock.sleep(20);
      }
    };
    let supervisor = start();
    const { pid } = await settled("lives", ({ guarded }) => guarded);
    await settled("stays-down", ({ guarded }) => guarded);
    await control.program("stays-down", "stop");
    for (const signal of ["SIGKILL", "SIGHUP", "SIGTERM"] as const) {
      const stub = tracerOf(pid!);
      supervisor.kill(signal);
      await supervisor.exited;
      // Killed or restarted, its stub goes on holding it; stopped, it is let go.
      expect(tracerOf(pid!)).toBe(signal === "SIGTERM" ? 0 : stub);
      supervisor = start();
      expect(await settled("lives", ({ guarded }) => guarded)).toMatchObject({ pid, phase: "running", attempts: 0 });
      expect(await settled("stays-down", () => true)).toMatchObject({ phase: "stopped", pid: null });
    }
    await control.program("lives", "stop");
    supervisor.kill("SIGTERM");
    expect(await supervisor.exited).toBe(0);
    expect(isAlive(pid!)).toBe(false);
  },
  testMs,
);

test("a settings file with a program's mistakes is refused with line and suggestion", async () => {
  using ground = new Playground();
  const path = join(ground.path, "holdfast.toml");
  writeFileSync(
    path,
    ["[[program]]", 'name = "web"', 'comand = ["nginx"]', 'unit = "x.service"', 'user = "w"'].join("\n"),
  );
  const main = join(import.meta.dir, "../../src/cli/main.ts");
  const said = Bun.spawnSync([process.execPath, main, "validate", "--config", path]);
  expect(said.exitCode).toBe(78);
  expect(said.stderr.toString()).toMatch(/:3: program\[0\]\.comand: .*did you mean "?command"?/);
});
