// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast checkpoint`, verb by verb, as a person types them: on the real Cloud Hypervisor with the tiny guest. Each ends,
 * says what it did, and what is exported and deleted is whole when it is taken in again.
 */
import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { GuestRun, Playground } from "#tests/peers/guestRun.ts";
import { snapshotHypervisor } from "#tests/peers/snapshotHypervisor.ts";
import { realGuest, tinyGuestToml } from "#tests/peers/tinyGuest.ts";
import { need } from "#tests/skip.ts";

const cli = join(import.meta.dir, "../../src/cli/main.ts");
const toml = (): string =>
  tinyGuestToml(['memory = "96M"', "stopMs = 200"], ["automatic = false", "pauseMsMax = 20000"]);

need(...realGuest)(
  "create, list, show, verify, pin, export, delete, import, restore",
  async () => {
    using ground = new Playground();
    await using run = new GuestRun(ground, toml(), { real: snapshotHypervisor(), stopGuests: true });
    await run.next({ event: "guest", phase: "up" });
    const say = async (verb: string, ...words: string[]): Promise<string> => {
      const where = ["list", "show", "verify", "export"].includes(verb)
        ? ["--state", ground.stateDirectory]
        : ["--run", ground.runDirectory];
      const child = Bun.spawn([process.execPath, cli, "checkpoint", verb, ...words, ...where], {
        stdio: ["ignore", "pipe", "pipe"],
      });
      const [out, err] = await Promise.all([child.stdout.text(), child.stderr.text()]);
      expect({ verb, code: await child.exited, err }).toEqual({ verb, code: 0, err: "" });
      return out;
    };
    await say("create", "tiny");
    const { id } = (await run.next({ event: "checkpoint" })) as { id: string };
    expect(await say("list")).toContain(id);
    expect(await say("show", id)).toContain("tiny");
    expect(await say("verify", id)).toContain(id);
    expect(await say("pin", id)).toBe(`${id}: pinned\n`);
    expect(await say("unpin", id)).toBe(`${id}: no longer pinned\n`);
    const file = join(ground.path, "one.checkpoint");
    expect(await say("export", id, file)).toContain(file);
    expect(await say("delete", id)).toBe(`${id}: deleted\n`);
    expect(await say("list")).not.toContain(id);
    expect(await say("import", file)).toBe(`${id}: imported\n`);
    expect(await say("verify", id)).toContain(id);
    await say("restore", id);
    expect(await run.next({ event: "restore" })).toMatchObject({ checkpoint: id });
    await run.next({ event: "restored" });
    expect(readFileSync(ground.directory("tiny").console, "utf8")).not.toContain("X");
  },
  120_000,
);
