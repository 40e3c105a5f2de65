// SPDX-License-Identifier: Apache-2.0
/**
 * The status page attacked from outside, over its real listener: no change without a login, none from another site, none by
 * another role, no other host name, no file, no flood that keeps others out.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import { endpoints } from "#status/api/endpoints.ts";
import { limits } from "#status/settings.ts";
import { restore } from "#storage/backup.ts";
import { readFault } from "#storage/journalReader.ts";
import { loginAs, PageHost, password, until, workload } from "#tests/peers/pageHost.ts";

/** A hundred requests each, on a machine that does other things too. */
setDefaultTimeout(120_000);

const pages = [
  "",
  "faults",
  "faults/x",
  "workloads",
  "workloads/shop",
  "history",
  "host",
  "counters",
  "fleet",
  "checkpoints",
  "events",
  "logs",
  "system",
  "actions",
  "actions/confirm",
  "actions/box",
  "actions/bundle",
  "actions/update",
  "account",
  "help",
];
const changes = [
  "actions/do",
  "actions/box",
  "actions/bundle",
  "actions/backup",
  "actions/update",
  "actions/update/slice",
  "actions/update/end",
  "account/password",
  "account/logins/end",
  "account/put",
  "account/remove",
  "account/token",
  "account/revoke",
];
const guest = workload("cache", { kind: "guest", state: "up", verbs: ["workload.restart"] });
const restart = { verb: "workload.restart", workload: "cache" };

describe("without a login", () => {
  test("no page and no answer is given, and nothing can be changed", async () => {
    await using host = await PageHost.open();
    await host.claimed();
    for (const path of pages) {
      const answer = await host.get(path);
      expect([path, answer.status, answer.headers.get("location")]).toEqual([path, 303, "/login"]);
    }
    const paths = [...endpoints.map((each) => each.path), "/openapi.json", "/stream"];
    for (const path of paths) {
      const method = endpoints.find((each) => each.path === path)?.method ?? "get";
      const answer = method === "get" ? await host.get(`api/v1${path}`) : await host.post(`api/v1${path}`, {});
      expect([path, answer.status]).toEqual([path, 401]);
      expect(await answer.text()).not.toContain("shop");
    }
    for (const path of changes) expect([path, (await host.post(path, restart)).status]).toEqual([path, 401]);
    expect(host.requests).toEqual([]);
  });

  test("a wrong cookie, a cut one and a token of the wrong form open nothing", async () => {
    await using host = await PageHost.open();
    const cookie = await host.claimed();
    const [name, secret] = cookie.split("=") as [string, string];
    for (const wrong of [
      `${name}=`,
      `${name}=${secret.slice(1)}`,
      `${name}=${"A".repeat(43)}`,
      `x${cookie}`,
      `${name}=${secret}x`,
    ]) {
      expect((await host.get("faults", { cookie: wrong })).status).toBe(303);
    }
    for (const bearer of ["", "Bearer", "Bearer hf_", `Bearer hf_${"A".repeat(43)}`, `Basic ${btoa("admin:x")}`]) {
      expect((await host.get("api/v1/summary", { authorization: bearer })).status).toBe(401);
    }
    expect((await host.get("faults", { cookie })).status).toBe(200);
  });

  test("health is for loopback; it says nothing of who or what to others", async () => {
    await using host = await PageHost.open();
    for (const path of ["livez", "readyz", "healthz", "metrics"]) expect((await host.get(path)).status).toBe(200);
    expect(await (await host.get("readyz?verbose")).text()).toContain("[+] workload shop: guarded");
    host.told = { workloads: [workload("shop", { state: "unguarded", protected: false, why: "no stub" })] };
    await until(async () => (await host.get("readyz")).status === 503);
  });
});

