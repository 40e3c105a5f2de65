// SPDX-License-Identifier: Apache-2.0
/**
 * A real Chromium for the tests of the page: windows of two widths and two themes, with or without script, and axe.
 */
import { readFileSync } from "node:fs";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { programPath } from "#tests/skip.ts";

export const widths = [1280, 320] as const;
export const themes = ["light", "dark"] as const;

export type WindowOptions = {
  readonly width: number;
  readonly theme: "light" | "dark";
  readonly script?: boolean;
  readonly cookie: string;
  readonly url: string;
};

export type TestWindow = AsyncDisposable & {
  readonly page: Page;
  readonly context: BrowserContext;
  /** What the page complained about: errors of its script, and what its policy refused. */
  readonly complaints: string[];
  /** Addresses beyond our own that were asked for. */
  readonly foreign: string[];
};

export const openBrowser = (): Promise<Browser> =>
  chromium.launch({ executablePath: programPath("chromium")!, args: ["--no-sandbox", "--disable-gpu"] });

export async function openWindow(browser: Browser, options: WindowOptions): Promise<TestWindow> {
  const { width, theme, script = true, cookie, url } = options;
  const context = await browser.newContext({
    viewport: { width, height: 800 },
    colorScheme: theme,
    javaScriptEnabled: script,
    ignoreHTTPSErrors: true,
  });
  const [name, value] = [cookie.slice(0, cookie.indexOf("=")), cookie.slice(cookie.indexOf("=") + 1)];
  if (cookie !== "") await context.addCookies([{ name, value, url, httpOnly: true, sameSite: "Strict" }]);
  const page = await context.newPage();
  const complaints: string[] = [];
  const foreign: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("request", (request) => {
    if (!request.url().startsWith(url)) foreign.push(request.url());
  });
  return { page, context, complaints, foreign, [Symbol.asyncDispose]: () => context.close() };
}

const axeSource = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

/** Rules that are broken, each with the element: empty is good. The page's own policy forbids inline script, so it is put in from outside. */
export async function axe(page: Page): Promise<string[]> {
  const run = `axe.run(document, ${JSON.stringify({ runOnly: tags, rules: { "target-size": { enabled: true } } })})`;
  const client = await page.context().newCDPSession(page);
  await client.send("Runtime.evaluate", { expression: axeSource });
  const answer = await client.send("Runtime.evaluate", {
    expression: `${run}.then((found) => JSON.stringify(found.violations.map((rule) => rule.id + ": " + rule.nodes.map((node) => node.target.join(" ") + " " + node.failureSummary).join(" | "))))`,
    awaitPromise: true,
    returnByValue: true,
  });
  await client.detach();
  return JSON.parse(String(answer.result.value)) as string[];
}

/** Pixels by which the page is wider than its window. */
export const overflow = (page: Page): Promise<number> =>
  page.evaluate<number>("document.documentElement.scrollWidth - document.documentElement.clientWidth");
