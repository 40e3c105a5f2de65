// SPDX-License-Identifier: Apache-2.0
/**
 * Asks a program from outside whether it serves. Gets a word of the configuration; gives a probe that answers with what
 * went wrong, or null.
 *
 *     tcp:PORT    tcp:HOST:PORT            accepts a connection
 *     http:PORT/PATH  http:HOST:PORT/PATH  answers a GET with a status from 200 to 399
 *     redis:PORT  redis:HOST:PORT          answers PING
 *     mqtt:PORT   mqtt:HOST:PORT           answers CONNECT
 *     cmd:COMMAND LINE                     exits with 0
 *
 * Without a host it is 127.0.0.1; a host of IPv6 stands in brackets. Limit: 2 s an answer. The command runs under
 * `/bin/sh -c`, with no input and its output dropped.
 */
import { deadline } from "#clock.ts";
import { ConfigError, explain } from "#errors.ts";
import { type Asked, type ClockTold, connects, exchanges } from "./probeExchange.ts";
import { httpRequest, mqttRequest, redisRequest } from "./probeRequests.ts";

export const probeTimeoutMs = 2000;

/** What went wrong, in words; null where the program answered. Never rejects. */
export type Probe = (signal: AbortSignal) => Promise<string | null>;

const place = /^(?:(\[[0-9a-fA-F:.]+\]|[^:[\]/]+):)?(\d{1,5})(\/[\x21-\x7e]*)?$/;
const forms = "tcp:PORT, http:PORT/PATH, redis:PORT, mqtt:PORT (each also with HOST: before the port), or cmd:COMMAND";

/** `clockTold` hears the wall clock that an answer tells. @throws ConfigError "config.argument" */
export function parseProbe(text: string, clockTold?: ClockTold): Probe {
  const kind = text.slice(0, text.indexOf(":"));
  const rest = text.slice(kind.length + 1);
  if (kind === "cmd" && rest !== "") return within(`command ${JSON.stringify(rest)}`, succeeds(rest));
  const at = place.exec(rest);
  const [host, port, path] = [(at?.[1] ?? "127.0.0.1").replace(/^\[|\]$/g, ""), Number(at?.[2]), at?.[3]];
  if (at !== null && port >= 1 && port <= 65_535 && (path === undefined || kind === "http")) {
    switch (kind) {
      case "tcp":
        return within(`connect to ${rest}`, connects(host, port));
      case "http":
        return within(`GET ${rest}`, exchanges(host, port, httpRequest(host, port, path ?? "/"), clockTold));
      case "redis":
        return within(`PING to redis at ${rest}`, exchanges(host, port, redisRequest));
      case "mqtt":
        return within(`CONNECT to MQTT at ${rest}`, exchanges(host, port, mqttRequest));
    }
  }
  throw new ConfigError("config.argument", `no probe: ${JSON.stringify(text)}; write ${forms}`);
}

function within(what: string, ask: Asked): Probe {
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

const succeeds =
  (command: string): Asked =>
  async (signal) => {
    const env = { ...process.env };
    const child = Bun.spawn(["/bin/sh", "-c", command], { stdio: ["ignore", "ignore", "ignore"], env, signal });
    const code = await child.exited;
    signal.throwIfAborted();
    return code === 0 ? null : `exit code ${code}`;
  };
