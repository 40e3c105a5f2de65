// SPDX-License-Identifier: Apache-2.0
/**
 * The page over time: what happens appears by itself, a restart of the supervisor is said and survived, without script all of
 * it can be read and done, and by keyboard every part is reached and seen.
 */
import { afterAll, beforeAll, describe, expect } from "bun:test";
import { readFileSync } from "node:fs";
import type { Browser, Page } from "playwright-core";
import { uploadPath } from "#status/model/upload.ts";
import { PageHost, until, workload } from "#tests/peers/pageHost.ts";
import { busyBox } from "#tests/peers/pageScene.ts";
import { need } from "#tests/skip.ts";
import { axe, openBrowser, openWindow } from "./browser.ts";

const test = need("chromium");
const waitMs = 30_000;

describe("a page that is open", () => {
  let browser: Browser;
  beforeAll(async () => {
    if (Bun.which("chromium") !== null) browser = await openBrowser();
  });
  afterAll(() => browser?.close());
  const open = async (host: PageHost, script = true) =>
    openWindow(browser, { width: 1280, theme: "light", cookie: await host.claimed(), url: host.url, script });

  test("a fault appears by itself, and so does its verdict", async () => {
    await using host = await PageHost.open();
    await using window = await open(host);
    const { page } = window;
    await page.goto(host.url);
    await says(page, "#live-text", "live");
    expect(await page.locator('[data-part="faults"]').textContent()).toContain("No faults are on record");
    await host.record([{ agoMs: 0, verdict: "failed" }]);
    await says(page, '[data-part="faults"]', "failed");
    await says(page, "#verdict", "Degraded");
    expect(await page.title()).toStartWith("Degraded");
    expect(window.complaints).toEqual([]);
  }, 60_000);

  test("paused, it stays as it is; it says so, and goes on when asked to", async () => {
    await using host = await PageHost.open();
    await using window = await open(host);
    const { page } = window;
    await page.goto(host.url);
    await says(page, "#live-text", "live");
    await page.click("#live-button");
    await says(page, "#live-text", "paused");
    await host.record([{ agoMs: 0, verdict: "clean" }]);
    expect(await page.locator('[data-part="faults"]').textContent()).toContain("No faults are on record");
    await page.click("#live-button");
    await says(page, '[data-part="faults"]', "survived");
  }, 60_000);

  test("the supervisor is restarted: the page says so, and recovers with the same login", async () => {
    await using host = await PageHost.open();
    await using window = await open(host);
    const { page } = window;
    await page.goto(host.url);
    await says(page, "#live-text", "live");
    await host.end();
    await says(page, "#live-text", "no answer since");
    await host.record([{ agoMs: 0, verdict: "clean" }]);
    await host.start();
    await says(page, "#live-text", "live");
    await says(page, '[data-part="faults"]', "survived");
  }, 90_000);

  test("a restored guest shows how its memory arrives; counters show rates, live", async () => {
    await using host = await PageHost.open();
    const mebibyte = 2 ** 20;
    const guest = (arrivedMiB: number | null) => ({
      workloads: [
        workload("cache", {
          kind: "guest",
          state: "up",
          arriving:
            arrivedMiB === null
              ? null
              : {
                  ...{ checkpoint: "c-1", mode: "lazy", contentBytes: 400 * mebibyte },
                  ...{ prefetchedBytes: 20 * mebibyte, demandedBytes: 10 * mebibyte },
                  backgroundBytes: (arrivedMiB - 30) * mebibyte,
                  ...{ waitUsP50: 50, waitUsP99: 2_000 },
                },
        }),
      ],
    });
    host.told = guest(100);
    await using window = await open(host);
    const { page } = window;
    await until(async () => (await page.goto(`${host.url}workloads/cache`))!.status() === 200);
    await says(page, '[data-part="workload"]', "25 %: 100 MiB of 400 MiB");
    await says(page, '[data-part="workload"]', "half of them at most 50 µs, 99 % at most 2.0 ms");
    host.told = guest(300);
    await says(page, '[data-part="workload"]', "75 %: 300 MiB of 400 MiB");
    host.told = guest(null);
    await page.locator("text=Memory arriving").waitFor({ state: "detached" });
    host.told = busyBox;
    await page.goto(`${host.url}counters`);
    // Two looks of the monitor make a rate, and only a live page sees the second.
    await says(page, '[data-part="counters"]', "412 M");
    await says(page, '[data-part="counters"]', "1.59");
    expect(window.complaints.filter((line) => !line.includes("404"))).toEqual([]);
  }, 60_000);

  test("a supervisor that hangs is told from one that is well", async () => {
    await using host = await PageHost.open();
    host.frozen = { ...host.collect(), atMs: 1 };
    await using window = await open(host);
    await window.page.goto(host.url);
    await says(window.page, "#verdict", "Degraded");
    expect(await window.page.locator(".issues").textContent()).toContain("does not report");
  }, 60_000);

  test("a login that is about to end says so, and staying keeps it", async () => {
    await using host = await PageHost.open({ idleMs: 100_000 });
    await using window = await open(host);
    const { page } = window;
    await page.goto(host.url);
    await says(page, ".stay", "logged out in two minutes");
    await page.click(".stay button");
    await page.locator(".stay").first().waitFor({ state: "attached" });
    expect(window.complaints).toEqual([]);
  }, 60_000);

  test("without script everything is there, and an act can be asked for", async () => {
    await using host = await PageHost.open();
    host.told = { workloads: [workload("cache", { kind: "guest", state: "up", verbs: ["workload.restart"] })] };
    const [id] = await host.record([{ agoMs: 1_000, verdict: "clean", cut: true }]);
    await using window = await open(host, false);
    const { page } = window;
    // The record is read by the page's own thread, and without script the page shows it when it is asked for again.
    await until(async () => {
      await page.goto(host.url);
      return (await page.locator(`a[href="/faults/${id}"]`).count()) > 0;
    });
    await page.click(`a[href="/faults/${id}"]`);
    expect(await page.locator(".stack .gone").count()).toBe(1);
    expect(await page.locator("#live").isVisible()).toBe(false);
    await page.click('nav a[href="/actions"]');
    await page.click("text=Restart");
    await page.click("button.danger");
    expect(await page.locator("main").textContent()).toContain("Restart cache");
    expect(host.requests.map(({ verb, args, by }) => ({ verb, args, by }))).toEqual([
      { verb: "workload.restart", args: { w: "cache" }, by: { via: "page", who: "admin" } },
    ]);
    await page.click('a[href="/account"]');
    await page.click("text=Log out");
    expect(page.url()).toEndWith("/login");
  }, 60_000);

  test("an update from a file of the browser's machine: brought in slices, and asked for as a job", async () => {
    await using host = await PageHost.open();
    host.told = { boxVerbs: ["update.install"] };
    await using window = await open(host);
    const { page } = window;
    await until(async () => {
      await page.goto(`${host.url}actions`);
      return (await page.locator('a[href="/actions/update"]').count()) > 0;
    });
    await page.click('a[href="/actions/update"]');
    expect(await axe(page)).toEqual([]);
    const bundle = Buffer.alloc(3_000_000, "a bundle ");
    await page.setInputFiles("#file", { name: "two.raucb", mimeType: "application/octet-stream", buffer: bundle });
    await page.click("text=Install");
    await page.waitForURL(`${host.url}actions`);
    await says(page, '[data-part="jobs"]', "Update from a file");
    expect(host.requests.map(({ verb, args }) => ({ verb, args }))).toEqual([
      { verb: "update.install", args: { uploaded: true, older: false } },
    ]);
    expect(readFileSync(uploadPath(host.directory)).equals(bundle)).toBe(true);
    expect(window.complaints).toEqual([]);
  }, 60_000);

  test("by keyboard: skip link first, then every control once, each seen beside the bar, and no trap", async () => {
    await using host = await PageHost.open();
    await host.record(Array.from({ length: 12 }, () => ({ agoMs: 5_000, verdict: "clean" as const })));
    await using window = await open(host);
    const { page } = window;
    for (const path of ["", "faults", "account"]) {
      await page.goto(`${host.url}${path}`);
      expect(await walk(page)).toEqual([]);
    }
    await page.goto(host.url);
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    expect(await page.evaluate("document.activeElement.id")).toBe("main");
  }, 120_000);
});

