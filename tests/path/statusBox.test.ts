// SPDX-License-Identifier: Apache-2.0
/**
 * The box itself on its page: slots, the update that came back, why it was started; updates held back, let go and taken back
 * by whoever may, and by nobody else.
 */
import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { systemClock } from "#clock.ts";
import { uploadPath } from "#status/model/upload.ts";
import type { Told, UpdateTold } from "#status/told.ts";
import { loginAs, PageHost, password, until } from "#tests/peers/pageHost.ts";

const atMs = systemClock.wallMs();
const back = { version: "2.0<b>", reason: "workload shop: down <script>", atMs };
const update: UpdateTold = {
  ...{ slot: "A", version: "1.0", phase: "failed", says: "version 2.0 failed (trial): shop is down", sinceMs: atMs },
  slots: [
    { slot: "A", running: true, version: "1.0", good: true, tries: 0 },
    { slot: "B", running: false, version: null, good: false, tries: 3 },
  ],
  ...{ percent: null, refused: [back], lastRollback: back, lock: null, testKey: true },
};
const told = (change: Partial<UpdateTold> = {}): Partial<Told> => ({
  update: { known: true, value: { ...update, ...change } },
  updateLock: { known: true, value: change.lock == null ? "" : `ada: ${change.lock.why}` },
  boots: [{ atMs, reason: "watchdog", why: "the hardware watchdog reset the box (boot status 32)" }],
  boxVerbs: ["reboot", "maintenance", "wipe", "update.rollback", "update.install"],
});
const lock = { why: "an audit", by: "ada", atMs, untilMs: null };

test("the system page shows slots, the rollback with its reason, and why the box was started", async () => {
  await using host = await PageHost.open();
  host.told = told();
  const cookie = await host.claimed();
  let text = "";
  await until(async () => {
    text = await (await host.get("system", { cookie })).text();
    return text.includes("Last rollback");
  });
  for (const words of ["A (runs)", "given up", "version 2.0 failed", "watchdog", "test key", "2.0&lt;b&gt;"]) {
    expect(text).toContain(words);
  }
  expect(text).not.toContain("<script>");
  expect(await (await host.get("", { cookie })).text()).toContain("was sent back");
});

test("updates are held back and let go; role, form and password are asked for", async () => {
  await using host = await PageHost.open();
  host.told = told();
  const admin = await host.claimed();
  const viewer = await loginAs(host, admin, "view");
  const operator = await loginAs(host, admin, "operate");
  await until(async () => (await (await host.get("actions", { cookie: admin })).text()).includes("Hold updates back"));
  expect(await (await host.get("actions", { cookie: viewer })).text()).toContain("Hold updates back: needs the role");
  const ask = async (cookie: string, act: string, more: Record<string, string> = {}): Promise<number> => {
    const csrf = await host.csrf(cookie);
    return (await host.post("actions/box", { csrf, act, password, ...more }, { cookie })).status;
  };
  expect((await host.get("actions/box?act=hold", { cookie: operator })).status).toBe(200);
  expect((await host.get("actions/box?act=hold", { cookie: viewer })).status).toBe(403);
  for (const act of ["release", "constructor", "__proto__", ""]) {
    expect([act, (await host.get(`actions/box?act=${act}`, { cookie: admin })).status]).toEqual([act, 409]);
    expect([act, await ask(admin, act)]).toEqual([act, 409]);
  }
  expect(await ask(viewer, "hold")).toBe(403);
  expect(await ask(operator, "rollback")).toBe(403);
  expect(await ask(operator, "hold", { csrf: "wrong" })).toBe(403);
  expect(host.requests).toEqual([]);
  expect(await ask(operator, "hold")).toBe(303);
  expect(host.requests.at(-1)).toMatchObject({ verb: "maintenance", args: { on: true }, by: { via: "page" } });
  host.told = told({ lock });
  await until(async () => (await (await host.get("actions", { cookie: operator })).text()).includes("Let updates go"));
  expect(await ask(operator, "release")).toBe(303);
  expect(host.requests.at(-1)).toMatchObject({ verb: "maintenance", args: { on: false } });
  expect(await ask(operator, "reboot")).toBe(303);
  expect(await ask(admin, "rollback")).toBe(303);
  expect(await ask(operator, "reset")).toBe(403);
  expect(await ask(admin, "reset")).toBe(303);
  const asked = ["maintenance", "maintenance", "reboot", "update.rollback", "wipe"];
  expect(host.requests.map(({ verb }) => verb as string)).toEqual(asked);
  expect(host.audits.filter(({ event }) => event === "page.act")).toHaveLength(5);
});

