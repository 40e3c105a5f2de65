// SPDX-License-Identifier: Apache-2.0
/**
 * A guard in a fleet: the real verb, a real broker, a program that faults. What it tells (state, birth, settings, events,
 * metrics), what it does when told, and that nothing of it is needed for guarding.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isAlive } from "#monitor/processes.ts";
import { compileOrdered } from "#scripts/bench/orderedProgram.ts";
import { freshName, type GuardEvent, GuardRun } from "#tests/peers/guardRun.ts";
import { GuestRun, Playground } from "#tests/peers/guestRun.ts";
import { Mosquitto } from "#tests/peers/mosquitto.ts";
import { Observer } from "#tests/peers/observer.ts";
import { holdfast, Operator } from "#tests/peers/operator.ts";
import { need, tracing } from "#tests/skip.ts";

const timeoutMs = 90_000;
let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "holdfast-uplink-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const withBroker = need("gcc", "gdbserver", "mosquitto", tracing);
const box = "holdfast/1/box-7";

async function configFor(broker: Mosquitto, ...lines: readonly string[]): Promise<string> {
  const file = join(folder, `${freshName("config")}.toml`);
  const section = [`[telemetry]`, `broker = "${broker.url}"`, `device = "box-7"`, "connectSpreadMs = 0", ...lines];
  await Bun.write(file, `${section.join("\n")}\n`);
  return file;
}

type Scene = AsyncDisposable & {
  readonly name: string;
  readonly observer: Observer;
  readonly run: GuardRun;
  readonly viewer: Operator;
  /** As admin; a key gives ten commands a minute, so there are several. */
  readonly ask: Operator["ask"];
  fault(): Promise<GuardEvent>;
  order(characters: string): void;
};

async function openScene(): Promise<Scene> {
  await using stack = new AsyncDisposableStack();
  const broker = stack.use(await Mosquitto.start());
  const observer = stack.use(await Observer.open(broker.url, ["holdfast/#", "homeassistant/#"]));
  const program = stack.use(await compileOrdered("stop"));
  const [name, state] = [freshName("uplink"), join(folder, "state")];
  const viewer = new Operator(observer);
  const admins = [new Operator(observer), new Operator(observer), new Operator(observer)];
  expect(await viewer.believedBy(state, name, "view")).toMatchObject({ code: 0 });
  for (const one of admins) expect(await one.believedBy(state, name, "admin")).toMatchObject({ code: 0 });
  const config = await configFor(broker, "metricsEveryMs = 1000", 'encoding = "both"', "discovery = true");
  const where = ["--name", name, "--state", state, "--config", config, "--restart", "never"];
  const run = stack.use(new GuardRun([...where, "--", ...program.command]));
  await run.guarding();
  // It hears commands before it says who it is.
  await observer.until("the birth", () => observer.decoded(`${box}/birth`).length > 0);
  let asked = 0;
  const rest = stack.move();
  return {
    ...{ name, observer, run, viewer, order: program.order },
    ask: (...words) => {
      asked += 1;
      return admins[asked % admins.length]!.ask(...words);
    },
    fault: async () => {
      const nth = run.seen("outcome").length + 1;
      program.order("l");
      return await run.event("outcome", nth);
    },
    [Symbol.asyncDispose]: () => rest.disposeAsync(),
  };
}

const stateSays = (observer: Observer, word: string): Promise<unknown> =>
  observer.until(`${word} in the state`, (seen) =>
    seen.some(({ topic, payload }) => topic === `${box}/state` && new TextDecoder().decode(payload).includes(word)),
  );

