// SPDX-License-Identifier: Apache-2.0
/**
 * Updates through every door of a supervisor that looks after a flashed box: signed commands over a real broker, the command
 * line, the page's words. The box is a folder, RAUC and the boot loader are stand-ins, the restart is one of the supervisor.
 */
import { expect } from "bun:test";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { controlPath } from "#appliance/control.ts";
import type { GateTimes } from "#appliance/update/gate.ts";
import { Rauc } from "#appliance/update/rauc.ts";
import { systemClock } from "#clock.ts";
import { uploadPath } from "#status/model/upload.ts";
import { Authority } from "#tests/peers/certificates.ts";
import { until } from "#tests/peers/guardRun.ts";
import { GuestRun, Playground } from "#tests/peers/guestRun.ts";
import { Mosquitto } from "#tests/peers/mosquitto.ts";
import { Observer } from "#tests/peers/observer.ts";
import { holdfast, Operator } from "#tests/peers/operator.ts";
import { until as answered } from "#tests/peers/pageHost.ts";
import { PageVisitor } from "#tests/peers/pageVisitor.ts";
import { compatible, SlottedTree } from "#tests/peers/slottedTree.ts";
import { need, root, tracing } from "#tests/skip.ts";

const times: GateTimes = { holdMs: 1_000, withinMs: 0, leastMs: 20_000, everyMs: 200 };
const impatient: GateTimes = { ...times, leastMs: 3_000 };
const programs = ["one"].map((name) => `[[program]]\nname = "${name}"\ncommand = ["sleep", "600"]`).join("\n");

/** Bundles of the stand-in have no payload. */
class ToolOfFake extends Rauc {
  override checkWhole = async (): Promise<void> => {};
}

class Box {
  readonly ground = new Playground();
  readonly tree = new SlottedTree("1.0");
  readonly rebooted: string;

  constructor() {
    this.tree.powerOn();
    this.rebooted = join(this.tree.top, "rebooted");
  }

  supervise(toml: string, gate = times): GuestRun {
    rmSync(this.rebooted, { force: true });
    const { top, tool } = this.tree;
    const machine = {
      ...{ top, tool: new ToolOfFake(this.tree.box.toolConfig, tool), times: gate },
      holdfast: [process.execPath, join(import.meta.dir, "../../src/cli/main.ts")],
      rebootCommand: ["sh", "-c", `echo yes > ${this.rebooted}`],
    };
    return new GuestRun(this.ground, toml, { machine });
  }

  /** The door of the supervisor that runs now. */
  door = (): Promise<unknown> => until(() => existsSync(controlPath(this.ground.runDirectory)));
  restarted = (): Promise<unknown> => until(() => existsSync(this.rebooted));

  async [Symbol.asyncDispose](): Promise<void> {
    await using run = this.supervise(programs);
    await this.door();
    for (const { name, pid } of await run.control.programs()) if (pid !== null) await run.control.program(name, "stop");
    this.tree[Symbol.dispose]();
  }
}

const saying = (words: string) => expect.stringContaining(words) as string;

/** Looks again and again, as a person does. */
async function phase(run: GuestRun, wanted: string): Promise<void> {
  let seen = "";
  const looking = new AbortController();
  const look = async (): Promise<void> => {
    while (!looking.signal.aborted) {
      seen = (await run.control.update()).phase;
      await systemClock.sleep(100);
    }
  };
  const looked = look();
  await until(() => seen === wanted);
  looking.abort();
  await looked;
}

const guarded = need("gdbserver", root, tracing);
const withBroker = need("gdbserver", "mosquitto", "openssl", root, tracing);

