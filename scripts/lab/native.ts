// SPDX-License-Identifier: Apache-2.0
/**
 * Tests of real programs on a processor that this machine does not have: a Debian machine in QEMU with the real gdbserver,
 * servers and compilers runs test files of this checkout, and benchmarks. Gets their names; gives each test's result as it
 * comes, and what a benchmark prints.
 *
 * The machine has no network but loopback. Its disks are thrown away; the console is kept as a log. Limit: `testsMsMax`.
 */
import { chmod, cp, mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { deadline } from "#clock.ts";
import { run } from "#image/commands.ts";
import { initrdFor } from "./initrd.ts";
import { LabError } from "./labError.ts";
import { runMachine } from "./machine.ts";
import { copyCheckout, putHypervisor } from "./payload.ts";
import { buildRoot, type LabArchitecture } from "./root.ts";

export type NativeOptions = {
  readonly architecture: LabArchitecture;
  readonly bun: string;
  readonly cache: string;
  /** For benchmarks of guests. */
  readonly hypervisor: string | null;
  /** Test files as paths in the checkout, and benchmarks, each with its words: `scripts/bench/NAME.ts --rounds 5`. */
  readonly files: readonly string[];
  /** Environment of the tests, `NAME=VALUE`. */
  readonly settings: readonly string[];
  readonly tell: (text: string) => void;
};

export type NativeResult = { readonly passed: number; readonly failed: number; readonly skipped: number };

/** What shows the engine on real programs; the rest of the tests does not depend on the processor. */
export const nativeTests: readonly string[] = [
  "tests/real/redis.test.ts",
  "tests/real/memcached.test.ts",
  "tests/real/threads.test.ts",
  "tests/real/locks.test.ts",
  "tests/real/park.test.ts",
  "tests/real/zoo/zoo.test.ts",
];
export const testsMsMax = 4 * 60 * 60_000;
/** Emulation makes everything ten to thirty times slower. */
const testMsMax = 20 * 60_000;
/** A machine that says nothing has stopped for good. */
const aliveSeconds = 20;

const init = (files: readonly string[], settings: readonly string[]): string => `#!/bin/sh
export PATH=/lab/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t tmpfs run /run; mount -t tmpfs tmp /tmp; mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts; mount -t tmpfs shm /dev/shm
ip link set lo up
while sleep ${aliveSeconds}; do echo "LAB alive"; done &
cd /lab/holdfast
${files.map((file) => commandFor(file, settings)).join("\n")}
echo LAB ended
echo o > /proc/sysrq-trigger
sleep 60
`;

function commandFor(file: string, settings: readonly string[]): string {
  const environment = `env ${settings.join(" ")} NO_COLOR=1`;
  if (file.endsWith(".test.ts")) {
    return `echo "LAB file ${file}"; ${environment} bun test --timeout=${testMsMax} ./${file} 2>&1 | cat`;
  }
  return `echo "LAB bench ${file}"; ${environment} bun ./${file} 2>&1; echo "LAB bench ended $?"`;
}

export async function runNative(options: NativeOptions): Promise<NativeResult> {
  const { architecture, bun, hypervisor, cache, files, settings, tell } = options;
  await mkdir(cache, { recursive: true });
  const root = await buildRoot(architecture, cache, tell, "tests");
  const work = join(cache, `native-${architecture}-${process.pid}`);
  const logPath = join(cache, `native-${architecture}.log`);
  await rm(logPath, { force: true });
  const total = { passed: 0, failed: 0, skipped: 0 };
  let ended = false;
  // At the end of a file the failed ones are listed again.
  let isListedAgain = false;
  let isBenchmark = false;
  const take = (line: string): void => {
    if (line.startsWith("LAB alive")) return;
    if (line.startsWith("LAB ended")) ended = true;
    if (line.startsWith("LAB bench")) {
      const code = /^LAB bench ended (\d+)/.exec(line)?.[1];
      isBenchmark = code === undefined;
      if (code !== undefined) total[code === "0" ? "passed" : "failed"] += 1;
    }
    if (isBenchmark) {
      tell(line.replace("LAB bench ", ""));
      return;
    }
    if (line.startsWith("LAB file")) isListedAgain = false;
    if (/^\d+ tests? failed:/.test(line)) isListedAgain = true;
    if (isListedAgain) return;
    const result = /^\((pass|fail|skip)\) /.exec(line)?.[1];
    if (result === "pass") total.passed += 1;
    if (result === "fail") total.failed += 1;
    if (result === "skip") total.skipped += 1;
    if (result !== undefined || line.startsWith("LAB file")) tell(line.replace("LAB file ", ""));
  };
  try {
    tell("building the payload");
    const payload = await buildDisk(work, bun, hypervisor, init(files, settings));
    const initrd = join(work, "initrd");
    await writeFile(initrd, await initrdFor(root, '/bin/sh -c "mount -t ext4 /dev/vdb /lab && exec /lab/init"'));
    tell(`starting the machine; its console is kept in ${logPath}`);
    const late = (): LabError => new LabError("lab.machine", `the tests are not over after ${testsMsMax} ms`);
    using limit = deadline(testsMsMax, late);
    const machine = { architecture, kernel: root.kernel, initrd, disks: [root.image, payload], logPath };
    await runMachine(machine, take, limit.signal);
    limit.signal.throwIfAborted();
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  if (!ended) throw new LabError("lab.machine", `the machine ended before its tests did; see ${logPath}`);
  return total;
}

async function buildDisk(work: string, bun: string, hypervisor: string | null, script: string): Promise<string> {
  const tree = join(work, "tree");
  for (const path of ["bin", "holdfast"]) await mkdir(join(tree, path), { recursive: true });
  await cp(bun, join(tree, "bin/bun"));
  await chmod(join(tree, "bin/bun"), 0o755);
  if (hypervisor !== null) await putHypervisor(hypervisor, join(tree, "bin"));
  await writeFile(join(tree, "init"), script, { mode: 0o755 });
  await copyCheckout(join(tree, "holdfast"), []);
  const image = join(work, "payload.ext4");
  await run(["mke2fs", "-q", "-t", "ext4", "-d", tree, image, "1200M"]);
  return image;
}
