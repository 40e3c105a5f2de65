// SPDX-License-Identifier: Apache-2.0
/**
 * Processes that a guarded program forks: noticed, guarded, let go with it, and forgotten when they end. A storm of forks
 * leaves nothing behind, in the supervisor and beside it.
 */
import { afterAll, beforeAll, expect } from "bun:test";
import { closeSync, constants, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { tracerOf } from "#appliance/demo/processFacts.ts";
import { readDescendants } from "#monitor/descendants.ts";
import { isAlive } from "#monitor/processes.ts";
import { freshName, GuardRun, until } from "#tests/peers/guardRun.ts";
import { need, tracing } from "#tests/skip.ts";

const testMs = 90_000;
const guarded = need("gdbserver", "gcc", tracing);
const folder = mkdtempSync(join(tmpdir(), "holdfast-forks-"));
const binary = join(folder, "forks");
beforeAll(() => {
  Bun.spawnSync(["gcc", "-O1", "-Wall", "-Werror", "-o", binary, join(import.meta.dir, "../programs/forks.c")]);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The program under guard, and orders to it. */
class Forker implements AsyncDisposable {
  readonly name = freshName("forks");
  readonly #fifo = join(folder, this.name);
  readonly #out = join(folder, `${this.name}.out`);
  readonly #orders: number;
  readonly run: GuardRun;

  constructor() {
    Bun.spawnSync(["mkfifo", this.#fifo]);
    this.#orders = openSync(this.#fifo, constants.O_RDWR | constants.O_NONBLOCK);
    const command = `exec ${binary} 0<>${this.#fifo} >${this.#out}`;
    this.run = new GuardRun(["--name", this.name, "--", "sh", "-c", command]);
  }

  get answers(): readonly string[] {
    return readFileSync(this.#out, "latin1").split("\n").slice(0, -1);
  }

  async order(text: string): Promise<string> {
    const before = this.answers.length;
    writeSync(this.#orders, `${text}\n`);
    await until(() => this.answers.length > before, `an answer to ${text}`);
    return this.answers[before]!;
  }

  get stubs(): string[] {
    try {
      return readdirSync(`/run/holdfast/guards/${this.name}/children`);
    } catch {
      return [];
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    closeSync(this.#orders);
    await this.run[Symbol.asyncDispose]();
  }
}

const filesOf = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;

guarded(
  "children are guarded by stubs of their own, and forgotten when they end",
  async () => {
    await using forker = new Forker();
    const pid = await forker.run.guarding();
    expect(await forker.order("k 5")).toBe("5");
    const children = readDescendants(pid, true, 64);
    expect(children).toHaveLength(5);
    await forker.run.event("child", 5);
    expect(new Set([pid, ...children].map(tracerOf)).size).toBe(6);
    for (const child of children) process.kill(child, "SIGTERM");
    await until(() => children.every((child) => !isAlive(child)), "the end of five children");
    await until(() => forker.stubs.length === 0, "five stubs gone");
    expect(await forker.order("c")).toBe("0");
    const told = forker.run.seen("child").map((event) => Number(event.pid));
    expect(told.sort()).toEqual([...children].sort());
    expect(forker.run.seen("exit")).toEqual([]);
    forker.run.signal("SIGTERM");
    expect(await forker.run.end()).toBe(143);
  },
  testMs,
);

guarded(
  "a storm of a thousand forks leaves nothing behind, and the program guarded",
  async () => {
    await using forker = new Forker();
    const pid = await forker.run.guarding();
    await forker.order("s 100");
    await forker.order("w");
    await until(() => forker.stubs.length === 0, "quiet before the storm");
    const before = filesOf(forker.run.pid);
    await forker.order("s 1000");
    expect(await forker.order("w")).toBe("0");
    await until(() => forker.stubs.length === 0, "no stub left");
    await until(() => filesOf(forker.run.pid) <= before, `as few files as before: ${before}`);
    expect(tracerOf(pid)).not.toBe(0);
    expect(forker.run.seen("warning")).toEqual([]);
  },
  testMs,
);

guarded(
  "let go, or released by the death of their parent, children run on untraced; a killed supervisor's are taken over",
  async () => {
    await using forker = new Forker();
    const pid = await forker.run.guarding();
    await forker.order("k 3");
    const children = readDescendants(pid, true, 64);
    await until(() => children.every((child) => tracerOf(child) !== 0), "three guarded children");
    const stubs = children.map(tracerOf);
    await forker.run.kill();
    expect(children.map(tracerOf)).toEqual(stubs);
    await using next = new GuardRun(["--name", forker.name, "--pid", String(pid)]);
    await next.event("child", 3);
    expect(children.map(tracerOf)).toEqual(stubs);
    next.signal("SIGTERM");
    expect(await next.end()).toBe(0);
    expect([pid, ...children].map(tracerOf)).toEqual([0, 0, 0, 0]);
    for (const left of [...children, pid]) process.kill(left, "SIGKILL");
  },
  testMs,
);