withBroker(
  "a guard tells its fleet who it is, how it is and what happens",
  async () => {
    await using scene = await openScene();
    const { name, observer } = scene;
    const outcome = await scene.fault();
    await observer.until("the outcome", () => observer.decoded(`${box}/e/suppress`).length > 0);
    expect(observer.decoded(`${box}/e/fault`)[0]).toMatchObject({ w: name, sig: "segv", fault: outcome.id });
    const told = { w: name, rung: "abandon", out: "clean", fleet: false };
    expect(observer.decoded(`${box}/e/suppress`)[0]).toMatchObject(told);
    const birth = await observer.until("the workload in the birth", () =>
      observer.decoded(`${box}/birth`).find(({ workloads }) => (workloads as { protected: boolean }[])[0]?.protected),
    );
    expect(birth.workloads).toEqual([
      { w: name, kind: "program", protected: true, prog: "stop", build: expect.stringMatching(/^[0-9a-f]{40}$/) },
    ]);
    expect(observer.decoded(`${box}/config`).at(-1)?.settings).toMatchObject({ "guard.name": name });
    await stateSays(observer, '"health":"ok"');
    for (const group of ["workload", "self", "link"]) {
      await observer.until(`metrics of ${group}`, (seen) => seen.some(({ topic }) => topic === `${box}/m/${group}`));
    }
    // The JSON mirror, and the discovery of Home Assistant.
    const text = await observer.until("the mirror", (seen) =>
      seen.find(({ topic }) => topic === `${box}/json/e/fault`),
    );
    expect(JSON.parse(new TextDecoder().decode(text.payload))).toMatchObject({ w: name, fault: outcome.id });
    const found = await observer.until("discovery", (seen) =>
      seen.findLast(({ topic }) => topic === "homeassistant/device/box-7/config"),
    );
    expect(found.retain || JSON.parse(new TextDecoder().decode(found.payload)).dev !== undefined).toBe(true);
    scene.run.signal("SIGTERM");
    expect(await scene.run.end()).toBe(128 + 15);
    await stateSays(observer, '"offline"');
  },
  timeoutMs,
);

withBroker(
  "a guard does what it is told, and says why where it cannot",
  async () => {
    await using scene = await openScene();
    const { name, ask, viewer, observer, run } = scene;
    expect(await viewer.ask("box-7", "ping")).toMatchObject({ s: "succeeded" });
    expect(await viewer.ask("box-7", "diag")).toMatchObject({ s: "succeeded", result: { workloads: 1, protected: 1 } });
    expect(await viewer.ask("box-7", "suppression.off")).toMatchObject({ s: "rejected" });
    for (const [verb, ...words] of [
      ["workload.restart", "w=other"],
      ["workload.hold", `w=${name}`],
      ["workload.release", `w=${name}`],
      ["guest.checkpoint", "w=g"],
      ["guest.restore", "w=g"],
      ["reboot"],
      ["update.rollback"],
    ] as const) {
      const job = await ask("box-7", verb, ...words);
      expect([verb, job.s]).toEqual([verb, "failed"]);
      expect(job.why!.length).toBeGreaterThan(20);
    }
    expect(await ask("box-7", "maintenance", "on=true")).toMatchObject({ s: "succeeded" });
    await stateSays(observer, "maintenance");
    expect(await ask("box-7", "maintenance", "on=false")).toMatchObject({ s: "succeeded" });
    expect(await ask("box-7", "workload.restart", `w=${name}`)).toMatchObject({ s: "succeeded" });
    expect(await run.guarding(2)).not.toBe(await run.guarding(1));
    // Every decision left an audit event.
    await observer.until("audits", () => observer.decoded(`${box}/e/audit`).length > 12);
  },
  timeoutMs,
);

withBroker(
  "settings on trial go back by themselves; suppression switched off leaves the signal to the program",
  async () => {
    await using scene = await openScene();
    const { name, ask, observer, run } = scene;
    const set = "set.suppression.rungsOff";
    expect(await ask("box-7", "config.set", `${set}=dive`)).toMatchObject({ s: "failed" });
    expect(await ask("box-7", "config.set", "set.guard.name=x")).toMatchObject({ s: "failed" });
    expect(await ask("box-7", "config.set", `${set}=park`)).toMatchObject({ s: "succeeded" });
    expect(await ask("box-7", "config.set", `${set}=inward,park`, "revert_s=1")).toMatchObject({ s: "succeeded" });
    await observer.until("the setting back", () =>
      observer.decoded(`${box}/e/lifecycle`).some((event) => event.name === "lifecycle.settingReverted"),
    );
    const now = { "suppression.rungsOff": "park" };
    expect(await ask("box-7", "config.get", "key=suppression.rungsOff")).toMatchObject({ result: now });
    await observer.until("the settings told", () => {
      const settings = observer.decoded(`${box}/config`).at(-1)?.settings as Record<string, unknown>;
      return settings["suppression.rungsOff"] === "park";
    });
    expect(await ask("box-7", "suppression.off", `w=${name}`, "for_s=600")).toMatchObject({ s: "succeeded" });
    expect(await ask("box-7", "suppression.on")).toMatchObject({ s: "succeeded" });
    expect((await scene.fault()).verdict).toBe("clean");
    expect(await ask("box-7", "suppression.off")).toMatchObject({ s: "succeeded" });
    scene.order("l");
    expect(await run.end()).toBe(128 + 11);
    expect(run.seen("delivered").at(-1)).toMatchObject({ reason: "disabled" });
  },
  timeoutMs,
);

