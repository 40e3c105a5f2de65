// SPDX-License-Identifier: Apache-2.0
/** Probes against the real servers, while they serve and once they are stopped. */
import { expect } from "bun:test";
import { createServer } from "node:net";
import { systemClock } from "#clock.ts";
import { parseProbe } from "#monitor/probes.ts";
import { need, programPath } from "#tests/skip.ts";

const freePort = (): Promise<number> =>
  new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });

const ask = (text: string): Promise<string | null> => parseProbe(text)(new AbortController().signal);

/** Asks until it passes; each question has its own limit. */
async function untilPassing(text: string): Promise<string | null> {
  let trouble: string | null = null;
  for (let tries = 0; tries < 200; tries += 1) {
    trouble = await ask(text);
    if (trouble === null) return null;
    await systemClock.sleep(20);
  }
  return trouble;
}

const servers: readonly [string, (port: number) => string[], string][] = [
  ["redis-server", (port) => ["--port", `${port}`, "--save", "", "--bind", "127.0.0.1"], "redis"],
  ["mosquitto", (port) => ["-p", `${port}`], "mqtt"],
];

for (const [program, words, kind] of servers) {
  need(program)(`${kind}: passes while ${program} serves, fails once it is stopped and once it is gone`, async () => {
    const port = await freePort();
    const child = Bun.spawn([programPath(program)!, ...words(port)], {
      stdio: ["ignore", "ignore", "ignore"],
      cwd: "/",
    });
    try {
      expect(await untilPassing(`${kind}:${port}`)).toBeNull();
      child.kill("SIGSTOP");
      expect(await ask(`${kind}:${port}`)).toContain("no answer within 2000 ms");
    } finally {
      child.kill("SIGKILL");
      await child.exited;
    }
    expect(await ask(`${kind}:${port}`)).not.toBeNull();
  });
}
