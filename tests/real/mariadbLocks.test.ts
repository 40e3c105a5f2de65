// SPDX-License-Identifier: Apache-2.0
/**
 * MariaDB with a function of ours that faults while it holds a mutex: the statement fails, the mutex is released for the next
 * connection that waits for it, and the server goes on with all it has.
 */
import { expect } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "#tests/peers/guardRun.ts";
import { need, programPath, root, tracing } from "#tests/skip.ts";
import { guardCommand } from "./guardedServer.ts";

const timeoutMs = 150_000;

need(
  "gcc",
  "gdbserver",
  "mariadbd",
  "mariadb",
  "mariadb-install-db",
  root,
  tracing,
)(
  "a mutex that a failed statement of MariaDB has left taken is released for another connection",
  async () => {
    const folder = mkdtempSync(join(tmpdir(), "holdfast-mariadb-"));
    const [files, plugins, socket] = ["data", "plugins", "socket"].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ];
    mkdirSync(plugins);
    const source = join(import.meta.dir, "../programs/lockedPlugin.c");
    expect(Bun.spawnSync(["gcc", "-O2", "-shared", "-fPIC", "-o", join(plugins, "locked.so"), source]).exitCode).toBe(
      0,
    );
    const place = ["--no-defaults", "--user=root", `--datadir=${files}`];
    const made = Bun.spawnSync([
      ...["mariadb-install-db", ...place, "--auth-root-authentication-method=normal", "--skip-test-db"],
    ]);
    expect(made.exitCode).toBe(0);
    const options = [`--socket=${socket}`, "--skip-networking", `--plugin-dir=${plugins}`, "--plugin-maturity=unknown"];
    // The connection is not cut, so that its thread lives on and is another one than the next connection's.
    await using guarded = await guardCommand(
      "--rungs",
      "abandon",
      "--",
      programPath("mariadbd")!,
      ...place,
      ...options,
    );
    const open = (statements: string) =>
      Bun.spawn(["mariadb", "--no-defaults", "-uroot", "-N", "-S", socket, "-e", statements], {
        stdio: ["ignore", "pipe", "ignore"],
      });
    const answer = async (statements: string): Promise<string> => (await open(statements).stdout.text()).trim();
    await until(() => Bun.spawnSync(["mariadb-admin", "--no-defaults", "-uroot", "-S", socket, "ping"]).exitCode === 0);
    expect(await answer("CREATE FUNCTION locked_add RETURNS INTEGER SONAME 'locked.so'; SELECT locked_add(2)")).toBe(
      "2",
    );

    const killer = open("SELECT locked_add(-1); SELECT SLEEP(100)");
    await until(() => guarded.guard.events.some((event) => event.event === "fault"));
    expect(await answer("SELECT locked_add(3); SELECT locked_add(1)")).toBe("5\n6");
    await until(() => guarded.guard.otherEvents.includes("released"));
    killer.kill("SIGKILL");
    expect(guarded.isSame()).toBe(true);
    expect(guarded.guard.events.filter((event) => event.event === "fault")).toHaveLength(1);
    rmSync(folder, { recursive: true, force: true });
  },
  timeoutMs,
);
