// SPDX-License-Identifier: Apache-2.0
/**
 * Starts stock gdbserver so that it outlives us, and finds a running one again.
 *
 * Gets a run directory (made 0700); gives a transport. In it: `in` and `out`, FIFOs that gdbserver opens read-write
 * itself, so that our death is no end of file for it; `pid`; `errors`, what it says, capped by its file size limit; and
 * `sync`, a link whose target, read through gdbserver, tells new replies from old ones. It runs in its own session.
 * Limits: `startTimeoutMs`, `errorBytesMax`. Source: measured with gdbserver 13.1: on plain pipes it spins once we are
 * gone, and the next fault kills the program; on FIFOs it waits.
 */
import { closeSync, constants, openSync, symlinkSync } from "node:fs";
import { chmod, mkdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "#clock.ts";
import { GdbError } from "#errors.ts";
import { openFifos, type Transport } from "./transport.ts";

export type Stub = {
  readonly pid: number;
  readonly transport: Transport;
  /** Present where the stub was there before us: to be given to the client. */
  readonly sync?: { readonly request: string; readonly reply: string };
};

export const minVersion = 13;
export const startTimeoutMs = 5000;
export const errorBytesMax = 64 * 1024;
const fileSizeUnitBytes = 512;
const pollMs = 1;

/** The version of gdbserver, for example "13.1". @throws GdbError "gdb.start" where it is missing, "gdb.version" too old. */
export async function gdbserverVersion(program = "gdbserver"): Promise<string> {
  let text: string;
  try {
    const asked = Bun.spawn([program, "--version"], { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
    text = await asked.stdout.text();
    await asked.exited;
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === "ENOENT" || Bun.which(program) === null;
    const advice = missing ? "install it (Debian: apt-get install gdbserver)" : "see that it may be executed";
    throw new GdbError("gdb.start", `${program} cannot be run; ${advice}`, {}, cause);
  }
  const version = /^GNU gdbserver .*?(\d+)\.(\d+)/.exec(text);
  if (version === null || Number(version[1]) < minVersion) {
    const found = text.split("\n")[0]?.slice(0, 80) ?? "";
    throw new GdbError(
      "gdb.version",
      `gdbserver ${minVersion} or later is needed, ${program} says: ${found || "nothing"}`,
    );
  }
  return `${version[1]}.${version[2]}`;
}

/** Starts a stub in `runDirectory`, which must not hold a live one. @throws GdbError "gdb.start" */
export async function startStub(
  runDirectory: string,
  { clock, program = "gdbserver", signal }: { clock: Clock; program?: string; signal?: AbortSignal },
): Promise<Stub> {
  const path = (name: string): string => join(runDirectory, name);
  await mkdir(runDirectory, { recursive: true, mode: 0o700 });
  await chmod(runDirectory, 0o700);
  for (const name of ["in", "out", "pid", "errors", "sync"]) await rm(path(name), { force: true });
  const made = Bun.spawnSync(["mkfifo", "-m", "600", path("in"), path("out")]);
  if (!made.success)
    throw new GdbError("gdb.start", `mkfifo failed in ${runDirectory}: ${made.stderr.toString().trim()}`);
  // Keeps `out` from looking ended until gdbserver has opened it.
  const guard = openSync(path("out"), constants.O_RDWR | constants.O_NONBLOCK);
  let transport: Transport | null = null;
  try {
    const blocks = errorBytesMax / fileSizeUnitBytes;
    const script = `trap '' XFSZ; ulimit -f ${blocks}; exec "$1" --multi - 0<>"$2" 1<>"$3" 2>"$4"`;
    const process = Bun.spawn(["/bin/sh", "-c", script, "sh", program, path("in"), path("out"), path("errors")], {
      // Replaced by the script at once. Not "ignore": where /dev/null cannot be written, nothing would start.
      stdio: ["ignore", "inherit", "inherit"],
      detached: true,
    });
    process.unref();
    const starting: Starting = { clock, alive: () => process.exitCode === null, signal };
    await writeFile(path("pid"), `${process.pid}\n`);
    transport = await openWhenRead(runDirectory, starting);
    await untilRunning(process.pid, path("out"), starting);
    return { pid: process.pid, transport };
  } catch (error) {
    await transport?.[Symbol.asyncDispose]();
    if (signal?.aborted) throw signal.reason;
    const said = await stubErrors(runDirectory);
    throw new GdbError("gdb.start", `${program} did not start${said === "" ? "" : `: ${said}`}`, {}, error);
  } finally {
    closeSync(guard);
  }
}

/** Finds the stub of an earlier run. @throws GdbError "gdb.closed" where none lives there. */
export async function reopenStub(
  runDirectory: string,
  { clock, nonce }: { clock: Clock; nonce: string },
): Promise<Stub> {
  const path = (name: string): string => join(runDirectory, name);
  const pid = await readPid(path("pid"));
  const transport = openFifos(path("in"), path("out"), clock);
  await rm(path("sync"), { force: true });
  symlinkSync(nonce, path("sync"));
  const request = `vFile:readlink:${Buffer.from(path("sync")).toHex()}`;
  return { pid, transport, sync: { request, reply: `F${nonce.length.toString(16)};${nonce}` } };
}

/** The last words of a stub, one line; "" where there are none. */
export async function stubErrors(runDirectory: string): Promise<string> {
  try {
    const text = await readFile(join(runDirectory, "errors"), "latin1");
    return text.trim().split("\n").slice(-3).join("; ").slice(0, 400);
  } catch {
    return ""; // It never came so far as to open the file.
  }
}

async function readPid(path: string): Promise<number> {
  try {
    const pid = Number((await readFile(path, "latin1")).trim());
    if (!Number.isSafeInteger(pid) || pid <= 1) throw new RangeError(`no process id in ${path}`);
    return pid;
  } catch (cause) {
    throw new GdbError("gdb.closed", `no stub was left running: ${path} has no process id`, {}, cause);
  }
}

type Starting = { readonly clock: Clock; readonly alive: () => boolean; readonly signal: AbortSignal | undefined };

async function openWhenRead(runDirectory: string, { clock, alive, signal }: Starting): Promise<Transport> {
  let last: unknown;
  for (let waitedMs = 0; waitedMs < startTimeoutMs && alive(); waitedMs += pollMs) {
    try {
      return openFifos(join(runDirectory, "in"), join(runDirectory, "out"), clock);
    } catch (error) {
      last = error;
      await clock.sleep(pollMs, signal);
    }
  }
  throw new GdbError("gdb.start", `it opened no FIFO in ${runDirectory}`, {}, last);
}

/** The shell opens `in`, then `out`, then becomes gdbserver: waits for the end of that. */
async function untilRunning(pid: number, out: string, { clock, alive, signal }: Starting): Promise<void> {
  const { ino } = await stat(out);
  for (let waitedMs = 0; waitedMs < startTimeoutMs && alive(); waitedMs += pollMs) {
    const opened = await stat(`/proc/${pid}/fd/1`).catch(() => null);
    const name = await readFile(`/proc/${pid}/comm`, "latin1").catch(() => "");
    if (opened?.ino === ino && name !== "" && name.trim() !== "sh") return;
    await clock.sleep(pollMs, signal);
  }
  throw new GdbError("gdb.start", `it ended before it was running`);
}
