// SPDX-License-Identifier: Apache-2.0
/**
 * A process whose first thread has ended and whose others have not: it looks like a zombie and still has all it had. A killed
 * Cloud Hypervisor is like that for as long as its processors take to stop.
 */
import { expect } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import { need } from "#tests/skip.ts";
import { startTicksOf } from "#vm/foundProcess.ts";

const source = `
#include <pthread.h>
#include <unistd.h>
static void *stay(void *unused) { char byte; read(0, &byte, 1); _exit(0); }
int main(void) { pthread_t other; pthread_create(&other, 0, stay, 0); pthread_exit(0); }
`;

need("gcc")(
  "is there until the last of its threads has ended",
  async () => {
    const directory = mkdtempSync(join(tmpdir(), "dying-"));
    using _gone = { [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }) };
    const file = join(directory, "dying");
    writeFileSync(`${file}.c`, source);
    expect(Bun.spawnSync(["gcc", "-pthread", `${file}.c`, "-o", file]).exitCode).toBe(0);
    const child = Bun.spawn([file], { stdio: ["pipe", "ignore", "ignore"] });
    while (!/\) Z /.test(readFileSync(`/proc/${child.pid}/stat`, "latin1"))) await systemClock.sleep(1);
    expect(startTicksOf(child.pid)).toBeGreaterThan(0);
    child.stdin.end();
    await child.exited;
    expect(startTicksOf(child.pid)).toBeNull();
  },
  20_000,
);
