// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast keys …` and `holdfast fleet …` as a person calls them, each in its own process, against a box on real storage at
 * a real Mosquitto: a key is made and trusted while the box runs, a command is sent with it, the fleet is watched.
 */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Mosquitto } from "#tests/peers/mosquitto.ts";
import { Observer } from "#tests/peers/observer.ts";
import { openStoredBox } from "#tests/peers/storedBox.ts";
import { need } from "#tests/skip.ts";

let scratch = "";
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "holdfast-fleet-"));
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

const state = (): string => join(scratch, "state");
const withBroker = need("mosquitto");

type Said = { readonly code: number; readonly out: string; readonly complaint: string };

async function holdfast(...words: string[]): Promise<Said> {
  const child = Bun.spawn([process.execPath, "src/cli/main.ts", ...words], {
    cwd: join(import.meta.dir, "../.."),
    stdio: ["ignore", "pipe", "pipe"],
  });
  const [out, complaint] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, out, complaint };
}

const keys = (...words: string[]): Promise<Said> => holdfast("keys", ...words, "--state", state());

test("keys: made, believed, listed, removed; the grant of a box; wrong words get one line", async () => {
  const file = join(scratch, "operator");
  const made = await holdfast("keys", "new", file);
  const id = /key ([0-9a-f]{16})/.exec(made.out)?.[1] ?? "";
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect((await holdfast("keys", "new", file)).complaint).toContain("is there already");
  expect((await keys("list")).out).toStartWith("Nobody is believed yet");
  expect(await keys("add", `${file}.pub`, "--as", "operate", "--label", "night shift")).toMatchObject({ code: 0 });
  const [listed] = (await keys("list", "--json")).out.split("\n").map((line) => JSON.parse(line || "null"));
  expect(listed).toMatchObject({ id, use: "operate", label: "night shift" });
  expect((await keys("list")).out).toContain("night shift");
  // A guard has a list of its own: who forgets that would wait for an answer that never comes.
  expect(await keys("add", `${file}.pub`, "--as", "view", "--label", "x", "--name", "shop")).toMatchObject({
    complaint: "",
  });
  expect((await keys("add", `${file}.pub`, "--as", "operate", "--label", "night shift")).complaint).toContain(
    "lists of their own (shop): add it with --name",
  );
  expect(await keys("remove", "0123456789abcdef")).toMatchObject({ code: 66 });
  expect(await keys("remove", id)).toMatchObject({ code: 0 });
  expect((await keys("list")).out).toStartWith("Nobody is believed yet");
  expect(await keys("add", file, "--as", "root", "--label", "x")).toMatchObject({ code: 2 });
  expect((await keys("box")).code).toBe(66);
}, 30_000);

