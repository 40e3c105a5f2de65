// SPDX-License-Identifier: Apache-2.0
/**
 * The pictures of the README, taken by Debian's chromium from a page over a made-up day: `bun scripts/lab/pictures.ts`.
 * Writes `src/status/pictures/*.jpg`. The faults are scripted, so that the pictures show the same each time.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { openBrowser, openWindow } from "#tests/browser/browser.ts";
import { PageHost, workload } from "#tests/peers/pageHost.ts";

const folder = join(import.meta.dir, "../../src/status/pictures");
const hourMs = 3_600_000;
const quality = 72;
const pictures = [
  { name: "overview", path: "", width: 1100, height: 900, theme: "light" },
  { name: "fault", path: "faults/LAST", width: 1100, height: 900, theme: "dark" },
  { name: "phone", path: "", width: 360, height: 740, theme: "light" },
] as const;

await using host = await PageHost.open();
host.told = {
  workloads: [
    workload("shop", { pid: 812, threads: 9 }),
    workload("cache", {
      kind: "guest",
      state: "up",
      pid: 640,
      restarts: { used: 1, max: 5 },
      verbs: ["workload.restart", "workload.hold"],
    }),
  ],
};
const verdicts = ["clean", "clean", "clean", "clean", "degraded", "clean", "clean"] as const;
const ids = await host.record(
  Array.from({ length: 40 }, (_, index) => ({
    agoMs: 23 * hourMs - index * (hourMs * 0.55) - (index % 3) * 400_000,
    verdict: verdicts[index % verdicts.length]!,
    cut: index % 3 !== 0,
  })),
);
const cookie = await host.claimed();
const browser = await openBrowser();
mkdirSync(folder, { recursive: true });
for (const { name, path, width, height, theme } of pictures) {
  await using window = await openWindow(browser, { width, theme, cookie, url: host.url });
  const { page } = window;
  await page.setViewportSize({ width, height });
  await page.goto(`${host.url}${path.replace("LAST", ids.at(-1)!)}`);
  await page.locator("#live-text", { hasText: "live" }).waitFor();
  await page.screenshot({ path: join(folder, `${name}.jpg`), type: "jpeg", quality });
}
await browser.close();
