// SPDX-License-Identifier: Apache-2.0
/**
 * Waiting for a box: asks until something holds, and says what the last answer was where it does not. Gets a question; gives
 * its answer. Also the box's page as it is reached from here.
 */
import { deadline, systemClock } from "#clock.ts";
import { explain } from "#errors.ts";
import { LabError } from "./labError.ts";

const waitEachMs = 1_000;
const pageMsMax = 60_000;

/** @throws LabError lab.machine with what is not so */
export function must(isSo: boolean, what: string): void {
  if (!isSo) throw new LabError("lab.machine", what);
}

/** Asks until it holds. @throws LabError lab.machine with the last answer */
export async function holds<T>(
  what: string,
  ask: () => Promise<T | null>,
  withinMs: number,
  everyMs = waitEachMs,
): Promise<T> {
  const endNs = systemClock.monotonicNs() + withinMs * 1e6;
  let last = "nothing";
  while (systemClock.monotonicNs() < endNs) {
    const answer = await ask().catch((error: unknown) => {
      last = explain(error);
      return null;
    });
    if (answer !== null) return answer;
    await systemClock.sleep(everyMs);
  }
  throw new LabError("lab.machine", `${what} does not hold after ${withinMs} ms: ${last}`);
}

/** Until the box says that it is ready. */
export async function pageReady(port: number, withinMs: number, everyMs?: number): Promise<void> {
  await holds("/readyz", async () => ((await page(port, "/readyz")).ok ? true : null), withinMs, everyMs);
}

/** The page's own answer; a TLS certificate of the box's own is what it should have. */
export async function page(port: number, path: string, init: RequestInit = {}): Promise<Response> {
  const late = (): LabError => new LabError("lab.machine", `no answer from the page within ${pageMsMax} ms`);
  using limit = deadline(pageMsMax, late);
  return await fetch(`https://127.0.0.1:${port}${path}`, {
    ...init,
    signal: limit.signal,
    redirect: "manual",
    tls: { rejectUnauthorized: false },
  });
}

/** One that nobody listens on now. */
export function freePort(): number {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const { port } = listener;
  listener.stop(true);
  return port;
}
