// SPDX-License-Identifier: Apache-2.0
/**
 * A look at a running supervisor for people on the same box: `holdfast top` asks here. Costs nothing while nobody asks.
 *
 *     GET /view      MonitorView as JSON            GET /metrics    OpenMetrics text
 *
 * HTTP on a unix socket in the run directory, which only its owner can enter. A socket that cannot be made is told, and
 * nothing else changes.
 */
import { chmodSync, existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { HypervisorError } from "#errors.ts";
import type { MonitorView } from "#health.ts";
import type { MetricSource } from "#metrics.ts";
import { openMetricsText, openMetricsType } from "#status/openMetrics.ts";

const socketName = "monitor.sock";
const supervisorsMax = 256;
const askTimeoutMs = 2_000;

export type ViewSources = { readonly view: () => MonitorView; readonly metrics: MetricSource };

/** Opens the socket; null where that is not possible. */
export function openViewSocket(
  runDirectory: string,
  { view, metrics }: ViewSources,
  tell: (why: string) => void,
): AsyncDisposable | null {
  const path = join(runDirectory, socketName);
  try {
    rmSync(path, { force: true });
    const server = Bun.serve({
      unix: path,
      fetch: (request) => {
        const place = new URL(request.url).pathname;
        if (place === "/view") return Response.json(view());
        if (place !== "/metrics") return new Response("there is /view and /metrics\n", { status: 404 });
        return new Response(openMetricsText(metrics()), { headers: { "content-type": openMetricsType } });
      },
    });
    chmodSync(path, 0o600);
    return {
      async [Symbol.asyncDispose]() {
        await server.stop(true);
        rmSync(path, { force: true });
      },
    };
  } catch (error) {
    // Too long a path, or a directory that is not ours: `top` has nothing to show then.
    tell(String(error));
    return null;
  }
}

/** Run directories below `root` (and itself) whose supervisor can be looked at. */
export function findSupervisors(root: string): string[] {
  const guards = join(root, "guards");
  const below = existsSync(guards) ? readdirSync(guards).map((name) => join(guards, name)) : [];
  return [root, ...below].filter((directory) => existsSync(join(directory, socketName))).slice(0, supervisorsMax);
}

/** What the supervisor of this run directory sees now. @throws HypervisorError where nobody answers */
export async function askView(runDirectory: string): Promise<MonitorView> {
  const path = join(runDirectory, socketName);
  try {
    const response = await fetch("http://localhost/view", {
      unix: path,
      keepalive: false,
      signal: AbortSignal.timeout(askTimeoutMs),
    });
    return (await response.json()) as MonitorView;
  } catch (cause) {
    throw new HypervisorError("hypervisor.unsupervised", `no holdfast answers at ${path}`, {}, cause);
  }
}
