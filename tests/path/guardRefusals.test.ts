// SPDX-License-Identifier: Apache-2.0
/**
 * What `holdfast guard` refuses: one line that says what, where and what to do, an exit code of the README's table, and
 * nothing left behind: no process stopped, no stub, no FIFO, and no program that was started for nothing.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startTicksOf, tracerOf } from "#appliance/demo/processFacts.ts";
import { exitCodes } from "#cli/exitCodes.ts";
import { readCommandLine } from "#monitor/processes.ts";
import { freshName, GuardRun, type GuardRunOptions, until } from "#tests/peers/guardRun.ts";
import { type Need, need, programPath, root, tracing } from "#tests/skip.ts";

const timeoutMs = 60_000;
const nobody = 65_534;
const asNobody = ["setpriv", `--reuid=${nobody}`, `--regid=${nobody}`, "--clear-groups"];
const guarded = need("gdbserver", tracing);

/** An ordinary user can run this checkout. */
const openCheckout: Need = () => {
  const main = join(import.meta.dir, "../../src/cli/main.ts");
  const look = [
    programPath("setpriv") ?? "false",
    ...asNobody.slice(1),
    "sh",
    "-c",
    'test -r "$1" && exec "$2" --version',
  ];
  const looked = Bun.spawnSync([...look, "sh", main, process.execPath]);
  return looked.success ? null : "a checkout and a Bun that other users may read";
};

let folder = "";
const path = (name: string): string => join(folder, name);
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "holdfast-refusals-"));
  chmodSync(folder, 0o755);
  mkdirSync(path("home"));
  chmodSync(path("home"), 0o777);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

type Refused = { readonly code: number | null; readonly said: string };

/** Runs a guard that is to refuse, and sees that it leaves nothing. */
async function refused(words: readonly string[], options: GuardRunOptions = {}): Promise<Refused> {
  const name = freshName("refused");
  await using run = new GuardRun(words.includes("--name") ? words : ["--name", name, ...words], options);
  const code = await run.end();
  expect(run.seen("guarding")).toEqual([]);
  expect(existsSync(`/run/holdfast/guards/${name}`)).toBe(false);
  const said = run.said.trim();
  return { code, said };
}

/** One line, the program's name in front. */
function expectLine({ said, code }: Refused, wanted: RegExp, exitCode: number): void {
  expect(said).toMatch(wanted);
  expect(said.split("\n")).toHaveLength(1);
  expect(said).toStartWith("holdfast: ");
  expect(code).toBe(exitCode);
}

/** 32-bit x86: waits for ever in pause(2). */
function waiting32(): Uint8Array {
  const loadedAt = 0x0804_8000;
  const code = [0xb8, 0x1d, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7];
  const bytes = new Uint8Array(84 + code.length);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 1, 1, 1]);
  const halves: [number, number][] = [
    [16, 2],
    [18, 3],
    [40, 52],
    [42, 32],
    [44, 1],
  ];
  const words: [number, number][] = [
    [20, 1],
    [24, loadedAt + 84],
    [28, 52],
    [52, 1],
    [60, loadedAt],
    [64, loadedAt],
  ];
  for (const [at, value] of halves) view.setUint16(at, value, true);
  for (const [at, value] of [...words, [68, bytes.length], [72, bytes.length], [76, 5], [80, 0x1000]] as const)
    view.setUint32(at, value, true);
  bytes.set(code, 84);
  return bytes;
}

function put(name: string, content: string | Uint8Array, mode = 0o755): string {
  writeFileSync(path(name), content);
  chmodSync(path(name), mode);
  return path(name);
}

guarded("a command that cannot be started is refused before anything is", async () => {
  const notFound = exitCodes.programNotFound;
  expectLine(await refused(["--", "no-such-program"]), /no-such-program.*PATH/, notFound);
  expectLine(await refused(["--", "/no/such/program"]), /\/no\/such\/program.*no such file/, notFound);
  expectLine(await refused(["--", put("orphan", "#!/no/interpreter\n")]), /\/no\/interpreter/, notFound);
  const notExecutable = exitCodes.programNotExecutable;
  expectLine(await refused(["--", put("text", "text\n", 0o644)]), /text.*chmod \+x/, notExecutable);
  expectLine(await refused(["--", folder]), /executed/, notExecutable);
  expectLine(await refused(["--", put("plain", "text\n")]), /neither an ELF program nor a script/, notExecutable);
  expectLine(await refused(["--", put("old", waiting32())]), /32-bit/, notExecutable);
  const other = waiting32();
  other[4] = 2;
  other[18] = process.arch === "x64" ? 183 : 62;
  expectLine(await refused(["--", put("other", other)]), /this machine is/, notExecutable);
});

