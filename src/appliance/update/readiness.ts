// SPDX-License-Identifier: Apache-2.0
/**
 * Whether this supervisor is ready, as `/readyz` has it: its checks asked directly, and where a page listens, the page's own
 * answer over the network too, so that a page that hangs is noticed. Gets what is told and the page's address; gives checks.
 * Limit: `answerMsMax`.
 */
import { deadline } from "#clock.ts";
import { explainInLine, StatusError } from "#errors.ts";
import { checksOf } from "#status/api/health.ts";
import type { GateCheck } from "./gate.ts";

const answerMsMax = 10_000;
const answerLengthMax = 300;
/** The certificate is the box's own, and we ask ourselves. */
const ourselves = { rejectUnauthorized: false };

export async function askReadiness(
  seen: Parameters<typeof checksOf>[0],
  pageUrl: string | null,
  signal: AbortSignal,
): Promise<readonly GateCheck[]> {
  const checks = checksOf(seen);
  return pageUrl === null ? checks : [...checks, await askPage(pageUrl, signal)];
}

async function askPage(pageUrl: string, signal: AbortSignal): Promise<GateCheck> {
  const name = "readyz";
  const late = (): StatusError => new StatusError("status.listen", `no answer in ${answerMsMax} ms`);
  using limit = deadline(answerMsMax, late, signal);
  const url = new URL("/readyz?verbose", pageUrl);
  // It listens on all addresses, so on this one too; only a named one is asked by its name.
  if (["0.0.0.0", "[::]"].includes(url.hostname)) url.hostname = "127.0.0.1";
  try {
    const answer = await fetch(url, { signal: limit.signal, tls: ourselves, keepalive: false });
    const text = (await answer.text()).trim().replaceAll("\n", "; ").slice(0, answerLengthMax);
    return { name, good: answer.ok, says: text };
  } catch (error) {
    signal.throwIfAborted();
    return { name, good: false, says: explainInLine(error) };
  }
}
