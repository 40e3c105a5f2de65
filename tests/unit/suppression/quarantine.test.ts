// SPDX-License-Identifier: Apache-2.0
/**
 * The system calls of rung 2, in order, with a kernel that answers as told.
 */
import { expect, test } from "bun:test";
import { GdbError } from "#errors.ts";
import type { FaultReport, SystemCall, ThreadControl } from "#fault.ts";
import { quarantine } from "#suppression/quarantine.ts";
import { report } from "../reports.ts";

const session = { fd: 40, peer: "192.0.2.1:5", confidence: 0.95 };
const fault = report([{ name: "a" }, { name: "main" }]);

async function run(
  changes: Partial<FaultReport>,
  kernel: (name: SystemCall) => bigint,
): Promise<{ trouble: string | null; calls: string[] }> {
  const calls: string[] = [];
  const control = {
    systemCall: async (name: SystemCall, words: readonly bigint[]) => {
      calls.push(`${name} ${words.join(" ")}`);
      return kernel(name);
    },
  } as unknown as ThreadControl;
  return { trouble: await quarantine({ ...fault, ...changes }, session, control), calls };
}

const healthy = (name: SystemCall): bigint => (name === "timerfd_create" ? 77n : name === "dup3" ? 40n : 0n);

test("an unarmed timer takes the place of the socket, and its own number is given back", async () => {
  expect(await run({}, healthy)).toEqual({
    trouble: null,
    calls: ["timerfd_create 1 526336", "dup3 77 40 524288", "close 77"],
  });
});

test("a connection that children share leaves the multiplexers and is shut first", async () => {
  const { trouble, calls } = await run({ connectionsShared: true, multiplexers: [5, 9] }, healthy);
  expect(trouble).toBeNull();
  expect(calls.slice(0, 3)).toEqual(["epoll_ctl 5 2 40 0", "epoll_ctl 9 2 40 0", "shutdown 40 2"]);
});

test("what fails is said, and nothing is left open", async () => {
  expect(await run({}, (name) => (name === "timerfd_create" ? -24n : 0n))).toEqual({
    trouble: "timerfd_create gave -24",
    calls: ["timerfd_create 1 526336"],
  });
  const failed = await run({}, (name) => (name === "dup3" ? -9n : healthy(name)));
  expect(failed.trouble).toStartWith("dup3 gave");
  expect(failed.calls.at(-1)).toBe("close 77");
  const lost = await run({}, () => {
    throw new GdbError("gdb.refused", "the step ended in SIGKILL");
  });
  expect(lost.trouble).toBe("the step ended in SIGKILL");
});