test("an update is brought in slices: in order, by an admin of a fresh login, whole, and to one place only", async () => {
  await using host = await PageHost.open();
  host.told = told();
  const admin = await host.claimed();
  const operator = await loginAs(host, admin, "operate");
  await until(async () => (await (await host.get("actions", { cookie: admin })).text()).includes("Update from a file"));
  const bundle = Buffer.alloc(1_200_000, "a bundle, not read by the page ");
  const half = 600_000;
  const begin = async (cookie: string, more: Record<string, string>): Promise<Response> =>
    host.post("actions/update", { csrf: await host.csrf(cookie), password, ...more }, { cookie });
  const csrf = await host.csrf(admin);
  const headers = { cookie: admin, origin: host.url.slice(0, -1), "x-csrf-token": csrf };
  const slice = (id: string, offset: number | string, bytes: Buffer, change: Record<string, string> = {}) =>
    host.send(`actions/update/slice?id=${id}&offset=${offset}`, bytes.toString("latin1"), { ...headers, ...change });
  const end = (id: string) => host.post("actions/update/end", { csrf, id }, { cookie: admin });

  expect((await begin(operator, { size: "10" })).status).toBe(403);
  expect((await begin(admin, { size: "10", csrf: "x" })).status).toBe(403);
  for (const size of ["0", "-1", "1e3", "3000000000", "99999999999999"])
    expect([size, (await begin(admin, { size })).status]).toEqual([size, 409]);
  const { id } = (await (await begin(admin, { size: String(bundle.length) })).json()) as { id: string };
  expect((await slice(id, 0, bundle.subarray(0, half), { "x-csrf-token": "x" })).status).toBe(403);
  expect((await slice(id, 0, bundle.subarray(0, half), { origin: "https://evil.example" })).status).toBe(403);
  expect((await slice("../../x", 0, bundle.subarray(0, half))).status).toBe(409);
  expect((await slice(id, "1e1", bundle.subarray(0, half))).status).toBe(400);
  expect((await slice(id, 5, bundle.subarray(0, half))).status).toBe(409);
  expect((await slice(id, 0, Buffer.alloc(2 ** 20 + 1))).status).toBe(413);
  expect(await (await slice(id, 0, bundle.subarray(0, half))).json()).toEqual({ have: half });
  // Sent again after a lost answer.
  expect(await (await slice(id, 0, bundle.subarray(0, half))).json()).toEqual({ have: half });
  expect((await end(id)).status).toBe(409);
  expect((await slice(id, half, Buffer.alloc(half + 1))).status).toBe(409);
  expect(await (await slice(id, half, bundle.subarray(half))).json()).toEqual({ have: bundle.length });
  expect(existsSync(uploadPath(host.directory))).toBe(false);
  expect((await end(id)).status).toBe(200);
  expect(readFileSync(uploadPath(host.directory)).equals(bundle)).toBe(true);
  expect((await slice(id, bundle.length, bundle.subarray(0, 1))).status).toBe(409);
  expect(host.requests.map(({ verb, args }) => ({ verb, args }))).toEqual([
    { verb: "update.install", args: { uploaded: true, older: false } },
  ]);
  // One that was begun and not ended is gone with the supervisor.
  expect((await begin(admin, { size: "10" })).status).toBe(200);
  expect(existsSync(`${uploadPath(host.directory)}.part`)).toBe(true);
  await host.end();
  await host.start();
  expect(existsSync(`${uploadPath(host.directory)}.part`)).toBe(false);
  host.told = told({ lock });
  await until(async () => (await host.get("actions/update", { cookie: admin })).status === 200);
});