describe("the first admin", () => {
  test("is made once, with the code of the console; no code is written anywhere", async () => {
    await using host = await PageHost.open();
    const form = { name: "admin", password, again: password };
    expect((await host.post("claim", { ...form, code: "00000-00000" })).status).toBe(403);
    expect((await host.post("claim", { ...form, code: host.claim!, password: "short", again: "short" })).status).toBe(
      400,
    );
    expect((await host.post("claim", { ...form, code: host.claim! })).status).toBe(303);
    expect((await host.post("claim", { ...form, name: "second", code: host.claim! })).status).toBe(403);
    expect((await host.get("claim")).status).toBe(200);
    await host.end();
    await host.start();
    expect(host.claim).toBeNull();
    const kept = readFileSync(join(host.directory, "page/accounts.json"), "utf8");
    expect(kept).toContain("$argon2id$v=19$m=19456,t=2");
    expect(kept).not.toContain(password);
    expect(statSync(join(host.directory, "page")).mode & 0o777).toBe(0o700);
    expect(JSON.stringify(host.audits)).not.toContain(password);
  });

  test("many codes at once are few tries", async () => {
    await using host = await PageHost.open();
    const form = { name: "admin", password, again: password };
    const codes = Array.from({ length: 40 }, (_, index) => `AAAAA-${String(index).padStart(5, "0")}`);
    const answers = await Promise.all(codes.map((code) => host.post("claim", { ...form, code })));
    const tried = answers.filter((answer) => answer.status === 403).length;
    expect(tried).toBeLessThanOrEqual(limits.loginTriesPerAddress);
    expect(answers.filter((answer) => answer.status === 429).length).toBe(codes.length - tried);
  });

  test("many passwords at once are few tries, and the right one is refused with them", async () => {
    await using host = await PageHost.open();
    await host.claimed();
    const tries = Array.from({ length: 30 }, (_, index) =>
      host.post("login", { name: "admin", password: `wrong password ${index}` }),
    );
    const statuses = (await Promise.all(tries)).map((answer) => answer.status);
    expect(statuses.filter((status) => status === 401).length).toBeLessThanOrEqual(limits.loginTriesPerAddress);
    expect((await host.post("login", { name: "admin", password })).status).toBe(429);
  });
});

describe("from another site", () => {
  test("no change is taken: foreign origin, no origin, same site, a form without its token or with another login's", async () => {
    await using host = await PageHost.open();
    host.told = { workloads: [guest] };
    const cookie = await host.claimed();
    const csrf = await host.csrf(cookie);
    const other = await host.csrf(await loginAs(host, cookie, "admin"));
    const headers: Record<string, string>[] = [
      { cookie, origin: "https://evil.example" },
      { cookie, origin: "null" },
      { cookie, "sec-fetch-site": "cross-site" },
      { cookie, "sec-fetch-site": "same-site" },
    ];
    for (const path of [...changes, "logout", "login", "claim", "theme", "api/v1/acts"]) {
      for (const each of headers)
        expect([path, (await host.post(path, { csrf, ...restart }, each)).status]).toEqual([path, 403]);
    }
    for (const token of ["", "x", other]) {
      for (const path of changes)
        expect([path, (await host.post(path, { csrf: token, ...restart }, { cookie })).status]).toEqual([path, 403]);
    }
    for (const path of changes.filter((each) => !each.startsWith("actions/b") && each !== "actions/update")) {
      expect((await host.get(`${path}?csrf=${csrf}&verb=workload.restart&workload=cache`, { cookie })).status).toBe(
        404,
      );
    }
    expect(host.requests).toEqual([]);
    expect((await host.get("faults", { cookie })).status).toBe(200);
  });

  test("no name but ours is answered, on any route", async () => {
    await using host = await PageHost.open();
    const cookie = await host.claimed();
    for (const path of [
      ...pages,
      "login",
      "claim",
      "style.css",
      "livez",
      "metrics",
      "api/v1/summary",
      "api/v1/stream",
      "nothing",
    ]) {
      for (const name of [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
      ]) {
        expect([path, name, (await host.get(path, { cookie, host: name })).status]).toEqual([path, name, 421]);
      }
    }
    for (const name of ["localhost", "box-7", "BOX-7.local:99", "[::1]:8443"]) {
      expect((await host.get("faults", { cookie, host: name })).status).toBe(200);
    }
  });

  test("a form that is sent twice asks once", async () => {
    await using host = await PageHost.open();
    host.told = { workloads: [guest] };
    const cookie = await host.claimed();
    const csrf = await host.csrf(cookie);
    await until(async () => (await (await host.get("actions", { cookie })).text()).includes("cache"));
    const form = { csrf, ...restart, once: "0123456789abcdef" };
    for (let times = 0; times < 3; times += 1)
      expect((await host.post("actions/do", form, { cookie })).status).toBe(303);
    expect(host.requests.length).toBe(1);
    const token = await host.token(cookie, "operate");
    for (let times = 0; times < 3; times += 1) {
      const answer = await fetch(`${host.url}api/v1/acts`, {
        method: "POST",
        body: JSON.stringify(restart),
        headers: { authorization: `Bearer ${token}`, "idempotency-key": "same-key-again" },
      });
      expect(answer.status).toBe(202);
    }
    expect(host.requests.length).toBe(2);
  });
});

