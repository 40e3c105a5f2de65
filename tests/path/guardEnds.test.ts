// SPDX-License-Identifier: Apache-2.0
/**
 * How a guard ends: the program's own exit code, the signals that people and service managers send, and who reads its
 * output. Whatever happens, no stub, no FIFO and no stopped thread is left.
 */
import { afterAll, beforeAll, expect } from "bun:test";
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startTicksOf, threadStateOf, tracerOf } from "#appliance/demo/processFacts.ts";
import { systemClock } from "#clock.ts";
import { freshName, GuardRun, until } from "#tests/peers/guardRun.ts";
import { holdfast } from "#tests/real/guardedServer.ts";
import { need, root, tracing } from "#tests/skip.ts";

const guarded = need("gdbserver", tracing);
const timeoutMs = 60_000;

/** Waits for input for ever, as a server does. */
const waiting = ["tail", "-f", "/dev/null"];

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "holdfast-ends-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Nothing of the guard is left but, where told so, its program. */
async function expectClean(name: string, pid: number, runs = false): Promise<void> {
  expect(existsSync(`/run/holdfast/guards/${name}`)).toBe(false);
  if (!runs) return expect(startTicksOf(pid)).toBeNull();
  expect(startTicksOf(pid)).not.toBeNull();
  expect(tracerOf(pid)).toBe(0);
  expect(threadStateOf(pid, pid)).not.toMatch(/[tT]/);
}

const started = (name: string, ...words: string[]): GuardRun => new GuardRun(["--name", name, ...words]);

guarded("the exit code is the program's, also of one that ends at once", async () => {
  const cases: [string[], number, object][] = [
    [["true"], 0, { code: 0, signal: null }],
    [["sh", "-c", "exit 7"], 7, { code: 7, signal: null }],
    [["sh", "-c", "sleep 0.4; exit 255"], 255, { code: 255, signal: null }],
    [["sh", "-c", "kill -9 $$"], 137, { code: null, signal: "SIGKILL" }],
    [["sh", "-c", "sleep 0.4; kill -TERM $$"], 143, { code: null, signal: "SIGTERM" }],
    [["sh", "-c", "kill -USR1 $$"], 138, { code: null, signal: "SIGUSR1" }],
    [["sh", "-c", "kill -40 $$"], 168, { code: null, signal: "SIG40" }],
  ];
  for (const [command, code, exit] of cases) {
    await using run = new GuardRun(["--name", freshName("code"), "--", ...command]);
    expect(await run.end()).toBe(code);
    expect(run.seen("exit")).toEqual([{ event: "exit", workload: run.words[1], ...exit }]);
    expect(run.said).toBe("");
  }
});

guarded("many and odd words reach the program as they are", async () => {
  const words = [
    "",
    " ",
    "a\nb",
    "'\"$x`*",
    "ü–漢",
    "-p",
    "--",
    "x".repeat(100_000),
    ...Array.from({ length: 5000 }, (_, i) => `${i}`),
  ];
  const script = join(folder, "a script, with ünusual 'name'");
  writeFileSync(script, `#!/bin/sh\nfor word; do printf '%s|' "$word"; done >"${join(folder, "words")}"\n`, {
    mode: 0o755,
  });
  await using run = new GuardRun(["--", script, ...words]);
  expect(await run.end()).toBe(0);
  expect(readFileSync(join(folder, "words"), "utf8")).toBe(`${words.join("|")}|`);
  expect(run.seen("exit")[0]!.workload).toBe("a-script--with--nusual--name-");
});

guarded("SIGTERM and SIGINT stop a started program in order; the session is its own; SIGHUP is passed on", async () => {
  const script = "trap 'exit 3' TERM; trap 'exit 4' INT; trap 'echo hup' HUP; while :; do sleep 0.1; done";
  for (const [signal, code] of [
    ["SIGTERM", 3],
    ["SIGINT", 4],
  ] as const) {
    const name = freshName("order");
    await using run = started(name, "--", "sh", "-c", script);
    const pid = await run.guarding();
    const session = (of: number): string =>
      readFileSync(`/proc/${of}/stat`, "latin1").split(") ").at(-1)!.split(" ")[3]!;
    expect([session(pid), session(run.pid)]).toEqual([String(pid), String(run.pid)]);
    run.signal("SIGHUP");
    await until(() => run.said.includes("hup"));
    run.signal(signal);
    expect(await run.end()).toBe(code);
    expect(run.seen("stopping")).toMatchObject([{ pid, signal }]);
    await expectClean(name, pid);
  }
});

guarded("a program that will not stop is killed by the second request, not by one sent twice at once", async () => {
  const name = freshName("deaf");
  await using run = started(name, "--", "sh", "-c", "trap '' INT TERM; while :; do sleep 0.1; done");
  const pid = await run.guarding();
  run.signal("SIGINT");
  run.signal("SIGINT");
  await run.event("stopping");
  await systemClock.sleep(500);
  expect(startTicksOf(pid)).not.toBeNull();
  run.signal("SIGTERM");
  expect(await run.end()).toBe(137);
  await expectClean(name, pid);
});