withBroker(
  "the programs of a configuration are held, released and restarted from afar",
  async () => {
    await using broker = await Mosquitto.start();
    await using observer = await Observer.open(broker.url, ["holdfast/#"]);
    using ground = new Playground();
    const operator = new Operator(observer);
    expect(await operator.believedBy(ground.stateDirectory, null, "operate")).toMatchObject({ code: 0 });
    const section = ["[telemetry]", `broker = "${broker.url}"`, 'device = "box-7"', "connectSpreadMs = 0"];
    const program = ["[[program]]", 'name = "waits"', 'command = ["sleep", "600"]'];
    await using run = new GuestRun(ground, [...section, ...program].join("\n"));
    const guarding = async (): Promise<number> =>
      Number(((await run.next({ event: "guarding", workload: "waits" })) as unknown as { pid: number }).pid);
    const first = await guarding();
    await observer.until("the program in the birth", () => {
      const births = observer.decoded(`${box}/birth`) as unknown as {
        workloads: { w: string; protected: boolean }[];
      }[];
      return births.some(({ workloads }) => workloads.some(({ w, protected: good }) => w === "waits" && good));
    });
    const ask = (verb: string, name = "waits") => operator.ask("box-7", verb, `w=${name}`);
    expect(await ask("workload.restart")).toMatchObject({ s: "succeeded" });
    const second = await guarding();
    expect([second === first, isAlive(first)]).toEqual([false, false]);
    expect(await ask("workload.hold")).toMatchObject({ s: "succeeded" });
    expect(isAlive(second)).toBe(false);
    expect(await ask("workload.release")).toMatchObject({ s: "succeeded" });
    expect(isAlive(await guarding())).toBe(true);
    const unknown = await ask("guest.checkpoint");
    expect([unknown.s, unknown.why]).toEqual(["failed", expect.stringContaining("there is no guest called")]);
    await run.control.program("waits", "stop");
  },
  timeoutMs,
);

withBroker(
  "without a broker that answers, guarding is as before",
  async () => {
    await using broker = await Mosquitto.start();
    await broker.kill();
    await using program = await compileOrdered("stop");
    const config = await configFor(broker);
    await using run = new GuardRun(["--name", freshName("alone"), "--config", config, "--", ...program.command]);
    await run.guarding();
    program.order("l");
    expect((await run.event("outcome")).verdict).toBe("clean");
    run.signal("SIGTERM");
    expect(await run.end()).toBe(128 + 15);
  },
  timeoutMs,
);

test(
  "a section that cannot work is refused before anything is started",
  async () => {
    const refused = async (...lines: readonly string[]): Promise<string> => {
      const file = join(folder, `${freshName("bad")}.toml`);
      await Bun.write(file, `[telemetry]\n${lines.join("\n")}\n`);
      const { code, error } = await holdfast("guard", "--config", file, "--", "true");
      expect([2, 78]).toContain(code);
      return error;
    };
    expect(await refused('broker = "http://broker.example"')).toContain("telemetry.broker: wants mqtts://HOST:PORT");
    expect(await refused('broker = "mqtt://broker.example"')).toContain("plaintext");
    expect(await refused('broker = "mqtts://broker.example"', 'device = "Box"')).toContain("telemetry.device");
    expect(await refused('broker = "mqtts://broker.example"', 'authority = "/nowhere/ca.pem"')).toContain(
      "cannot read /nowhere/ca.pem",
    );
    expect(await refused('broker = "mqtts://broker.example"', 'herds = "use"')).toContain("did you mean herd?");
    expect((await holdfast("guard", "--device", "x", "--", "true")).error).toContain("--device needs --broker");
  },
  timeoutMs,
);
