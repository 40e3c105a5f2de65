// SPDX-License-Identifier: Apache-2.0
/**
 * Fatal signals that are not ours to take: a Go server that recovers nil dereferences, and signals that another process
 * sends, do under guard what they do without.
 */
import { expect } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { frameResp } from "#appliance/demo/framing.ts";
import { speak } from "#appliance/demo/killer.ts";
import { threadStateOf } from "#appliance/demo/processFacts.ts";
import { type ServerExit, startServer, stopChild } from "#appliance/demo/serverProcess.ts";
import { bytesOf } from "#appliance/demo/traffic.ts";
import { systemClock } from "#clock.ts";
import { readThreads } from "#monitor/processes.ts";
import { until } from "#tests/peers/guardRun.ts";
import { withoutMemoryTest } from "#tests/peers/redisMemoryTest.ts";
import { need, tracing } from "#tests/skip.ts";
import { guardCommand, guardServer } from "./guardedServer.ts";

const timeoutMs = 120_000;
const answerMsMax = 5_000;
const lookMs = 5;

type GoServer = AsyncDisposable & { readonly command: readonly string[]; port(): Promise<number> };

async function buildGoServer(): Promise<GoServer> {
  const directory = await mkdtemp(join(tmpdir(), "holdfast-go-"));
  const [program, portFile] = [join(directory, "recover"), join(directory, "port")];
  const environment = { ...process.env, GOCACHE: join(directory, "cache"), GOFLAGS: "-mod=mod", GO111MODULE: "off" };
  const build = ["go", "build", "-o", program, `${import.meta.dir}/../peers/recover.go`];
  const child = Bun.spawn(build, { env: environment, stderr: "pipe" });
  const complaint = await child.stderr.text();
  expect(await child.exited, complaint).toBe(0);
  const port = async (): Promise<number> => {
    for (;;) {
      const text = await Bun.file(portFile)
        .text()
        .catch(() => "");
      if (text !== "") {
        await rm(portFile); // the next run writes its own
        return Number(text);
      }
      await systemClock.sleep(lookMs);
    }
  };
  return {
    command: [program, portFile],
    port,
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}

/** What one client hears: 30 requests, every other one a nil dereference. */
async function talk(port: number): Promise<readonly string[]> {
  const requests = Array.from({ length: 30 }, (_, index) => bytesOf(index % 2 === 0 ? "nil\n" : `say ${index}\n`));
  await using spoken = await speak(port, frameResp, requests, { answerMsMax });
  expect(spoken.fate).toBe("answered");
  return spoken.answers;
}

async function unguarded(server: GoServer): Promise<{ answers: readonly string[]; exit: ServerExit }> {
  const child = Bun.spawn([...server.command], { stdout: "ignore", stderr: "ignore" });
  try {
    const port = await server.port();
    const answers = await talk(port);
    await using _last = await speak(port, frameResp, [bytesOf("die\n")], { answerMsMax });
    await child.exited;
    return {
      answers,
      exit: { code: child.exitCode, signal: child.signalCode === null ? null : `${child.signalCode}` },
    };
  } finally {
    await stopChild(child);
  }
}

need("go", "gdbserver", tracing)(
  "a Go server recovers nil dereferences, and dies of one that nobody recovers, as without a guard",
  async () => {
    await using server = await buildGoServer();
    const alone = await unguarded(server);
    await using guarded = await guardCommand("--", ...server.command);
    const port = await server.port();
    for (let client = 0; client < 10; client += 1) expect(await talk(port)).toEqual(alone.answers);
    expect(guarded.isSame()).toBe(true);
    expect(guarded.guard.outcomes()).toEqual([]);
    await using _last = await speak(port, frameResp, [bytesOf("die\n")], { answerMsMax });
    const exit = await guarded.guard.waitFor((event) => event.event === "exit", answerMsMax);
    expect(exit).toMatchObject({ event: "exit", ...alone.exit });
  },
  timeoutMs,
);

for (const program of ["redis-server", "memcached"] as const) {
  for (const signal of ["SIGSEGV", "SIGABRT"] as const) {
    need(program, "gdbserver", tracing)(
      `kill -${signal} from another process ends ${program} as without a guard`,
      async () => {
        const alone = await (async () => {
          await using server = await startServer(program, systemClock, withoutMemoryTest(program));
          process.kill(server.pid, signal);
          return await server.exited;
        })();
        await using server = await guardServer(program, ...withoutMemoryTest(program));
        process.kill(server.pid, signal);
        const exit = await server.guard.waitFor((event) => event.event === "exit", answerMsMax);
        expect(exit).toMatchObject({ event: "exit", ...alone });
        expect(server.guard.outcomes()).toEqual([]);
      },
      timeoutMs,
    );
  }
}

/** Raises, with its tracer there, what the kernel raises at the end of an execve that a tracer has come into. */
const trapped = `
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
static int traced(void) {
  char text[4096] = "";
  int file = open("/proc/self/status", O_RDONLY);
  read(file, text, sizeof text - 1);
  close(file);
  return strstr(text, "TracerPid:\\t0\\n") == 0;
}
int main(void) {
  sigset_t trap;
  sigemptyset(&trap);
  sigaddset(&trap, SIGTRAP);
  sigprocmask(SIG_BLOCK, &trap, 0);
  kill(getpid(), SIGTRAP);
  while (!traced()) usleep(1000);
  sigprocmask(SIG_UNBLOCK, &trap, 0);
  for (;;) pause();
}`;

need("gcc", "gdbserver", tracing)(
  "a program that was attached to in the middle of its exec does not die of it",
  async () => {
    const directory = await mkdtemp(join(tmpdir(), "holdfast-exec-"));
    const program = join(directory, "trapped");
    await Bun.write(`${program}.c`, trapped);
    const built = Bun.spawnSync(["gcc", "-O1", "-w", "-o", program, `${program}.c`]);
    expect(built.stderr.toString()).toBe("");
    await using guarded = await guardCommand("--", program);
    expect(guarded.isSame()).toBe(true);
    expect(guarded.guard.events.filter(({ event }) => event === "fault" || event === "exit")).toEqual([]);
    await rm(directory, { recursive: true, force: true });
  },
  timeoutMs,
);

/** Three threads that wait in ways that a stop ends with EINTR (signal(7)); each says so when that comes. */
const waiting = `
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
static void *events(void *name) {
  struct epoll_event event;
  for (int file = epoll_create1(0);;) if (epoll_wait(file, &event, 1, -1) < 0) puts(name);
}
static void *limited(void *name) {
  int pair[2];
  char byte;
  struct timeval limit = {600, 0};
  socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
  setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  for (;;) if (recv(pair[0], &byte, 1, 0) < 0) puts(name);
}
static void *signals(void *name) {
  sigset_t wanted;
  sigemptyset(&wanted);
  sigaddset(&wanted, SIGUSR1);
  for (;;) if (sigwaitinfo(&wanted, 0) < 0) puts(name);
}
int main(void) {
  pthread_t thread;
  setlinebuf(stdout);
  pthread_create(&thread, 0, events, "epoll_wait");
  pthread_create(&thread, 0, limited, "recv");
  pthread_create(&thread, 0, signals, "sigwaitinfo");
  for (;;) pause();
}`;
const waitingThreads = 4;

const isAllAsleep = (pid: number): boolean => {
  const threads = readThreads(pid);
  return threads.length === waitingThreads && threads.every((tid) => threadStateOf(pid, tid) === "S");
};

need("gcc", "gdbserver", tracing)(
  "an attach interrupts what a program waits for once, and not again to list its threads",
  async () => {
    const directory = await mkdtemp(join(tmpdir(), "holdfast-waiting-"));
    const [program, said] = [join(directory, "waiting"), join(directory, "said")];
    await Bun.write(`${program}.c`, waiting);
    const built = Bun.spawnSync(["gcc", "-O1", "-w", "-pthread", "-o", program, `${program}.c`]);
    expect(built.stderr.toString()).toBe("");
    const child = Bun.spawn([program], { stdin: "ignore", stdout: Bun.file(said), stderr: "ignore" });
    try {
      await until(() => isAllAsleep(child.pid), "its waits");
      await using guarded = await guardCommand("--pid", `${child.pid}`);
      await until(() => isAllAsleep(child.pid), "its waits");
      expect(guarded.isSame()).toBe(true);
      expect((await Bun.file(said).text()).trim().split("\n").sort()).toEqual(["epoll_wait", "recv", "sigwaitinfo"]);
    } finally {
      await stopChild(child);
      await rm(directory, { recursive: true, force: true });
    }
  },
  timeoutMs,
);