guarded(
  "attached: SIGINT, SIGTERM and SIGHUP let it go and leave it running; --detach-on-exit does so for a started one",
  async () => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      const program = Bun.spawn([...waiting], { stdio: ["ignore", "ignore", "ignore"] });
      try {
        const name = freshName("attached");
        await using run = started(name, "--pid", String(program.pid));
        const guarding = await run.event("guarding");
        expect(guarding).toMatchObject({ workload: name, pid: program.pid, threads: 1 });
        run.signal(signal);
        expect(await run.end()).toBe(0);
        expect(run.seen("unguarded")).toMatchObject([{ pid: program.pid, reason: "it was let go and runs on" }]);
        await expectClean(name, program.pid, true);
      } finally {
        program.kill("SIGKILL");
      }
    }
    const name = freshName("detach");
    await using run = started(name, "--detach-on-exit", "--", ...waiting);
    const pid = await run.guarding();
    run.signal("SIGINT");
    expect(await run.end()).toBe(0);
    await expectClean(name, pid, true);
    process.kill(pid, "SIGKILL");
  },
);

guarded("attached: how the program ends is told, and is the exit code", async () => {
  for (const [end, code] of [
    ["exit 5", 5],
    ["kill -TERM $$", 143],
  ] as const) {
    const fifo = join(folder, freshName("fifo"));
    Bun.spawnSync(["mkfifo", fifo]);
    const program = Bun.spawn(["sh", "-c", `exec 3<>${fifo}; read line <&3; ${end}`], {
      stdio: ["ignore", "ignore", "ignore"],
    });
    const name = freshName("attachedEnd");
    await using run = started(name, "--pid", String(program.pid));
    await run.guarding();
    writeFileSync(fifo, "go\n");
    expect(await run.end()).toBe(code);
    await expectClean(name, program.pid);
  }
});

guarded("Ctrl-C in a terminal reaches the supervisor alone; Ctrl-Z is refused", async () => {
  const name = freshName("terminal");
  const log = join(folder, name);
  // Says which signals reach it, and ends in order by itself.
  const script = `trap 'echo INT >>${log}; exit 6' INT; trap 'echo TSTP >>${log}' TSTP; while :; do sleep 0.1; done`;
  const words = [...holdfast, "guard", "--name", name, "--state", join(folder, "state"), "--", "sh", "-c", script];
  let screen = "";
  const child = Bun.spawn(words, {
    terminal: {
      cols: 200,
      data: (_terminal: unknown, bytes: Uint8Array) => {
        screen += new TextDecoder().decode(bytes);
      },
    },
  } as object);
  try {
    await until(() => screen.includes("guarding"), `guarding on the terminal: ${screen}`);
    const terminal = (child as unknown as { terminal: { write(text: string): void } }).terminal;
    terminal.write("\x1a");
    await until(() => screen.includes("not suspended"));
    terminal.write("\x03");
    await until(() => child.exitCode !== null, screen);
    expect(child.exitCode).toBe(6);
    // Once, as a signal to the group of the terminal would have come beside the one that is passed on.
    expect(readFileSync(log, "utf8")).toBe("INT\n");
    expect(screen).toContain("SIGINT was passed on");
  } finally {
    child.kill("SIGKILL");
  }
});

guarded("with --json the program's output goes to standard error, else where it belongs", async () => {
  const command = ["sh", "-c", "echo to-out; echo to-error >&2; sleep 0.3"];
  await using json = started(freshName("output"), "--", ...command);
  await json.end();
  expect(json.out.split("\n").filter((line) => !line.startsWith("{"))).toEqual([""]);
  expect(json.said).toBe("to-out\nto-error\n");
  await using text = new GuardRun(["--name", freshName("output"), "--", ...command], { json: false });
  await text.end();
  expect(text.out).toBe("to-out\n");
  expect(text.said).toMatch(/^to-error\nholdfast: (guarding .*\nholdfast: )?.* ended with exit code 0\n$/);
});