guarded("a name or words that make no sense are refused as wrong use", async () => {
  for (const words of [
    [],
    ["--pid", "7", "--", "sleep", "1"],
    ["--pid", "0"],
    ["--pid", "x"],
    ["--name", "../x", "--", "sleep"],
  ]) {
    expect(await refused(words)).toMatchObject({ code: exitCodes.usage });
  }
});

guarded("a process that is no program, or none any more", async () => {
  expectLine(await refused(["--pid", "4194305"]), /there is no process 4194305/, exitCodes.notFound);
  // Its parent is a shell that never asks how it ended.
  const parent = Bun.spawn(["sh", "-c", "sleep 0 & echo $!; exec sleep 60"], { stdout: "pipe" });
  try {
    const { value } = await parent.stdout.getReader().read();
    const zombie = Number(new TextDecoder().decode(value));
    await until(() => startTicksOf(zombie) === null);
    expectLine(await refused(["--pid", String(zombie)]), /has ended and waits for its parent/, exitCodes.notFound);
  } finally {
    parent.kill("SIGKILL");
  }
});

guarded("the supervisor itself", async () => {
  const itself = await refused([], { under: ["sh", "-c", 'exec "$@" --pid $$', "sh"] });
  expectLine(itself, /this supervisor itself/, exitCodes.programNotExecutable);
});

need("gdbserver", root)("init, threads of the kernel, threads of a program", async () => {
  const unsupported = exitCodes.programNotExecutable;
  expectLine(await refused(["--pid", "2"]), /thread of the kernel|no process 2/, unsupported);
  if (startTicksOf(1) !== null) expectLine(await refused(["--pid", "1"]), /init of this machine/, unsupported);
  const thread = readdirSync(`/proc/${process.pid}/task`).find((tid) => Number(tid) !== process.pid);
  expectLine(await refused(["--pid", thread!]), new RegExp(`--pid ${process.pid}`), unsupported);
});

/** The kernel runs 32-bit programs. */
const kernel32: Need = () => {
  const where = mkdtempSync(join(tmpdir(), "holdfast-kernel32-"));
  try {
    writeFileSync(join(where, "waiting32"), waiting32(), { mode: 0o755 });
    const looked = Bun.spawnSync(["timeout", "0.1", join(where, "waiting32")]);
    return looked.exitCode === 124 ? null : "a kernel that runs 32-bit x86 programs";
  } finally {
    rmSync(where, { recursive: true });
  }
};

need(
  "gdbserver",
  root,
  kernel32,
)("a 32-bit program that runs", async () => {
  const program = Bun.spawn([put("waiting32", waiting32())], { stdio: ["ignore", "ignore", "ignore"] });
  try {
    const answer = await refused(["--pid", String(program.pid)]);
    expectLine(answer, /waiting32.*32-bit/, exitCodes.programNotExecutable);
    expect(tracerOf(program.pid)).toBe(0);
  } finally {
    program.kill("SIGKILL");
  }
});

for (const tracer of ["strace", "gdb"] as const) {
  need(
    "gdbserver",
    tracer,
    tracing,
  )(`a process that ${tracer} traces already`, async () => {
    const program = Bun.spawn(["sleep", "60"], { stdio: ["ignore", "ignore", "ignore"] });
    const pid = String(program.pid);
    const words =
      tracer === "strace"
        ? ["-qq", "-o", "/dev/null", "-p", pid]
        : ["-q", "-nx", "-batch", "-ex", "continue", "-p", pid];
    const other = Bun.spawn([tracer, ...words], { stdio: ["ignore", "ignore", "ignore"] });
    try {
      await until(() => tracerOf(program.pid) === other.pid);
      const wanted = new RegExp(`already traced by process ${other.pid} \\(${tracer}\\).*end that one first`);
      expectLine(await refused(["--pid", pid]), wanted, exitCodes.busy);
      expect(tracerOf(program.pid)).toBe(other.pid);
    } finally {
      other.kill("SIGKILL");
      program.kill("SIGKILL");
    }
  });
}

