// SPDX-License-Identifier: Apache-2.0
/**
 * Services as `[[program]]` of one configuration, each with a fault of its own in a request: MariaDB and mosquitto in
 * plugins, Node.js and Python in their runtimes. The process stays, a connection that was there before is still served, and
 * so are newcomers. nginx and PostgreSQL: forks.test.ts.
 */
import { expect } from "bun:test";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import mqtt from "mqtt";
import { startTicksOf } from "#appliance/demo/processFacts.ts";
import { systemClock } from "#clock.ts";
import { ProgramError } from "#errors.ts";
import { until } from "#tests/peers/guardRun.ts";
import { GuestRun, Playground } from "#tests/peers/guestRun.ts";
import { long, need, programPath, root, tracing } from "#tests/skip.ts";

const testMs = 120_000;
const programs = join(import.meta.dir, "../programs");
const times = long("real") ? 10 : 1;
/** Where a request has died there is no answer, or no connection. */
const silenceMs = 3_000;
const tryMs = 50;
const triesMax = 600;
/** A value that the caller takes for an object is met again; then the next one is tried. */
const actsMax = 3;

type Outcome = { readonly rung: string; readonly verdict: string };

/** One service under `holdfast run`, until the test is over. */
class Service extends GuestRun {
  #pid = 0;
  #startTicks: number | null = null;

  constructor(
    ground: Playground,
    private readonly name: string,
    command: readonly string[],
  ) {
    super(ground, `[[program]]\nname = "${name}"\ncommand = ${JSON.stringify(command)}\nstopMs = 20000`);
  }