describe("roles", () => {
  test("a viewer changes nothing, an operator no accounts; what was done is audited", async () => {
    await using host = await PageHost.open();
    host.told = { workloads: [guest] };
    const admin = await host.claimed();
    const viewer = await loginAs(host, admin, "view");
    const operator = await loginAs(host, admin, "operate");
    await until(async () => (await (await host.get("actions", { cookie: admin })).text()).includes("cache"));
    expect(
      (await host.post("actions/do", { csrf: await host.csrf(viewer), ...restart }, { cookie: viewer })).status,
    ).toBe(403);
    for (const path of ["account/put", "account/remove", "account/token", "account/revoke"]) {
      const form = { name: "mine", role: "admin", fresh: password, label: "x", days: "1" };
      for (const cookie of [viewer, operator]) {
        expect([path, (await host.post(path, { csrf: await host.csrf(cookie), ...form }, { cookie })).status]).toEqual([
          path,
          403,
        ]);
      }
    }
    expect(host.requests).toEqual([]);
    expect(
      (await host.post("actions/do", { csrf: await host.csrf(operator), ...restart }, { cookie: operator })).status,
    ).toBe(303);
    expect(host.requests.length).toBe(1);
    const token = await host.token(admin, "view");
    const act = await fetch(`${host.url}api/v1/acts`, {
      method: "POST",
      body: JSON.stringify(restart),
      headers: { authorization: `Bearer ${token}` },
    });
    expect(act.status).toBe(403);
    expect((await host.get("account", { authorization: `Bearer ${token}` })).status).toBe(401);
    const events = host.audits.map(({ event, who }) => `${event} ${who}`);
    for (const wanted of [
      "page.claimed admin",
      "page.account admin",
      "page.login test-operate",
      "page.act test-operate",
      "page.token admin",
    ])
      expect(events).toContain(wanted);
  });

  test("memory of a program leaves in a bundle for an admin who wants it, and for nobody else", async () => {
    await using host = await PageHost.open();
    const secret = "5ec2e7ba5eba11".repeat(8);
    await host.record([
      { agoMs: 1_000, verdict: "clean", report: { stack: { from: 0x7ffdn as never, bytes: secret } } },
    ]);
    const admin = await host.claimed();
    const viewer = await loginAs(host, admin, "view");
    const bundle = async (cookie: string, memory: string): Promise<string> => {
      const answer = await host.post("actions/bundle", { csrf: await host.csrf(cookie), memory }, { cookie });
      return new TextDecoder().decode(Bun.gunzipSync(new Uint8Array(await answer.arrayBuffer())));
    };
    await until(async () => (await bundle(admin, "")).includes("faults/"));
    expect(await bundle(admin, "")).not.toContain(secret);
    expect(await bundle(viewer, "yes")).not.toContain(secret);
    expect(await bundle(admin, "yes")).toContain(secret);
  });
});

