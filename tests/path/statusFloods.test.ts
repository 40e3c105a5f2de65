// SPDX-License-Identifier: Apache-2.0
/**
 * The status page under load from outside, and its listener: live readers that read nothing, requests without end, half
 * requests, connections without number, TLS, ports that others have.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { limits } from "#status/settings.ts";
import { PageHost, password, until } from "#tests/peers/pageHost.ts";
import { need } from "#tests/skip.ts";

setDefaultTimeout(120_000);

describe("floods", () => {
  test("sixteen live readers are admitted, four a login; the rest are told to come later, and all can still read", async () => {
    await using host = await PageHost.open();
    const admin = await host.claimed();
    const tokens = await Promise.all(Array.from({ length: 5 }, () => host.token(admin, "view")));
    const stop = new AbortController();
    // Held on to: an answer that nobody holds is closed by the collector, and its place is free again.
    const answers: Response[] = [];
    // Nobody reads what comes: these are slow readers.
    for (let round = 0; round < 20; round += 1) {
      for (const token of tokens) {
        const answer = await fetch(`${host.url}api/v1/stream`, {
          headers: { authorization: `Bearer ${token}` },
          signal: stop.signal,
        });
        answers.push(answer);
      }
    }
    const statuses = answers.map((answer) => answer.status);
    expect(statuses.filter((status) => status === 200).length).toBe(limits.streamsMax);
    expect(statuses.filter((status) => status === 503).length).toBe(100 - limits.streamsMax);
    await host.record(Array.from({ length: 200 }, () => ({ agoMs: 0, verdict: "clean" as const })));
    expect((await host.get("faults", { cookie: admin })).status).toBe(200);
    stop.abort();
    // Those who left made room.
    await until(async () => {
      const again = new AbortController();
      const answer = await fetch(`${host.url}api/v1/stream`, {
        headers: { authorization: `Bearer ${tokens[0]}` },
        signal: again.signal,
      });
      again.abort();
      return answer.status === 200;
    });
  });

  test("one who asks too fast is told so, and another is served", async () => {
    await using host = await PageHost.open();
    const cookie = await host.claimed();
    const token = await host.token(cookie, "view");
    host.patient = false;
    const answers = await Promise.all(
      Array.from({ length: 200 }, () => host.get("api/v1/summary", { authorization: `Bearer ${token}` })),
    );
    const slowed = answers.filter((answer) => answer.status === 429);
    expect(slowed.length).toBeGreaterThan(50);
    expect(slowed[0]!.headers.get("retry-after")).toBe("1");
    expect((await host.get("faults", { cookie })).status).toBe(200);
  });

  test("two hundred half requests keep nobody out", async () => {
    await using host = await PageHost.open();
    const cookie = await host.claimed();
    const { port } = new URL(host.url);
    const open = { hostname: "127.0.0.1", port: Number(port), socket: { data: () => {} } };
    const slow = await Promise.all(Array.from({ length: 200 }, () => Bun.connect(open)));
    for (const socket of slow)
      socket.write("POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nna");
    expect((await host.get("faults", { cookie })).status).toBe(200);
    for (const socket of slow) socket.end();
  });
});

describe("descriptors", () => {
  test("connections never take those that the fault path needs", async () => {
    // A process of its own, with few descriptors, that says how many it uses and what it audited.
    const script = `
      import { PageHost } from "#tests/peers/pageHost.ts";
      import { openDescriptors } from "#status/descriptors.ts";
      import { systemClock } from "#clock.ts";
      const host = await PageHost.open();
      let most = 0;
      for (;;) {
        await systemClock.sleep(20);
        most = Math.max(most, openDescriptors());
        console.log(JSON.stringify({ url: host.url, most, audits: host.audits.map(({ event }) => event) }));
      }`;
    const words = ["prlimit", "--nofile=2000:2000", process.execPath, "-e", script];
    const child = Bun.spawn(words, { cwd: join(import.meta.dir, "../.."), stdio: ["ignore", "pipe", "ignore"] });
    await using _child = {
      async [Symbol.asyncDispose]() {
        child.kill("SIGKILL");
        await child.exited;
      },
    };
    let said = { url: "", most: 0, audits: [] as string[] };
    const reading = (async (): Promise<void> => {
      for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
        const line = chunk.trimEnd().split("\n").at(-1)!;
        if (line.endsWith("}")) said = JSON.parse(line);
      }
    })();
    await until(async () => said.url !== "");
    const target = { hostname: "127.0.0.1", port: Number(new URL(said.url).port), socket: { data: () => {} } };
    // One turn of its loop takes what waits in the listener's queue, 512 at most. Those that the full queue of the listener holds back are not waited for.
    for (let made = 0; made < 2_500; made += 1) void Bun.connect(target).catch(() => {});
    await until(async () => said.audits.includes("page.flooded"));
    expect(said.most).toBeLessThan(1_950);
    await until(
      async () =>
        (await fetch(`${said.url}livez`, { signal: AbortSignal.timeout(2_000) }).catch(() => null))?.status === 200,
    );
    child.kill("SIGKILL");
    await reading;
  });
});

describe("TLS", () => {
  need("openssl")(
    "a page beyond loopback has a certificate of the box's own; its cookie is for TLS and this host only",
    async () => {
      await using host = await PageHost.open({ tls: true });
      const answer = await host.post("claim", { code: host.claim!, name: "admin", password, again: password });
      expect(host.url).toStartWith("https://");
      expect(answer.headers.get("set-cookie")).toMatch(
        /^__Host-hf-\d+=[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict; Secure$/,
      );
      const pem = readFileSync(join(host.directory, "page/certificate.pem"), "utf8");
      const certificate = new X509Certificate(pem);
      expect(certificate.fingerprint256).toBe(host.fingerprint!);
      expect(certificate.publicKey.asymmetricKeyDetails?.namedCurve).toBe("prime256v1");
      expect(certificate.subjectAltName).toContain("DNS:box-7.local");
      expect(statSync(join(host.directory, "page/key.pem")).mode & 0o777).toBe(0o600);
      await host.end();
      await host.start();
      expect(
        new X509Certificate(readFileSync(join(host.directory, "page/certificate.pem"), "utf8")).fingerprint256,
      ).toBe(certificate.fingerprint256);
    },
    60_000,
  );

  test("an address that is not ours is one warning, and nothing else", async () => {
    await expect(PageHost.open({ address: "192.0.2.1", certificate: "/nowhere", key: "/nowhere" })).rejects.toThrow(
      "cannot be used",
    );
    await using other = await PageHost.open();
    const port = Number(new URL(other.url).port);
    await expect(PageHost.open({ port })).rejects.toThrow("cannot listen");
  });
});