  async guarding(): Promise<void> {
    const { pid } = (await this.next({ event: "guarding", workload: this.name })) as unknown as { pid: number };
    [this.#pid, this.#startTicks] = [pid, startTicksOf(pid)];
  }

  /** The next fault was survived, by the last act that it needed, and it is still the same process. */
  async survives(signal: string): Promise<void> {
    for (let acts = 1; ; acts += 1) {
      await this.next({ event: "fault", workload: this.name, signal });
      const { rung, verdict } = (await this.next({ event: "outcome", workload: this.name })) as unknown as Outcome;
      if (verdict === "failed" && acts < actsMax) continue;
      expect(`${rung} ${verdict}`).toMatch(/^(abandon|quarantine|inward) (clean|degraded)$/);
      expect(startTicksOf(this.#pid)).toBe(this.#startTicks);
      return;
    }
  }

  /** Nothing is left to be told, and nothing was started again. */
  async end(): Promise<void> {
    const now = (await this.control.programs()).find(({ name }) => name === this.name);
    expect(now).toMatchObject({ pid: this.#pid, phase: "running", attempts: 0 });
    await this.control.program(this.name, "stop");
    expect(startTicksOf(this.#pid)).toBeNull();
  }
}

/** From the server that has written its port to a file, over a connection of its own; null where there is no answer. */
async function get(portFile: string, path: string): Promise<string | null> {
  if (!existsSync(portFile)) return null;
  try {
    const options = { keepalive: false, signal: AbortSignal.timeout(silenceMs) };
    return await (await fetch(`http://127.0.0.1:${readFileSync(portFile, "utf8")}${path}`, options)).text();
  } catch {
    return null;
  }
}

async function untilAnswered(ask: () => Promise<string | null>, wanted: string): Promise<void> {
  for (let tries = 0; tries < triesMax; tries += 1) {
    if ((await ask()) === wanted) return;
    await systemClock.sleep(tryMs);
  }
  throw new ProgramError("program.busy", `no ${wanted} within ${triesMax} tries`);
}

function compilePlugin(source: string, output: string): void {
  const built = Bun.spawnSync(["gcc", "-O2", "-shared", "-fPIC", "-o", output, join(programs, source)]);
  expect(built.exitCode).toBe(0);
}

need("gdbserver", "node", tracing)(
  "Node.js: its own abort is survived, a fault that it lives by is its own business",
  async () => {
    using ground = new Playground();
    const portFile = join(ground.path, "port");
    await using service = new Service(ground, "node", [
      programPath("node")!,
      join(programs, "runtimeFaults.mjs"),
      portFile,
    ]);
    await service.guarding();
    await untilAnswered(() => get(portFile, "/"), "well");
    for (let time = 0; time < times; time += 1) {
      expect(await get(portFile, "/trap")).toBe("trapped: RuntimeError");
      expect(await get(portFile, "/abort")).toBeNull();
      await service.survives("SIGABRT");
      expect(await get(portFile, "/")).toBe("well");
    }
    await service.end();
  },
  testMs,
);

need("gdbserver", "/usr/bin/python3", tracing)(
  "Python: crashes of native code in one request, and of the interpreter itself",
  async () => {
    using ground = new Playground();
    const portFile = join(ground.path, "port");
    await using service = new Service(ground, "python", [
      "/usr/bin/python3",
      join(programs, "runtimeFaults.py"),
      portFile,
    ]);
    await service.guarding();
    await untilAnswered(() => get(portFile, "/"), "well");
    for (let time = 0; time < times; time += 1) {
      for (const [path, signal] of [
        ["/null", "SIGSEGV"],
        ["/call", "SIGSEGV"],
        ["/abort", "SIGABRT"],
      ] as const) {
        expect(await get(portFile, path)).toBeNull();
        await service.survives(signal);
        expect(await get(portFile, "/")).toBe("well");
      }
    }
    await service.end();
  },
  testMs,
);

need(
  "gdbserver",
  "mosquitto",
  "gcc",
  tracing,
)(
  "mosquitto with a plugin that faults: its client is lost, subscribers are not",
  async () => {
    using ground = new Playground();
    const [plugin, socket, settings] = ["plugin.so", "socket", "conf"].map((name) => join(ground.path, name)) as [
      string,
      string,
      string,
    ];
    compilePlugin("touchyPlugin.c", plugin);
    await Bun.write(settings, `listener 0 ${socket}\nallow_anonymous true\nplugin ${plugin}\nuser root\n`);
    await using service = new Service(ground, "broker", [programPath("mosquitto")!, "-c", settings]);
    await service.guarding();
    const open = async (): Promise<mqtt.MqttClient> => {
      const client = new mqtt.MqttClient(() => connect(socket), { reconnectPeriod: 0 });
      await new Promise((resolve, reject) => client.once("connect", resolve).once("error", reject));
      return client;
    };
    const bystander = await open();
    const heard: string[] = [];
    bystander.on("message", (_, payload) => heard.push(payload.toString()));
    await bystander.subscribeAsync("news", { qos: 1 });
    for (let time = 0; time < times; time += 1) {
      const culprit = await open();
      culprit.publish("die", "x", { qos: 0 });
      await service.survives("SIGSEGV");
      culprit.end(true);
      const newcomer = await open();
      await newcomer.publishAsync("news", `well ${time}`, { qos: 1 });
      newcomer.end();
      await until(() => heard.at(-1) === `well ${time}`, "news for the subscriber");
    }
    expect(bystander.connected).toBe(true);
    bystander.end();
    await service.end();
  },
  testMs,
);

const atLength = long("real") ? need : () => () => {};

// Its locks are tried in every run: mariadbLocks.test.ts.
atLength(
  "gdbserver",
  "gcc",
  "mariadbd",
  "mariadb",
  "mariadb-install-db",
  root,
  tracing,
)(
  "MariaDB with a function that faults under a mutex: one connection is lost, the others go on with the data",
  async () => {
    using ground = new Playground();
    const [files, plugins, socket] = ["data", "plugins", "socket"].map((name) => join(ground.path, name)) as [
      string,
      string,
      string,
    ];
    mkdirSync(plugins);
    compilePlugin("lockedPlugin.c", join(plugins, "locked.so"));
    const place = ["--no-defaults", "--user=root", `--datadir=${files}`];
    const making = ["mariadb-install-db", ...place, "--auth-root-authentication-method=normal", "--skip-test-db"];
    expect(Bun.spawnSync(making).exitCode).toBe(0);
    const options = [`--socket=${socket}`, "--skip-networking", `--plugin-dir=${plugins}`, "--plugin-maturity=unknown"];
    await using service = new Service(ground, "database", [programPath("mariadbd")!, ...place, ...options]);
    await service.guarding();
    const ask = async (statements: string): Promise<string> => {
      const words = ["mariadb", "--no-defaults", "-uroot", "-N", "-S", socket, "-e", statements];
      return (await Bun.spawn(words, { stdio: ["ignore", "pipe", "ignore"] }).stdout.text()).trim();
    };
    await untilAnswered(() => ask("SELECT 1"), "1");
    await ask("CREATE FUNCTION locked_add RETURNS INTEGER SONAME 'locked.so'");
    await ask("CREATE DATABASE d; CREATE TABLE d.t (n INT) ENGINE=InnoDB; INSERT INTO d.t VALUES (42)");
    for (let time = 0; time < times; time += 1) {
      const bystander = ask("SELECT SLEEP(2), n FROM d.t");
      expect(await ask("SELECT locked_add(-1)")).not.toBe("");
      await service.survives("SIGSEGV");
      expect(await ask(`SELECT locked_add(1); INSERT INTO d.t VALUES (${time}); SELECT COUNT(*) FROM d.t`)).toBe(
        `${time + 1}\n${time + 2}`,
      );
      expect(await bystander).toStartWith("0\t42");
    }
    await service.end();
  },
  testMs,
);