test("a backup of the record is for admins, and is one that can be restored", async () => {
  await using host = await PageHost.open();
  const [id] = await host.record([{ agoMs: 1_000, verdict: "clean" }]);
  const admin = await host.claimed();
  const viewer = await loginAs(host, admin, "view");
  const ask = async (cookie: string) => host.post("actions/backup", { csrf: await host.csrf(cookie) }, { cookie });
  expect((await ask(viewer)).status).toBe(403);
  const answer = await ask(admin);
  expect(answer.status).toBe(200);
  const scratch = join(host.scratch, "taken");
  const archive = new Bun.Archive(Bun.gunzipSync(new Uint8Array(await answer.arrayBuffer())));
  await archive.extract(join(scratch, "copy"));
  restore(join(scratch, "copy"), join(scratch, "state"), systemClock.wallMs());
  expect(readFault(join(scratch, "state"), id!).id).toBe(id!);
});

describe("paths and headers", () => {
  test("no path leaves the routes", async () => {
    await using host = await PageHost.open();
    const cookie = await host.claimed();
    const wanted = [
      "../../../etc/passwd",
      "..%2f..%2f..%2fetc%2fpasswd",
      "%2e%2e/%2e%2e/etc/passwd",
      "style.css/../../etc/passwd",
      "faults/..%2f..%2fpage%2faccounts.json",
      "workloads/..%2f..%2fetc%2fpasswd",
      "faults/%00",
      "api/v1/faults/..%2f..",
      "api/v1/workloads/%2e%2e%2fetc%2fpasswd",
      "//evil.example/",
      "faults/%0d%0aset-cookie:x=1",
      "page/accounts.json",
      ".git/config",
    ];
    for (const path of wanted) {
      const answer = await host.get(path, { cookie });
      const text = await answer.text();
      expect([path, answer.status]).toEqual([path, 404]);
      expect(text).not.toMatch(/root:x|argon2id|\[core\]/);
      expect(answer.headers.get("set-cookie")).toBeNull();
    }
  });

  test("every answer forbids script, frames and guesses of others, whatever it is", async () => {
    await using host = await PageHost.open();
    const cookie = await host.claimed();
    for (const [path, headers] of [
      ["", { cookie }],
      ["login", {}],
      ["nothing", { cookie }],
      ["style.css", {}],
      ["api/v1/summary", {}],
      ["livez", {}],
      ["faults", { host: "evil.example" }],
      ["faults/zzz", { cookie }],
    ] as [string, Record<string, string>][]) {
      const answer = await host.get(path, headers);
      const policy = answer.headers.get("content-security-policy") ?? "";
      expect([path, policy]).toEqual([path, expect.stringContaining("default-src 'none'")]);
      expect(policy).not.toMatch(/unsafe|\*|http:|data:/);
      expect(answer.headers.get("x-content-type-options")).toBe("nosniff");
      expect(answer.headers.get("x-frame-options")).toBe("DENY");
      const text = await answer.text();
      expect(text).not.toMatch(/<script(?! src="\/page\.js\?\w+" defer>)|\son\w+=|style="|javascript:/i);
    }
  });

  test("other methods, large bodies and bodies of another kind are refused", async () => {
    await using host = await PageHost.open();
    const cookie = await host.claimed();
    const origin = host.url.slice(0, -1);
    for (const method of ["PUT", "DELETE", "PATCH"]) {
      expect((await fetch(`${host.url}faults`, { method, headers: { cookie, origin } })).status).toBe(404);
      expect((await fetch(`${host.url}api/v1/faults`, { method, headers: { cookie, origin } })).status).toBe(405);
    }
    const large = "x".repeat(limits.bodyBytesMax + 1);
    expect((await host.post("login", { name: large }, {})).status).toBe(413);
    const json = await fetch(`${host.url}login`, {
      method: "POST",
      body: JSON.stringify({ name: "admin", password }),
      headers: { origin, "content-type": "application/json" },
    });
    expect(json.status).toBe(401);
  });
});
