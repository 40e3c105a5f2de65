// SPDX-License-Identifier: Apache-2.0
/**
 * Starting gdbserver, and every way in which that or an attach can fail.
 */
import { afterEach, expect } from "bun:test";
import { chmodSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { GdbClient } from "#monitor/gdb/client.ts";
import { gdbserverVersion, stubErrors } from "#monitor/gdb/stub.ts";
import { Faulter } from "#tests/peers/faulter.ts";
import { need, root } from "#tests/skip.ts";
import { cleanUp, errorOf, options, path, runDirectory, runs, start, until } from "./gdbScene.ts";

afterEach(cleanUp);

need(
  "gdbserver",
  "gcc",
  "setpriv",
  root,
)("a stub of another user may not trace, and says who may", async () => {
  await using faulter = await Faulter.start();
  const directory = runDirectory();
  const wrapper = join(directory, "nobody");
  writeFileSync(wrapper, '#!/bin/sh\nexec setpriv --reuid 65534 --regid 65534 --clear-groups gdbserver "$@"\n');
  chmodSync(wrapper, 0o755);
  chmodSync(directory, 0o755);
  await using client = await GdbClient.open((await start(join(directory, "run"), wrapper)).transport, options);
  const error = await errorOf(client.attach(faulter.pid));
  expect(error.code).toBe("gdb.permission");
  expect(error.message).toContain("user 0");
  expect(await faulter.count()).toBeGreaterThanOrEqual(0);
});

path("gdbserver missing, too old, or something else: a clear error", async () => {
  expect(Number.parseInt(await gdbserverVersion(), 10)).toBeGreaterThanOrEqual(13);
  expect((await errorOf(gdbserverVersion("/nowhere/gdbserver"))).code).toBe("gdb.start");
  const directory = runDirectory();
  const script = (name: string, text: string): string => {
    const file = join(directory, name);
    writeFileSync(file, `#!/bin/sh\n${text}\n`);
    chmodSync(file, 0o755);
    return file;
  };
  const old = await errorOf(gdbserverVersion(script("old", "echo 'GNU gdbserver (Debian 12.1-4) 12.1'")));
  expect([old.code, old.message.includes("12.1")]).toEqual(["gdb.version", true]);
  expect((await errorOf(gdbserverVersion("/bin/true"))).code).toBe("gdb.version");
  const missing = await errorOf(start(join(directory, "a"), "/nowhere/gdbserver"));
  expect([missing.code, missing.message.includes("not found")]).toEqual(["gdb.start", true]);
  // Whether it ends before or after it counts as started, its words are kept.
  const failing = script("failing", "echo no permission >&2; exit 1");
  const failed = await errorOf(
    start(join(directory, "b"), failing).then((stub) => GdbClient.open(stub.transport, options)),
  );
  expect(["gdb.start", "gdb.closed"]).toContain(failed.code);
  expect(await stubErrors(join(directory, "b"))).toBe("no permission");
  const echo = await start(join(directory, "c"), script("echo", "exec cat"));
  const hostile = await errorOf(GdbClient.open(echo.transport, { ...options, requestTimeoutMs: 500 }));
  expect(["gdb.violation", "gdb.message", "gdb.timeout"]).toContain(hostile.code);
});

path("the run directory is ours alone, and what gdbserver says there is capped", async () => {
  const directory = runDirectory();
  const talker = join(directory, "talker");
  writeFileSync(talker, "#!/bin/sh\nyes 'a long complaint' | head -c 1000000 >&2\nexec cat\n");
  chmodSync(talker, 0o755);
  chmodSync(directory, 0o755);
  const run = join(directory, "run");
  const stub = await start(run, talker);
  expect(statSync(run).mode & 0o777).toBe(0o700);
  for (const name of ["in", "out"]) expect(statSync(join(run, name)).mode & 0o777).toBe(0o600);
  await until(() => readFileSync(`/proc/${stub.pid}/comm`, "latin1").trim() === "cat");
  expect(statSync(join(run, "errors")).size).toBeLessThanOrEqual(64 * 1024);
  await stub.transport[Symbol.asyncDispose]();
});

path("attach and detach leave no descriptor and no gdbserver behind", async () => {
  await using faulter = await Faulter.start();
  const descriptors = (): number => readdirSync("/proc/self/fd").length;
  const pids: number[] = [];
  const round = async (): Promise<void> => {
    const stub = await start();
    pids.push(stub.pid);
    await using client = await GdbClient.open(stub.transport, options);
    await client.attach(faulter.pid, { stopAll: false });
    await client.detach();
  };
  for (let warm = 0; warm < 3; warm += 1) await round();
  const before = descriptors();
  for (let index = 0; index < 20; index += 1) await round();
  await until(() => descriptors() <= before + 1);
  await until(() => pids.every((pid) => !runs(pid)));
});
