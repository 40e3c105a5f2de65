// SPDX-License-Identifier: Apache-2.0
/**
 * Every page in a real Chromium: both themes, 1280 and 320 pixels, several states of the box. No rule of axe is broken, it
 * is not wider than its window, nothing comes from elsewhere, nothing that an attacker named becomes markup, and it is small.
 */
import { afterAll, beforeAll, describe, expect } from "bun:test";
import type { Browser } from "playwright-core";
import { PageHost, workload } from "#tests/peers/pageHost.ts";
import { busyBox, dayOfHistory } from "#tests/peers/pageScene.ts";
import { long, need } from "#tests/skip.ts";
import { axe, openBrowser, openWindow, overflow, themes, widths } from "./browser.ts";

const hourMs = 3_600_000;
/** A page, with all that it loads. */
const pageBytesMax = 100_000;
const attack = `"><script>document.title='owned'</script><img src=x onerror="document.title='owned'">'{{7*7}}\u202e`;
const longName = "a-program-with-a-very-long-name-that-somebody-chose-".repeat(3);
const test = need("chromium");

const places = [
  "",
  "faults",
  "history",
  "host",
  "counters",
  "fleet",
  "checkpoints",
  "events",
  "logs",
  "system",
  "actions",
  "actions/bundle",
  "actions/backup",
  "actions/update",
  "account",
  "help",
];

type State = { readonly name: string; readonly set: (host: PageHost) => Promise<readonly string[]> };

const states: readonly State[] = [
  {
    name: "a day of faults",
    set: async (host) => {
      host.told = busyBox;
      const faults = Array.from({ length: 120 }, (_, index) => ({
        agoMs: 24 * hourMs - index * 700_000,
        verdict: (["clean", "clean", "clean", "degraded", "failed"] as const)[index % 5]!,
        cut: index % 2 === 0,
      }));
      const ids = await host.record(faults);
      await dayOfHistory(host.storage, host.recordTime);
      return [
        `faults/${ids.at(-1)}`,
        "workloads/cache",
        "workloads/shop",
        "faults?verdict=failed",
        "history?span=1h",
        "history?workload=shop",
        "actions/confirm?verb=guest.restore&workload=cache",
        "actions/box?act=reset",
        "logs?follow=yes&until=10",
      ];
    },
  },
  {
    name: "hostile names",
    set: async (host) => {
      host.told = {
        workloads: [
          workload(attack, { state: "unguarded", protected: false, why: attack }),
          workload(longName, { state: "ended", protected: false, why: longName }),
        ],
        warnings: [{ atMs: 0, workload: attack, text: attack }],
      };
      host.storage.event(attack, attack, { [attack]: attack });
      const frames = [
        {
          pc: 1n,
          cfa: null,
          registers: [],
          module: 0,
          offset: 1n,
          functionStart: null,
          symbol: attack,
          enteredBy: "pointer",
          afterCall: "used",
          foundBy: "stop",
        },
      ] as never;
      const modules = [{ path: `/tmp/${attack}`, buildId: attack, bias: 0n, ownsSignals: false }] as never;
      const report = {
        workload: attack,
        threadName: attack,
        frames,
        modules,
        site: { fault: attack, boundary: attack },
      };
      const ids = await host.record([
        { agoMs: 1_000, verdict: "failed", report, reason: attack, evidence: [attack, longName] },
      ]);
      return [
        `faults/${ids[0]}`,
        `workloads/${encodeURIComponent(attack)}`,
        `faults?workload=${encodeURIComponent(attack)}`,
        `events?event=${encodeURIComponent(attack)}`,
        `logs?text=${encodeURIComponent(attack)}`,
        `${encodeURIComponent(attack)}`,
      ];
    },
  },
  {
    name: "two hundred workloads",
    set: async (host) => {
      const all = Array.from({ length: 200 }, (_, index) =>
        workload(`service-${index}`, { pid: 1_000 + index, verbs: ["workload.restart", "workload.hold"] }),
      );
      host.told = { workloads: all };
      return ["workloads", "workloads?from=150", "workloads/service-199"];
    },
  },
  {
    name: "nothing at all",
    set: async (host) => {
      host.told = { workloads: [] };
      return [];
    },
  },
];

const usual = new Map([
  ["a day of faults", "1280 light"],
  ["hostile names", "320 dark"],
  ["nothing at all", "320 light"],
]);