need(
  "gdbserver",
  root,
  "setpriv",
  openCheckout,
)("an ordinary user and a process of root's", async () => {
  const program = Bun.spawn(["sleep", "60"], { stdio: ["ignore", "ignore", "ignore"] });
  try {
    const environment = { HOME: path("home"), XDG_RUNTIME_DIR: path("home"), XDG_STATE_HOME: undefined };
    const state = ["--state", path("home/state")];
    const answer = await refused([...state, "--pid", String(program.pid)], { under: asNobody, environment });
    expectLine(answer, /belongs to user 0; run as that user or as root/, exitCodes.permission);
    expect(tracerOf(program.pid)).toBe(0);
    const barred = path("barred");
    mkdirSync(barred, { mode: 0o700 });
    const nowhere = await refused([...state, "--", "sleep", "60"], {
      under: asNobody,
      environment: { ...environment, XDG_RUNTIME_DIR: barred },
    });
    expectLine(nowhere, /run directory .*barred.* cannot be used.*XDG_RUNTIME_DIR/, exitCodes.storage);
  } finally {
    program.kill("SIGKILL");
  }
});

test("gdbserver is missing, too old, or no gdbserver", async () => {
  const empty = path("empty");
  mkdirSync(empty);
  for (const name of ["sleep", "sh", "mkfifo"]) symlinkSync(Bun.which(name)!, join(empty, name));
  const missing = await refused(["--", "sleep", "60"], { environment: { PATH: empty } });
  expectLine(
    { ...missing, said: missing.said.split("\n")[0]! },
    /gdbserver cannot be run; install it/,
    exitCodes.unavailable,
  );
  const old = fakeStub("tooOld", "GNU gdbserver (GDB) 12.1", "");
  expectLine(await refused(["--", "sleep", "60"], old), /13 or later is needed.*12\.1/, exitCodes.unavailable);
  const none = fakeStub("none", "", "");
  expectLine(await refused(["--", "sleep", "60"], none), /13 or later is needed.*says: nothing/, exitCodes.unavailable);
});

/** A gdbserver of our own in front of PATH. */
function fakeStub(name: string, version: string, body: string): GuardRunOptions {
  mkdirSync(path(name));
  put(`${name}/gdbserver`, `#!/bin/sh\nif [ "$1" = --version ]; then echo "${version}"; exit; fi\n${body}\n`);
  return { environment: { PATH: `${path(name)}:${process.env.PATH}` } };
}

const version = "GNU gdbserver (Debian 13.1-3) 13.1";
const misbehaviours = {
  garbage: "exec head -c 100000 /dev/urandom",
  silence: "trap '' TERM; exec sleep 600",
  death: "exit 3",
  nonsense: "while :; do printf '$OK#9a+'; sleep 0.01; done",
  words: "echo it is broken >&2; exit 1",
};
for (const [kind, body] of Object.entries(misbehaviours)) {
  test(
    `a stub that answers with ${kind}: refused, named, ended, and the program with it`,
    async () => {
      const options = fakeStub(kind, version, body);
      const name = freshName(kind);
      const program = ["sleep", `6${process.pid % 1000}1`];
      await using run = new GuardRun(["--name", name, "--", ...program], options);
      expect([exitCodes.protocol, exitCodes.unavailable] as number[]).toContain((await run.end())!);
      const [ended] = run.seen("unguarded");
      expect(ended).toMatchObject({ workload: name, reason: "it could not be guarded, and is ended again" });
      expect(startTicksOf(Number(ended!.pid))).toBeNull();
      const said = run.said.trim();
      expect(said.split("\n")).toHaveLength(1);
      expect(said).toContain(path(`${kind}/gdbserver`));
      if (kind === "words") expect(said).toContain("it is broken");
      expect(existsSync(`/run/holdfast/guards/${name}`)).toBe(false);
      expect(processesOf(path(kind))).toEqual([]);
    },
    timeoutMs,
  );
}

/** Processes that have a word of their command line in this folder. */
const processesOf = (where: string): string[] =>
  readdirSync("/proc").filter(
    (id) => /^\d+$/.test(id) && readCommandLine(Number(id)).some((word) => word.includes(where)),
  );
