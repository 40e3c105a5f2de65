// SPDX-License-Identifier: Apache-2.0
/**
 * A guest on the real Cloud Hypervisor, taken back to its checkpoint from the status page: asked for by the button's form,
 * done by the verb, and shown while its memory arrives, in bytes and in all.
 */
import { expect } from "bun:test";
import { systemClock } from "#clock.ts";
import type { ArrivingTold, WorkloadTold } from "#status/told.ts";
import { GuestRun, Playground } from "#tests/peers/guestRun.ts";
import { cookieOf, password, until } from "#tests/peers/pageHost.ts";
import { snapshotHypervisor } from "#tests/peers/snapshotHypervisor.ts";
import { realGuest, tinyGuestToml } from "#tests/peers/tinyGuest.ts";
import { need } from "#tests/skip.ts";

/** Cloud Hypervisor asks for each page of it: with little to do elsewhere that is a second, and the page is told twice in one. */
const memory = "128M";
const lookMs = 100;
const triesMax = 4;

need(...realGuest)(
  "a restore asked for on the page shows how the memory arrives, and that it is over",
  async () => {
    using ground = new Playground();
    const kept = ["pauseMsMax = 5000", "eagerMsMax = 0", "prefetchMsMax = 0", "healthyMs = 1000"];
    const guest = tinyGuestToml([`memory = "${memory}"`, "stopMs = 500"], kept);
    const toml = [guest, "[status]", 'listen = "127.0.0.1:0"'].join("\n");
    await using run = new GuestRun(ground, toml, { real: snapshotHypervisor(), stopGuests: true });
    const { url, claim } = (await run.next({ event: "status" })) as { url: string; claim: string };
    const cookie = cookieOf(await post(url, "claim", { code: claim, name: "admin", password, again: password }));
    const ask = async (path: string): Promise<string> => (await fetch(`${url}${path}`, { headers: { cookie } })).text();
    const told = async (): Promise<WorkloadTold> => JSON.parse(await ask("api/v1/workloads/tiny")) as WorkloadTold;

    await run.next({ event: "guest", phase: "up" });
    await run.next({ event: "checkpoint" });
    await until(async () => (await told()).verbs.includes("guest.restore"));
    const csrf = /name="csrf" value="([^"]+)"/.exec(await ask("account"))![1]!;
    const seen: ArrivingTold[] = [];
    let shown = "";
    // On a fast machine all of it may be there before the page is told.
    for (let tries = 0; seen.length === 0 && tries < triesMax; tries += 1) {
      await post(url, "actions/do", { csrf, verb: "guest.restore", workload: "tiny" }, cookie);
      const restored = run.next({ event: "restored" });
      let over = false;
      void restored.then(() => {
        over = true;
      });
      await until(async () => {
        await systemClock.sleep(lookMs);
        const { arriving } = await told();
        if (arriving === null) return over;
        seen.push(arriving);
        shown = (await ask("workloads/tiny")).match(/Memory arriving.{0,900}/s)?.[0] ?? shown;
        return false;
      });
      expect(await restored).toMatchObject({ mode: "lazy" });
    }
    expect(shown).toMatch(/\d+ %: .+ of .+iB/);
    const bytes = seen.map(
      ({ prefetchedBytes, demandedBytes, backgroundBytes: rest }) => prefetchedBytes + demandedBytes + rest,
    );
    expect(bytes).toEqual(bytes.toSorted((a, b) => a - b));
    expect(bytes.at(-1)).toBeLessThanOrEqual(seen[0]!.contentBytes);
    const metrics = await ask("metrics");
    expect(metrics).toMatch(/holdfast_checkpoint_pause_seconds_count\{workload="tiny"\} [1-9]/);
    expect(metrics).toMatch(/holdfast_restore_pages_total\{workload="tiny",source="prefetch"\} [1-9]/);
    expect(metrics).toMatch(/holdfast_restore_page_seconds_bucket\{workload="tiny",le="\+Inf"\} \d+/);
    const [job] = (JSON.parse(await ask("api/v1/jobs")) as { items: { verb: string; state: string }[] }).items;
    expect(job).toMatchObject({ verb: "guest.restore", state: "succeeded" });
  },
  120_000,
);

const post = (url: string, path: string, form: Record<string, string>, cookie = ""): Promise<Response> =>
  fetch(`${url}${path}`, {
    ...{ method: "POST", redirect: "manual", body: new URLSearchParams(form) },
    headers: { origin: url.slice(0, -1), cookie },
  });