withBroker(
  "fleet: a key added while the box runs, a command sent with it, its grant installed, the fleet watched",
  async () => {
    await using broker = await Mosquitto.start();
    await using box = await openStoredBox(scratch, broker.url, { settings: { herd: "use" } });
    await box.until("connected", () => box.telemetry.connected);
    const stop = new AbortController();
    const appliance = (async () => {
      for await (const job of box.telemetry.requests(stop.signal)) {
        job.progress({ percent: 50, step: "half way" });
        if (job.request.args.w === "redis") await job.finish({ kind: "succeeded", result: { pid: 7 } });
        else await job.finish({ kind: "failed", why: "there is no workload of this name" });
      }
    })().catch(() => {});
    const operator = join(scratch, "operator");
    const fleetKey = join(scratch, "fleet");
    for (const file of [operator, fleetKey]) await holdfast("keys", "new", file);
    expect(await keys("add", `${operator}.pub`, "--as", "operate", "--label", "me")).toMatchObject({ code: 0 });
    expect(await keys("add", `${fleetKey}.pub`, "--as", "fleet", "--label", "fleet")).toMatchObject({ code: 0 });
    const at = ["--broker", broker.url];
    const asked = (device: string, ...words: string[]) =>
      holdfast("fleet", "send", "--wait", "15", ...words, "--key", operator, "--device", device, ...at, "--json");
    const done = await asked("box-1", "workload.restart", "--arg", "w=redis");
    expect(done).toMatchObject({ code: 0, complaint: "" });
    expect(
      done.out
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line))
        .at(-1),
    ).toMatchObject({ box: "box-1", s: "succeeded", result: { pid: 7 } });
    expect(await asked("box-1", "workload.restart", "--arg", "w=nothing")).toMatchObject({ code: 1 });
    expect(await asked("_all", "ping", "--wait", "2")).toMatchObject({ code: 0 });
    expect((await asked("box-1", "wipe")).out).toContain("may not act as admin");
    expect((await asked("box-1", "workload.restart")).complaint).toContain("does not follow the contract");
    expect(readFileSync(`${operator}.ctr`, "utf8")).toBe("5\n");
    const own = JSON.parse((await keys("box", "--json")).out);
    expect(own.public).toBe(Buffer.from(box.telemetry.herdKey).toString("hex"));
    const granted = await holdfast("keys", "grant", own.public, "--fleet-key", fleetKey, "--device", "box-1");
    expect(await keys("install", granted.out.trim())).toMatchObject({ code: 0 });
    expect((await keys("box")).out).toContain("has a grant");
    await box.events(0, 1);
    const seen = await holdfast("fleet", "watch", ...at, "--seconds", "2", "--json");
    expect(seen.code).toBe(0);
    expect(JSON.parse(seen.out.trim().split("\n").at(-1)!)).toMatchObject({
      device: "box-1",
      state: "online",
      health: "ok",
    });
    expect(await holdfast("fleet", "deny", "--key", operator, "--number", "1", "--kid", own.id, ...at)).toMatchObject({
      code: 0,
    });
    await broker.kill();
    expect(await holdfast("fleet", "watch", ...at)).toMatchObject({ code: 69 });
    stop.abort();
    await appliance;
  },
  90_000,
);

withBroker(
  "fleet watch: a box that is lost while somebody looks is lost since then; one that was lost before, since before",
  async () => {
    await using broker = await Mosquitto.start();
    await using speaker = await Observer.open(broker.url, ["holdfast/1/box-1/state"]);
    const say = (device: string, s: string) =>
      speaker.publish(`holdfast/1/${device}/state`, JSON.stringify({ v: 1, s, sid: 4, boot: "b" }), { retain: true });
    await say("box-1", "online");
    await say("box-2", "lost");
    const words = ["fleet", "watch", "--broker", broker.url, "--seconds", "20", "--json"];
    const watch = Bun.spawn([process.execPath, join(import.meta.dir, "../../src/cli/main.ts"), ...words], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const seen = new Map<string, { readonly state: string; readonly sinceMs: number | null }>();
    let text = "";
    for await (const chunk of watch.stdout.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      for (const line of text.split("\n").slice(0, -1)) seen.set(JSON.parse(line).device, JSON.parse(line));
      if (seen.size === 2 && seen.get("box-1")?.state === "online") await say("box-1", "lost");
      if (seen.get("box-1")?.state === "lost") break;
    }
    watch.kill();
    await watch.exited;
    expect(seen.get("box-2")).toMatchObject({ state: "lost", sinceMs: null });
    expect(seen.get("box-1")!.sinceMs).toBeGreaterThan(Date.parse("2026-01-01"));
  },
  30_000,
);

test("fleet sign: bytes without a broker; a key that others may read is not used", async () => {
  const file = join(scratch, "operator");
  await holdfast("keys", "new", file);
  const words = ["fleet", "sign", "ping", "--key", file, "--device", "box-1"];
  const out = await holdfast(...words, "--out", join(scratch, "ping.cose"));
  expect(out.out).toContain("publish it on ROOT/1/box-1/cmd/ping");
  expect(statSync(join(scratch, "ping.cose")).size).toBeGreaterThan(150);
  expect((await holdfast(...words)).out.trim()).toMatch(/^84[0-9a-f]+$/);
  expect((await holdfast(...words.with(2, "pong"))).complaint).toContain('there is no verb "pong"');
  Bun.spawnSync(["chmod", "644", file]);
  expect((await holdfast(...words)).complaint).toContain("chmod 600");
}, 30_000);