guarded("a reader that has gone away, or never reads, costs the protection nothing", async () => {
  for (const reader of ["head -c 20 >/dev/null", "sleep 30"]) {
    const name = freshName("reader");
    const guard = [...holdfast, "guard", "--json", "--name", name, "--state", join(folder, "state"), "--", ...waiting];
    const quoted = guard.map((word) => `'${word}'`).join(" ");
    const pidFile = join(folder, `${name}.pid`);
    const shell = Bun.spawn(["sh", "-c", `(echo $(sh -c 'echo $PPID') >${pidFile}; exec ${quoted}) | ${reader}`], {
      stdio: ["ignore", "ignore", "ignore"],
      detached: true,
    });
    const record = `/run/holdfast/guards/${name}/program.json`;
    const read = (): { pid: number; served: boolean } | null =>
      existsSync(record) ? JSON.parse(readFileSync(record, "utf8")) : null;
    await until(() => read()?.served === true, "guarding behind a closed pipe");
    const { pid } = read()!;
    const supervisor = Number(readFileSync(pidFile, "utf8"));
    const stub = tracerOf(pid);
    process.kill(stub, "SIGKILL"); // has it tell something, and work
    await until(() => tracerOf(pid) !== 0 && tracerOf(pid) !== stub, "a second stub");
    expect(startTicksOf(supervisor)).not.toBeNull();
    process.kill(supervisor, "SIGTERM");
    await until(() => startTicksOf(pid) === null && startTicksOf(supervisor) === null, "the end");
    await expectClean(name, pid);
    // The first reader has gone, and the shell with it.
    if (shell.exitCode === null && startTicksOf(shell.pid) !== null) process.kill(-shell.pid, "SIGKILL");
    await shell.exited;
  }
});

guarded("standard output and error that are full or closed cost nothing either", async () => {
  const full = openSync("/dev/full", "w");
  await using run = new GuardRun(["--name", freshName("full"), "--", "sh", "-c", "sleep 0.5; exit 9"], {
    stdout: full,
  });
  expect(await run.end()).toBe(9);
  closeSync(full);
  const words = [
    ...holdfast,
    "guard",
    "--name",
    freshName("closed"),
    "--state",
    join(folder, "state"),
    "--",
    "sh",
    "-c",
    "sleep 0.5; exit 9",
  ];
  const quoted = words.map((word) => `'${word}'`).join(" ");
  const closed = Bun.spawn(["sh", "-c", `exec ${quoted} <&- >&- 2>&-`], { stdio: ["ignore", "ignore", "ignore"] });
  expect(await closed.exited).toBe(9);
});

need(
  "gdbserver",
  "redis-server",
  tracing,
)("a program that goes to the background is guarded there, and stopped in order like one that stays", async () => {
  const [socket, pidFile] = [join(folder, "background.sock"), join(folder, "background.pid")];
  const redis = ["redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder];
  const name = freshName("background");
  await using run = started(name, "--", ...redis, "--daemonize", "yes", "--pidfile", pidFile);
  const pid = await run.guarding();
  await until(() => existsSync(pidFile) && readFileSync(pidFile, "utf8").trim() !== "");
  const daemon = Number(readFileSync(pidFile, "utf8"));
  if (pid !== daemon) expect(await run.guarding(2)).toBe(daemon);
  expect(tracerOf(daemon)).not.toBe(0);
  expect(run.seen("exit")).toEqual([]);
  run.signal("SIGTERM");
  expect(await run.end()).toBe(0);
  await expectClean(name, daemon);
});

need("gdbserver", root)(
  "a state directory that cannot be used: guarding goes on, and says so",
  async () => {
    const file = join(folder, "a file");
    writeFileSync(file, "");
    const foreign = join(folder, "foreign");
    const full = join(folder, "full");
    const readOnly = join(folder, "readOnly");
    const mount = (...words: string[]): boolean => Bun.spawnSync(["mount", ...words]).success;
    Bun.spawnSync(["mkdir", full, readOnly]);
    expect(mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", full)).toBe(true);
    expect(mount("-t", "tmpfs", "-o", "ro", "tmpfs", readOnly)).toBe(true);
    try {
      Bun.spawnSync(["sh", "-c", `head -c 1000000 /dev/zero >${full}/ballast`]);
      for (const state of [join(file, "state"), full, readOnly, foreign]) {
        const name = freshName("degraded");
        // Another user owns what this guard would write to.
        if (state === foreign) Bun.spawnSync(["install", "-d", "-o", "65534", join(foreign, "guards", name)]);
        await using run = started(name, "--state", state, "--", ...waiting);
        const pid = await run.guarding();
        expect(await run.event("record"), state).toMatchObject({ event: "record", workload: name, state: "blind" });
        expect(tracerOf(pid)).not.toBe(0);
        run.signal("SIGTERM");
        expect(await run.end()).toBe(143);
        await expectClean(name, pid);
      }
      await using text = new GuardRun(["--name", freshName("degraded"), "--state", full, "--", "sleep", "1"], {
        json: false,
      });
      await text.end();
      const [first = "", ...more] = text.said.trim().split("\n");
      expect(first).toMatch(/^holdfast: degraded: faults cannot be recorded now: .*guarded all the same$/);
      expect(more.filter((line) => !/^holdfast: (guarding|.* ended with)/.test(line))).toEqual([]);
    } finally {
      for (const place of [full, readOnly]) Bun.spawnSync(["umount", "-l", place]);
    }
  },
  timeoutMs,
);
