// SPDX-License-Identifier: Apache-2.0
/**
 * Servers of more than one process under guard: nginx with its workers, PostgreSQL with a process for each connection. A
 * function of one process is broken; it survives, and nobody else notices. What the master does to its workers is its own.
 */
import { afterAll, expect } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { tracerOf } from "#appliance/demo/processFacts.ts";
import { readDescendants } from "#monitor/descendants.ts";
import { isAlive } from "#monitor/processes.ts";
import { breakFunction } from "#tests/peers/brokenFunction.ts";
import { freshName, GuardRun, until } from "#tests/peers/guardRun.ts";
import { GuestRun, Playground } from "#tests/peers/guestRun.ts";
import { file, need, programPath, root } from "#tests/skip.ts";

const testMs = 120_000;
const folder = mkdtempSync(join(tmpdir(), "holdfast-real-forks-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const workersOf = (master: number): number[] => readDescendants(master, true, 64);
const allGuarded = (pids: readonly number[]): boolean => pids.every((pid) => tracerOf(pid) !== 0);

/** What a client of its own gets; null where its connection was cut, or nothing came. */
async function get(socket: string): Promise<string | null> {
  try {
    const options = { unix: socket, keepalive: false, signal: AbortSignal.timeout(1000) };
    return await (await fetch("http://localhost/", options)).text();
  } catch {
    return null;
  }
}

for (const daemon of ["off", "on"]) {
  need(
    "gdbserver",
    "nginx",
    "nm",
    root,
  )(
    `nginx, daemon ${daemon}: a worker survives its fault, the others serve on; reload and a lost worker are nginx's own`,
    async () => {
      const at = (name: string): string => join(folder, `${daemon}-${name}`);
      const settings = `pid ${at("pid")}; error_log ${at("log")}; daemon ${daemon}; worker_processes 2; events {}
        http { access_log off; server { listen unix:${at("socket")}; location / { return 200 well; } } }`;
      writeFileSync(at("conf"), settings);
      const command = [programPath("nginx")!, "-c", at("conf")];
      await using run = new GuardRun(["--name", freshName("nginx"), "--", ...command]);
      const master = await run.guarding();
      expect(Number(readFileSync(at("pid"), "utf8"))).toBe(master);
      await until(() => workersOf(master).length === 2 && allGuarded(workersOf(master)), "two guarded workers");
      const workers = workersOf(master);
      {
        using _broken = breakFunction(workers[0]!, "ngx_http_process_request");
        await until(() => {
          void get(at("socket"));
          return run.seen("fault").length > 0;
        }, "a fault in the broken worker");
      }
      expect(await run.event("outcome")).toMatchObject({ rung: "abandon", verdict: "clean" });
      expect(run.seen("fault").every((fault) => fault.thread === workers[0])).toBe(true);
      for (let round = 0; round < 20; round += 1) expect(await get(at("socket"))).toBe("well");
      expect(workersOf(master)).toEqual(workers);

      process.kill(master, "SIGHUP");
      await until(
        () => workers.every((pid) => !isAlive(pid)) && allGuarded(workersOf(master)),
        "guarded workers after a reload",
      );
      const [lost] = workersOf(master);
      process.kill(lost!, "SIGKILL");
      const anew = (): boolean => workersOf(master).length === 2 && !workersOf(master).includes(lost!);
      await until(() => anew() && allGuarded(workersOf(master)), "a guarded worker in place of the lost one");
      expect(await get(at("socket"))).toBe("well");
      expect(run.seen("programFault")).toEqual([]);
      run.signal("SIGTERM");
      expect(await run.end()).toBe(0);
      await until(() => !isAlive(master), "the end of nginx");
    },
    testMs,
  );
}

/** Where Debian keeps the newest of its versions. */
const postgresDirectory = "/usr/lib/postgresql";
const postgresBinaries = (): string =>
  join(postgresDirectory, readdirSync(postgresDirectory).sort((a, b) => Number(b) - Number(a))[0]!, "bin");

/** One connection through psql, which answers question by question. */
class Session implements AsyncDisposable {
  readonly #psql: Bun.Subprocess<"pipe", "pipe", "ignore">;
  #said = "";

  constructor(directory: string) {
    const words = ["psql", "-h", directory, "-U", "postgres", "-qAt"];
    this.#psql = Bun.spawn(words, { stdin: "pipe", stdout: "pipe", stderr: "ignore" });
    void this.#listen();
  }

  /** The answer; null where none came before `given` said so, or the session has ended. */
  async ask(question: string, given: () => boolean = () => false): Promise<string | null> {
    const before = this.#said.length;
    this.#psql.stdin.write(`${question};\n`);
    this.#psql.stdin.flush();
    const answered = (): boolean => this.#said.slice(before).includes("\n");
    await until(() => answered() || given() || this.#psql.exitCode !== null, `an answer to ${question}`);
    return answered() ? this.#said.slice(before).trim() : null;
  }

  async #listen(): Promise<void> {
    for await (const chunk of this.#psql.stdout) this.#said += Buffer.from(chunk).toString();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#psql.kill("SIGKILL");
    await this.#psql.exited;
  }
}

need(
  "gdbserver",
  "psql",
  "nm",
  file(postgresDirectory, "apt-get install postgresql"),
  root,
)(
  "PostgreSQL: a backend leaves with its connection at a fault, what it had begun is undone, and the cluster serves on",
  async () => {
    using ground = new Playground();
    const cluster = join(ground.path, "cluster");
    const binaries = postgresBinaries();
    Bun.spawnSync(["chown", "postgres", ground.path]);
    const asPostgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"];
    Bun.spawnSync([...asPostgres, join(binaries, "initdb"), "-D", cluster, "-A", "trust", "--no-sync"]);
    expect(existsSync(join(cluster, "PG_VERSION"))).toBe(true);
    const command = [join(binaries, "postgres"), "-D", cluster, "-k", ground.path, "-c", "listen_addresses="];
    await using run = new GuestRun(
      ground,
      `[[program]]\nname = "cluster"\nuser = "postgres"\nstopSignal = "SIGINT"\ncommand = ${JSON.stringify(command)}`,
    );
    const { pid } = (await run.next({ event: "guarding", workload: "cluster" })) as unknown as { pid: number };
    await using guilty = new Session(ground.path);
    await using bystander = new Session(ground.path);
    const backend = Number(await guilty.ask("select pg_backend_pid()"));
    expect(await guilty.ask("create table sums (v int); insert into sums values (0); select count(*) from sums")).toBe(
      "1",
    );
    const other = Number(await bystander.ask("select pg_backend_pid()"));
    await until(() => allGuarded([backend, other]), "two guarded backends");
    {
      using _broken = breakFunction(backend, "int4pl");
      const outcome = run.next({ event: "outcome" });
      // No answer of a made-up value, and none that is committed.
      expect(await guilty.ask("insert into sums select 20 + 22 returning v")).toBeNull();
      expect(await outcome).toMatchObject({ rung: "park", verdict: "clean", session: { confidence: 1 } });
    }
    expect(isAlive(backend)).toBe(false);
    expect(await bystander.ask("select count(*) from sums")).toBe("1");
    expect(await bystander.ask("select 20 + 22")).toBe("42");
    expect(Number(await bystander.ask("select pg_backend_pid()"))).toBe(other);
    {
      // Whoever connects may kill at once: its backend is held from birth, now that one of its kind was seen.
      using _broken = breakFunction(pid, "int4pl");
      const ask = ["psql", "-h", ground.path, "-U", "postgres", "-Atc", "insert into sums select 20 + 22"];
      for (let round = 0; round < 5; round += 1) {
        const outcome = run.next({ event: "outcome" });
        expect(await Bun.spawn(ask, { stdio: ["ignore", "ignore", "ignore"] }).exited).toBe(2);
        expect(await outcome).toMatchObject({ rung: "park", verdict: "clean" });
      }
    }
    expect(await bystander.ask("select count(*) from sums")).toBe("1");
    expect(Number(await bystander.ask("select pg_backend_pid()"))).toBe(other);
    await using newcomer = new Session(ground.path);
    expect(await newcomer.ask("select 20 + 22")).toBe("42");
    expect((await run.control.programs())[0]).toMatchObject({ pid, phase: "running", attempts: 0 });
    await run.control.program("cluster", "stop");
    expect(isAlive(pid)).toBe(false);
  },
  testMs,
);
