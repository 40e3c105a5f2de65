// SPDX-License-Identifier: Apache-2.0
/**
 * The monitor beside a real redis under guard: what it sees while it runs, and the minute around a crash, which `holdfast
 * show` draws after the supervisor has ended.
 */
import { expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GuardProcess } from "#appliance/demo/guardProcess.ts";
import { askView, findSupervisors } from "#appliance/viewSocket.ts";
import { systemClock } from "#clock.ts";
import { type MonitorView, seenOr } from "#health.ts";
import { defaultRunDirectory, guardDirectory } from "#storage/ownership.ts";
import { need, tracing } from "#tests/skip.ts";
import { holdfast } from "./guardedServer.ts";

const timeoutMs = 120_000;
const looksMax = 600;

/** The view of this guard once it is as wanted. */
async function untilView(directory: string, wanted: (view: MonitorView) => boolean): Promise<MonitorView> {
  let view: MonitorView | null = null;
  for (let looks = 0; looks < looksMax; looks += 1) {
    view = await askView(directory).catch(() => null);
    if (view !== null && wanted(view)) return view;
    await systemClock.sleep(100);
  }
  throw new TypeError(`the view never came: ${JSON.stringify(view)?.slice(0, 2_000)}`);
}

need("redis-server", tracing)(
  "a crash of redis is seen, counted, and kept with its minute",
  async () => {
    const scratch = mkdtempSync(join(tmpdir(), "holdfast-monitor-"));
    const name = `monitor-${process.pid}`;
    const socket = join(scratch, "redis.sock");
    const state = join(scratch, "state");
    const command = [
      "redis-server",
      "--port",
      "0",
      "--unixsocket",
      socket,
      "--save",
      "",
      "--enable-debug-command",
      "local",
    ];
    const guard = new GuardProcess({
      ...{ holdfast, logPath: join(scratch, "log") },
      guardArguments: ["--name", name, "--state", state, "--probe", `cmd:test -S ${socket}`, "--", ...command],
    });
    try {
      await guard.guarding();
      const directory = guardDirectory(defaultRunDirectory(process.env, process.getuid?.() ?? 0), name);
      expect(findSupervisors(join(directory, "../.."))).toContain(directory);
      const calm = await untilView(
        directory,
        ({ workloads }) =>
          seenOr(workloads[0]?.health.process ?? { kind: "absent", why: "", advice: "" }, null) !== null,
      );
      expect(calm.host).not.toBeNull();
      expect(calm.counters.kind).not.toBe("none");
      expect(calm.workloads[0]!.health.workload).toBe(name);
      const client = connect(socket);
      client.on("error", () => {}); // The guilty connection is cut.
      client.write("DEBUG SEGFAULT\r\n");
      await untilView(directory, ({ workloads }) => (workloads[0]?.faults ?? 0) > 0);
      const metrics = await fetch("http://localhost/metrics", { unix: join(directory, "monitor.sock") }).then(
        (answer) => answer.text(),
      );
      expect(metrics).toContain(`holdfast_faults_total{workload="${name}",signal="SIGSEGV"} 1`);
      expect(metrics).toEndWith("# EOF\n");
    } finally {
      await guard.stop();
    }
    const faults = Bun.spawnSync([...holdfast, "faults", "--state", state, "--json"]).stdout.toString();
    const { id } = JSON.parse(faults.split("\n")[0]!) as { id: string };
    const shown = Bun.spawnSync([...holdfast, "show", id, "--state", state]).stdout.toString();
    expect(shown).toContain("The minute around it");
    expect(shown).toMatch(/^memory {10}·+/m);
    expect(shown).toContain(`^ fault ${id}`);
    expect(shown).toMatch(/\+0\.0 s {2}SIGSEGV/);
    rmSync(scratch, { recursive: true, force: true });
  },
  timeoutMs,
);
