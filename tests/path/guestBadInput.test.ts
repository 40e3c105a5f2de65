// SPDX-License-Identifier: Apache-2.0
/**
 * Guests whose hypervisor or machine is not as it should be, side by side with one that is well: each says what is wrong,
 * and the one that is well serves throughout. On the scripted hypervisor.
 */
import { describe, expect, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { GuestRun, Playground } from "#tests/peers/guestRun.ts";

const guest = (name: string, ...lines: string[]): string =>
  [
    "[[guest]]",
    `name = "${name}"`,
    'kernel = "/bin/true"',
    "stopMs = 100",
    "landlock = false",
    "restart = { attemptsMax = 1, windowMs = 60000, backoffMs = 10, backoffMsMax = 20 }",
    ...lines,
  ].join("\n");

describe("bad input", () => {
  test("a hypervisor that answers nothing, and a socket that is somebody else's: the others do not care", async () => {
    using ground = new Playground();
    ground.script("silent", { hang: ["vmm.ping"] });
    const taken = ground.directory("taken");
    mkdirSync(taken.path, { recursive: true, mode: 0o700 });
    const owner = Bun.listen({ unix: taken.apiSocket, socket: { data: () => {} } });
    using _owner = { [Symbol.dispose]: () => owner.stop(true) };
    const toml = [guest("good"), guest("silent"), guest("taken")].join("\n");
    await using run = new GuestRun(ground, toml, { stopGuests: true });
    await run.next({ event: "guest", workload: "good", phase: "up" });
    const socket = await run.next({ event: "guest", workload: "taken", phase: "error" });
    expect(socket).toMatchObject({ why: expect.stringContaining("another process listens at") });
    const silent = await run.next({ event: "guest", workload: "silent", phase: "error" });
    expect(silent).toMatchObject({ why: expect.stringContaining("has not answered vmm.ping within") });
    expect(ground.processOf("silent")).toBeNull();
    expect(await run.control.show("good")).toMatchObject({ phase: "up" });
  }, 60_000);
});
