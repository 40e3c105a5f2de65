// SPDX-License-Identifier: Apache-2.0
/**
 * A guard in a fleet: the real verb, a real broker, a program that faults. What it tells (state, birth, settings, events,
 * metrics), what it does when told, and that nothing of it is needed for guarding.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compileOrdered } from "#scripts/bench/orderedProgram.ts";
import { freshName, type GuardEvent, GuardRun } from "#tests/peers/guardRun.ts";
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

withBroker(
  "a guard tells its fleet who it is and what happens, and does what it is told",
  async () => {
    await using broker = await Mosquitto.start();
    await using observer = await Observer.open(broker.url, ["holdfast/#"]);
    await using program = await compileOrdered("stop");
    const [name, state] = [freshName("uplink"), join(folder, "state")];
    // A key gives ten commands a minute.
    const admins = [new Operator(observer), new Operator(observer), new Operator(observer)];
    let asked = 0;
    const ask: Operator["ask"] = (...words) => {
      asked += 1;
      return admins[asked % admins.length]!.ask(...words);
    };
    const viewer = new Operator(observer);
    for (const one of admins) expect(await one.believedBy(state, name, "admin")).toMatchObject({ code: 0 });
    expect(await viewer.believedBy(state, name, "view")).toMatchObject({ code: 0 });
    const config = await configFor(broker, "metricsEveryMs = 1000");
    await using run = new GuardRun(["--name", name, "--state", state, "--config", config, "--", ...program.command]);
    await run.guarding();
    const fault = async (): Promise<GuardEvent> => {
      const nth = run.seen("outcome").length + 1;
      program.order("l");
      return await run.event("outcome", nth);
    };
    const outcome = await fault();

    await observer.until("the outcome", () => observer.decoded(`${box}/e/suppress`).length > 0);
    expect(observer.decoded(`${box}/e/fault`)[0]).toMatchObject({ w: name, sig: "segv", fault: outcome.id });
    expect(observer.decoded(`${box}/e/suppress`)[0]).toMatchObject({
      w: name,
      rung: "abandon",
      out: "clean",
      fleet: false,
    });
    const told = await observer.until("the workload in the birth", () =>
      observer.decoded(`${box}/birth`).find(({ workloads }) => (workloads as { protected: boolean }[])[0]?.protected),
    );
    expect(told.workloads).toEqual([
      { w: name, kind: "program", protected: true, prog: "stop", build: expect.stringMatching(/^[0-9a-f]{40}$/) },
    ]);
    expect(observer.decoded(`${box}/config`).at(-1)?.settings).toMatchObject({ "guard.name": name });
    const said = await observer.until("state", (seen) => seen.findLast(({ topic }) => topic === `${box}/state`));
    expect(JSON.parse(new TextDecoder().decode(said.payload))).toMatchObject({ s: "online", health: "ok" });
    for (const group of ["workload", "self", "link"]) {
      await observer.until(`metrics of ${group}`, (seen) => seen.some(({ topic }) => topic === `${box}/m/${group}`));
    }

    expect(await viewer.ask("box-7", "ping")).toMatchObject({ s: "succeeded" });
    expect(await viewer.ask("box-7", "diag")).toMatchObject({ s: "succeeded", result: { workloads: 1, protected: 1 } });
    expect(await viewer.ask("box-7", "suppression.off")).toMatchObject({ s: "rejected" });
    // A verb that has nothing to act on here says why.
    for (const [verb, ...words] of [
      ["workload.restart", `w=${name}`],
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
    await observer.until("maintenance", (seen) =>
      seen.some(
        ({ topic, payload }) => topic.endsWith("/state") && new TextDecoder().decode(payload).includes("maintenance"),
      ),
    );
    expect(await ask("box-7", "maintenance", "on=false")).toMatchObject({ s: "succeeded" });

    // A setting on trial goes back by itself.
    const set = "set.suppression.rungsOff";
    expect(await ask("box-7", "config.set", `${set}=dive`)).toMatchObject({ s: "failed" });
    expect(await ask("box-7", "config.set", "set.guard.name=x")).toMatchObject({ s: "failed" });
    expect(await ask("box-7", "config.set", `${set}=park`)).toMatchObject({ s: "succeeded" });
    expect(await ask("box-7", "config.set", `${set}=inward,park`, "revert_s=1")).toMatchObject({
      s: "succeeded",
    });
    const settings = (): unknown => observer.decoded(`${box}/config`).at(-1)!.settings;
    await observer.until("the setting back", () =>
      observer.decoded(`${box}/e/lifecycle`).some((e) => e.name === "lifecycle.settingReverted"),
    );
    expect(await ask("box-7", "config.get", "key=suppression.rungsOff")).toMatchObject({
      result: { "suppression.rungsOff": "park" },
    });
    expect(settings()).toMatchObject({ "suppression.rungsOff": "park" });

    // What was learned can be forgotten from afar; every decision left an audit event.
    const audits = observer.decoded(`${box}/e/audit`);
    expect(audits.length).toBeGreaterThan(12);

    // Suppression off: the signal is the program's own affair, and ends it.
    expect(await ask("box-7", "suppression.off", `w=${name}`, "for_s=1")).toMatchObject({ s: "succeeded" });
    expect(await ask("box-7", "suppression.on")).toMatchObject({ s: "succeeded" });
    expect((await fault()).verdict).toBe("clean");
    expect(await ask("box-7", "suppression.off")).toMatchObject({ s: "succeeded" });
    program.order("l");
    expect(await run.end()).toBe(128 + 11);
    expect(run.seen("delivered").at(-1)).toMatchObject({ reason: "disabled" });
    await observer.until("an orderly end", (seen) =>
      seen.some(
        ({ topic, payload }) => topic.endsWith("/state") && new TextDecoder().decode(payload).includes('"offline"'),
      ),
    );
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
