// SPDX-License-Identifier: Apache-2.0
/**
 * The thread that serves the page. Gets ToPage messages; gives FromPage. It has its own event loop, heap and readers of the
 * record, and runs behind the load: whatever browsers do to it, the fault path is on another thread.
 */
import { setPriority } from "node:os";
import { systemClock } from "#clock.ts";
import { explain } from "#errors.ts";
import { streamsOf } from "./api/routes.ts";
import { descriptorsMax, openDescriptors } from "./descriptors.ts";
import type { FromPage, PageStart, ToPage } from "./messages.ts";
import { Page } from "./page.ts";
import { type OpenedDoor, openDoor } from "./pageServer.ts";

declare const self: Worker;

/** Behind the guarded programs and everything else of ours. On Linux a priority belongs to the thread that sets it. */
const behindTheLoad = 10;
const sweepMs = 5_000;
/** The page may use so much of the process's descriptors; looked at often enough for a flood at full speed. */
const descriptorShare = 0.4;
const descriptorsEveryMs = 20;
const floodToldMs = 60_000;

const say = (message: FromPage): void => self.postMessage(message);
let page: Page | null = null;
let door: OpenedDoor | null = null;
let reading = false;

self.onmessage = (event: MessageEvent<ToPage>): void => {
  const message = event.data;
  switch (message.kind) {
    case "start":
      void start(message.start);
      break;
    case "told":
      page?.take(message.told);
      void readOn();
      break;
    case "done":
      page?.answer(message.id, message.result);
      break;
    case "stop":
      void stop();
      break;
  }
};

async function start(given: PageStart): Promise<void> {
  try {
    setPriority(0, behindTheLoad);
  } catch {
    // A machine that does not let us: the page then competes like any thread.
  }
  try {
    page = new Page(given, {
      clock: systemClock,
      act: (request) => say({ kind: "act", request }),
      audit: (audit) => say({ kind: "audit", audit }),
    });
    const claim = page.accounts.claimed ? null : page.claim.open();
    door = await openDoor(page, given.names);
    say({ kind: "listening", url: door.url, fingerprint: door.fingerprint, claim });
    void readOn();
    await Promise.all([sweep(page), keepDescriptors(page, door)]);
  } catch (error) {
    say({ kind: "failed", why: explain(error) });
  }
}

/** Reads the record a slice at a time; requests are answered between the slices. */
async function readOn(): Promise<void> {
  if (reading || page === null) return;
  reading = true;
  while (page.readOn()) await systemClock.sleep(0);
  reading = false;
}

async function sweep(of: Page): Promise<void> {
  for (;;) {
    await systemClock.sleep(sweepMs);
    streamsOf.get(of)?.sweep();
  }
}

/** Cuts all connections off before they take what the fault path needs. */
async function keepDescriptors(of: Page, opened: OpenedDoor): Promise<void> {
  const most = descriptorsMax() * descriptorShare;
  let toldMs = 0;
  for (;;) {
    await systemClock.sleep(descriptorsEveryMs);
    const used = openDescriptors();
    if (used < most) continue;
    await opened.reopen();
    const nowMs = systemClock.wallMs();
    if (nowMs - toldMs > floodToldMs) of.audit("page.flooded", "", "", { descriptors: used });
    toldMs = nowMs;
  }
}

async function stop(): Promise<void> {
  await door?.close();
  say({ kind: "stopped" });
}