/** Waits until an element holds these words. */
async function says(page: Page, selector: string, words: string): Promise<void> {
  await page.locator(selector, { hasText: words }).first().waitFor({ timeout: waitMs, state: "attached" });
}

const controlsMax = 200;

/** Tabs through a page; gives what is wrong with it. */
async function walk(page: Page): Promise<string[]> {
  const wrong: string[] = [];
  const wanted = Number(
    await page.evaluate(
      `[...document.querySelectorAll('a[href],button,input:not([type=hidden]),select,summary,[tabindex="0"]')].filter((e) => e.checkVisibility()).length`,
    ),
  );
  const seen = new Set<string>();
  for (let step = 0; step < controlsMax; step += 1) {
    await page.keyboard.press("Tab");
    const at = (await page.evaluate(`(() => {
      const e = document.activeElement;
      if (!e || e === document.body) return null;
      e.dataset.walk ??= String(${step});
      const box = e.getBoundingClientRect();
      const bar = document.querySelector(".bar").getBoundingClientRect();
      const style = getComputedStyle(e);
      const inBar = e.closest(".bar") !== null || e.className === "skip";
      return { id: e.dataset.walk, name: e.outerHTML.slice(0, 80), under: !inBar && box.bottom <= bar.bottom, outline: style.outlineStyle, height: box.height };
    })()`)) as { id: string; name: string; under: boolean; outline: string; height: number } | null;
    if (at === null || (step > 0 && seen.has(at.id))) break;
    seen.add(at.id);
    if (step === 0 && !at.name.includes("skip")) wrong.push(`first is ${at.name}`);
    if (at.under) wrong.push(`under the bar: ${at.name}`);
    if (at.outline === "none") wrong.push(`no visible focus: ${at.name}`);
  }
  if (seen.size < wanted) wrong.push(`${seen.size} of ${wanted} controls reached`);
  return wrong;
}
