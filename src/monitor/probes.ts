// SPDX-License-Identifier: Apache-2.0
/**
 * Asks a program from outside whether it serves: a TCP connect, or a command that exits with 0. Gets `tcp:PORT`,
 * `tcp:HOST:PORT` or `cmd:COMMAND LINE`; gives a probe that answers with what went wrong, or null.
 *
 * Limit: 2 s an answer. The command runs under `/bin/sh -c`, with no input and its output dropped.
 */
import { connect } from "node:net";
import { deadline } from "#clock.ts";
import { ConfigError, explain } from "#errors.ts";

export const probeTimeoutMs = 2000;

/** What went wrong, in words; null where the program answered. Never rejects. */
export type Probe = (signal: AbortSignal) => Promise<string | null>;

/** @throws ConfigError "config.argument" */
export function parseProbe(text: string): Probe {
  const tcp = /^tcp:(?:(\[[0-9a-fA-F:.]+\]|[^:[\]]+):)?(\d{1,5})$/.exec(text);
  if (tcp !== null && Number(tcp[2]) >= 1 && Number(tcp[2]) <= 65_535) {
    return within(
      `connect to ${text.slice(4)}`,
      connects((tcp[1] ?? "127.0.0.1").replace(/^\[|\]$/g, ""), Number(tcp[2])),
    );
  }
  if (text.startsWith("cmd:") && text.length > 4)
    return within(`command ${JSON.stringify(text.slice(4))}`, succeeds(text.slice(4)));
  throw new ConfigError(
    "config.argument",
    `no probe: ${JSON.stringify(text)}; write tcp:PORT, tcp:HOST:PORT or cmd:COMMAND`,
  );
}

function within(what: string, ask: Probe): Probe {
  return async (signal) => {
    const late = (): Error => new DOMException(`no answer within ${probeTimeoutMs} ms`, "TimeoutError");
    using limit = deadline(probeTimeoutMs, late, signal);
    try {
      const trouble = await ask(limit.signal);
      return trouble === null ? null : `${what}: ${trouble}`;
    } catch (error) {
      return `${what}: ${explain(error)}`;
    }
  };
}

const connects =
  (host: string, port: number): Probe =>
  (signal) =>
    new Promise((resolve, reject) => {
      const socket = connect({ host, port });
      const end = (settle: () => void): void => {
        socket.destroy();
        signal.removeEventListener("abort", abort);
        settle();
      };
      const abort = (): void => end(() => reject(signal.reason));
      signal.addEventListener("abort", abort, { once: true });
      socket.once("connect", () => end(() => resolve(null)));
      socket.once("error", (error) => end(() => resolve(error.message)));
    });

const succeeds =
  (command: string): Probe =>
  async (signal) => {
    const child = Bun.spawn(["/bin/sh", "-c", command], { stdio: ["ignore", "ignore", "ignore"], signal });
    const code = await child.exited;
    signal.throwIfAborted();
    return code === 0 ? null : `exit code ${code}`;
  };