describe("pages", () => {
  let browser: Browser;
  beforeAll(async () => {
    if (Bun.which("chromium") !== null) browser = await openBrowser();
  });
  afterAll(() => browser?.close());

  for (const state of states) {
    for (const width of widths) {
      for (const theme of themes) {
        // Each state, width and theme at least once; all of them together at length.
        if (!long("path") && usual.get(state.name) !== `${width} ${theme}`) continue;
        test(`${state.name}, ${width} pixels, ${theme}`, async () => {
          await using host = await PageHost.open();
          const more = await state.set(host);
          const cookie = await host.claimed();
          await using window = await openWindow(browser, { width, theme, cookie, url: host.url });
          const { page, complaints, foreign } = window;
          const problems: string[] = [];
          const assetBytes = await weightOfAssets(host, cookie);
          for (const path of [...places, ...more]) {
            const answer = await page.goto(`${host.url}${path}`);
            const bytes = (await answer!.body()).length + assetBytes;
            if (bytes > pageBytesMax) problems.push(`${path}: ${bytes} bytes with style sheet and script`);
            const wide = await overflow(page);
            if (wide > 0) problems.push(`${path}: ${wide} pixels too wide`);
            for (const broken of await axe(page)) problems.push(`${path}: ${broken}`);
            if ((await page.title()).includes("owned") && !(await page.title()).includes("<script>"))
              problems.push(`${path}: script ran`);
            if ((await page.locator("main script, main img").count()) > 0) problems.push(`${path}: foreign markup`);
          }
          if (state === states[0]) expect(await dayShown(host, cookie)).toEqual({ curves: 8, thin: 0, broken: 0 });
          expect(problems).toEqual([]);
          expect(complaints.filter((line) => !line.includes("404") && !line.includes("409"))).toEqual([]);
          expect(foreign).toEqual([]);
        }, 240_000);
      }
    }
  }

  // At length: without script one flow runs in every suite (live.test.ts).
  if (long("path"))
    test("without script every page has its heading, its charts and its tables", readsWithoutScript, 60_000);

  async function readsWithoutScript(): Promise<void> {
    await using host = await PageHost.open();
    const [state] = states;
    const more = await state!.set(host);
    const cookie = await host.claimed();
    await using bare = await openWindow(browser, { width: 320, theme: "dark", cookie, url: host.url, script: false });
    const heading = async (path: string): Promise<string> => {
      await bare.page.goto(`${host.url}${path}`);
      return (await bare.page.locator("h1").textContent()) ?? "";
    };
    const missing: string[] = [];
    for (const path of [...places, ...more]) if ((await heading(path)) === "") missing.push(path);
    expect(missing).toEqual([]);
    await heading("history");
    expect(await bare.page.locator("main svg").count()).toBeGreaterThan(0);
    expect(await bare.page.locator("main details table").count()).toBeGreaterThan(0);
    expect(await bare.page.locator("#live").isVisible()).toBe(false);
  }

  test("claim and log in, by keyboard alone, in both widths", async () => {
    await using host = await PageHost.open();
    for (const width of widths) {
      await using window = await openWindow(browser, { width, theme: "light", cookie: "", url: host.url });
      const { page } = window;
      await page.goto(host.url);
      expect(await axe(page)).toEqual([]);
      if (width === widths[0]) {
        expect(page.url()).toEndWith("/claim");
        await typeInto(page, {
          code: host.claim!,
          name: "admin",
          password: "correct horse battery",
          again: "correct horse battery",
        });
      } else {
        expect(page.url()).toEndWith("/login");
        await typeInto(page, { name: "admin", password: "correct horse battery" });
      }
      await page.keyboard.press("Enter");
      await page.waitForURL(host.url);
      expect(await page.locator("#verdict").textContent()).toContain("Healthy");
    }
  }, 60_000);
});

/** Curves of the last 24 hours, and how many of them have too few points, or not the one gap that the day has. */
async function dayShown(host: PageHost, cookie: string): Promise<{ curves: number; thin: number; broken: number }> {
  const text = await (await host.get("history?span=24h", { cookie })).text();
  const points = [...text.matchAll(/over (\d+) points/g)].map(([, count]) => Number(count));
  const gaps = [...text.matchAll(/<path class="curve" d="([^"]*)"/g)].map(([, path]) => path!.split("M").length - 2);
  return {
    curves: gaps.length,
    thin: points.filter((count) => count < 23 * 60 - 2).length,
    broken: gaps.filter((count) => count !== 1).length,
  };
}

/** Style sheet, script and icon, as the first page names them. */
async function weightOfAssets(host: PageHost, cookie: string): Promise<number> {
  const text = await (await host.get("", { cookie })).text();
  const paths = [...text.matchAll(/(?:href|src)="\/([\w.]+\?[^"]+)"/g)].map(([, path]) => path!);
  expect(paths.length).toBe(3);
  const sizes = paths.map(async (path) => (await (await host.get(path)).arrayBuffer()).byteLength);
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}

/** Walks by Tab to each field and types into it. */
async function typeInto(page: import("playwright-core").Page, fields: Readonly<Record<string, string>>): Promise<void> {
  for (const [id, text] of Object.entries(fields)) {
    for (let steps = 0; steps < 20 && (await page.evaluate("document.activeElement.id")) !== id; steps += 1)
      await page.keyboard.press("Tab");
    expect(await page.evaluate("document.activeElement.id")).toBe(id);
    await page.keyboard.press("ControlOrMeta+A");
    await page.keyboard.type(text);
  }
}