/** A box, its broker, a server of bundles, and an admin who may ask for updates. */
async function openFleet() {
  await using stack = new AsyncDisposableStack();
  const box = stack.use(new Box());
  const broker = stack.use(await Mosquitto.start());
  const observer = stack.use(await Observer.open(broker.url, ["holdfast/#"]));
  const authority = stack.use(new Authority());
  const { privateKey: key, certificate: cert } = authority.issue("localhost");
  const server = stack.use(
    Bun.serve({
      ...{ port: 0, hostname: "localhost", tls: { key, cert } },
      fetch: (request) => new Response(Bun.file(join(box.tree.top, new URL(request.url).pathname))),
    }),
  );
  const admin = new Operator(observer);
  expect(await admin.believedBy(box.ground.stateDirectory, null, "admin")).toMatchObject({ code: 0 });
  const telemetry = [`[telemetry]`, `broker = "${broker.url}"`, `device = "box-7"`, `authority = "${authority.file}"`];
  const toml = `${programs}\n${[...telemetry, "connectSpreadMs = 0"].join("\n")}\n`;
  const ask = (name: string, sha256?: string) => {
    const hash = sha256 ?? new Bun.CryptoHasher("sha256").update(readFileSync(join(box.tree.top, name))).digest("hex");
    return admin.ask("box-7", "update.install", `url=https://localhost:${server.port}/${name}`, `sha256=${hash}`);
  };
  const hold = (on: boolean) => admin.ask("box-7", "maintenance", `on=${on}`);
  const birth = () => observer.decoded("holdfast/1/box-7/birth").at(-1);
  const born = (what: string, holds: (words: Record<string, unknown>) => boolean): Promise<unknown> =>
    observer.until(what, () => holds(birth() ?? {}));
  box.tree.bundle("two.raucb", { version: "2.0" });
  box.tree.bundle("three.raucb", { version: "3.0" });
  const rest = stack.move();
  return { box, observer, toml, ask, hold, born, [Symbol.asyncDispose]: () => rest.disposeAsync() };
}

withBroker(
  "a fleet updates a box: fetched, tried, proven; a worse version comes back with its reason",
  async () => {
    await using fleet = await openFleet();
    const { box, observer, toml, ask, hold, born } = fleet;
    let job: ReturnType<typeof ask>;
    {
      await using run = box.supervise(toml);
      await run.next({ event: "guarding" });
      await born("the birth", ({ slot, sw }) => slot === "A" && sw === "1.0");
      expect(await ask("two.raucb", "0".repeat(64))).toMatchObject({ s: "failed", why: saying("not the bundle") });
      expect(await hold(true)).toMatchObject({ s: "succeeded" });
      expect(await ask("two.raucb")).toMatchObject({ s: "failed", why: saying("held back") });
      expect(await hold(false)).toMatchObject({ s: "succeeded" });
      job = ask("two.raucb");
      await box.restarted();
    }
    expect(box.tree.powerOn().slot).toBe("B");
    {
      await using run = box.supervise(toml);
      expect(await job).toMatchObject({ s: "succeeded" });
      expect(await run.control.update()).toMatchObject({ phase: "good", slot: "B", version: "2.0" });
      await born("the birth of the new version", ({ slot, sw }) => slot === "B" && sw === "2.0");
      job = ask("three.raucb");
      await box.restarted();
    }
    expect(box.tree.powerOn().slot).toBe("A");
    {
      await using run = box.supervise(toml.replace("sleep", "/nonexistent/sleep"), impatient);
      await box.door();
      await run.control.program("one", "stop");
      await box.restarted();
    }
    expect(box.tree.powerOn().slot).toBe("B");
    await using _back = box.supervise(toml);
    expect(await job).toMatchObject({ s: "failed", why: saying("trial: workload one") });
    await born("the rollback in the birth", ({ rollback }) => String(rollback ?? "").includes("3.0: workload one"));
    const alarm = await observer.until("the alarm", () => observer.decoded("holdfast/1/box-7/a/rollback").at(-1));
    expect(alarm).toMatchObject({ sev: 3, cause: saying("3.0 was sent back") });
    const names = observer.decoded("holdfast/1/box-7/e/update").map(({ name }) => name);
    for (const name of ["installing", "installed", "trial", "good", "rolledBack"]) {
      expect(names).toContain(`update.${name}`);
    }
    expect(await ask("three.raucb")).toMatchObject({ s: "failed", why: saying("failed here") });
  },
  90_000,
);

guarded(
  "the command line: status, verify, lock, install, trial, rollback, clear; and what is refused",
  async () => {
    await using box = new Box();
    const say = (...words: string[]) => holdfast("update", ...words, "--run", box.ground.runDirectory);
    const bundle = box.tree.bundle("two.raucb", { version: "2.0" });
    {
      await using run = box.supervise(programs);
      await run.next({ event: "guarding" });
      expect((await say("status")).out).toMatch(/A\s+runs\s+1\.0\s+good/);
      expect((await say("verify", bundle)).out).toContain("version 2.0 for holdfast-test");
      expect(await say("verify", box.tree.bundle("old.raucb", { version: "0.9" }))).toMatchObject({
        ...{ code: 1, error: saying("not newer than 1.0") },
      });
      const toaster = box.tree.bundle("toaster.raucb", { version: "2.0", compatible: "toaster" });
      expect((await say("install", toaster)).error).toContain("for toaster");
      expect(await say("lock", "an audit")).toMatchObject({ code: 0 });
      expect(await say("install", bundle)).toMatchObject({ code: 75, error: saying("an audit") });
      expect((await say("status")).out).toContain("an audit");
      expect((await say("unlock")).code).toBe(0);
      const broken = box.tree.bundle("broken.raucb", { version: "2.1", breaks: true });
      expect(await say("install", broken)).toMatchObject({
        code: 1,
        out: saying("Input/output error"),
      });
      expect(await say("install", bundle)).toMatchObject({ code: 0 });
      await box.restarted();
    }
    box.tree.powerOn();
    {
      await using run = box.supervise(programs);
      await box.door();
      expect(await run.control.update()).toMatchObject({
        phase: "trial",
        says: saying("2.0 is on trial"),
      });
      await phase(run, "good");
      expect((await say("rollback")).code).toBe(0);
      await box.restarted();
    }
    expect(box.tree.powerOn().slot).toBe("A");
    await using run = box.supervise(programs);
    await run.next({ event: "guarding" });
    expect((await say("status")).out).toMatch(/last rollback: 2\.0: sent back by/);
    expect(await say("install", bundle)).toMatchObject({ code: 1, error: saying("update clear 2.0") });
    expect((await say("clear", "2.0")).code).toBe(0);
    expect((await say("clear", "2.0")).error).toContain("not refused");
    expect(await say("mark", "good")).toMatchObject({ code: 0 });
  },
  60_000,
);

guarded(
  "the page: a factory reset is noted for the next start; a bundle from a browser is checked and installed",
  async () => {
    await using box = new Box();
    const brought = uploadPath(box.ground.stateDirectory);
    await using run = box.supervise(`${programs}\n[status]\nlisten = "127.0.0.1:0"\n`);
    const { url, claim } = (await run.next({ event: "status" })) as { url: string; claim: string };
    await run.next({ event: "guarding" });
    const page = await PageVisitor.claim(url, claim);
    await answered(async () => (await page.get("actions")).includes("Update from a file"));
    const bring = async (version: string, compatible: string): Promise<{ state: string; why: string }> => {
      const file = box.tree.bundle("brought.raucb", { version, compatible });
      const id = await page.bring(readFileSync(file, "latin1"));
      let told = { state: "running", why: "" };
      await answered(async () => {
        told = JSON.parse(await page.get(`api/v1/jobs/${id}`));
        return told.state !== "running";
      });
      return told;
    };
    expect(await bring("2.0", "toaster")).toMatchObject({ state: "failed", why: saying("for toaster") });
    expect(await bring("0.9", compatible)).toMatchObject({ state: "failed", why: saying("not newer") });
    expect(existsSync(brought)).toBe(false);
    expect(await page.post("actions/box", { act: "reset" })).toBe(303);
    await box.restarted();
    expect(existsSync(box.tree.box.resetMarkPath)).toBe(true);
    rmSync(box.rebooted);
    expect(await bring("2.0", compatible)).toMatchObject({ state: "succeeded" });
    await box.restarted();
    expect(existsSync(brought)).toBe(false);
    expect(box.tree.powerOn()).toMatchObject({ slot: "B", image: { version: "2.0" } });
  },
  60_000,
);

guarded("a machine without slots says so, and can be restarted", async () => {
  using ground = new Playground();
  const rebooted = join(ground.path, "rebooted");
  writeFileSync(join(ground.path, "empty"), "");
  const machine = { top: join(ground.path, "none"), rebootCommand: ["touch", rebooted] };
  await using run = new GuestRun(ground, "", { machine });
  await until(() => existsSync(controlPath(ground.runDirectory)));
  const said = await holdfast("update", "status", "--run", ground.runDirectory);
  expect(said).toMatchObject({ code: 69, error: saying("no slots") });
  expect(await run.control.programs()).toEqual([]);
});
