// SPDX-License-Identifier: Apache-2.0
/**
 * What the probes say, and how an answer is judged: HTTP, redis, MQTT. Pure.
 *
 * A server that refuses us by name or password serves: it has read and answered. One that says it is busy or loading does
 * not. Source: RFC 9112; the redis protocol; MQTT 3.1.1, sections 3.1, 3.2 and 3.14.
 */
import type { Judged, ProbeRequest } from "./probeExchange.ts";

const good: Judged = { kind: "good" };
const more: Judged = { kind: "more" };
const bad = (why: string): Judged => ({ kind: "bad", why });
const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");
const shown = (text: string): string => JSON.stringify(text.slice(0, 60));

export const httpRequest = (host: string, port: number, path: string): ProbeRequest => {
  const authority = host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
  const lines = [`GET ${path} HTTP/1.1`, `Host: ${authority}`, "User-Agent: holdfast", "Connection: close", "", ""];
  return { bytes: bytesOf(lines.join("\r\n")), judge: judgeHttp, clockOf: dateOfHttp };
};

/** The `Date` of an answer, in whole seconds. Source: RFC 9110, 6.6.1. */
export function dateOfHttp(answer: Uint8Array): number | null {
  const found = /^Date: *([\x20-\x7e]{1,64})\r?$/im.exec(textOf(answer))?.[1];
  const atMs = found === undefined ? Number.NaN : Date.parse(found);
  return Number.isNaN(atMs) ? null : atMs;
}

/** The status line is enough. */
export function judgeHttp(answer: Uint8Array): Judged {
  const text = textOf(answer);
  const line = text.split("\n", 1)[0]!.trimEnd();
  if (!"HTTP/1.".startsWith(text.slice(0, 7))) return bad(`it is no HTTP: ${shown(line)}`);
  if (!text.includes("\n")) return more;
  const status = /^HTTP\/1\.[01] (\d{3})(?: |$)/.exec(line)?.[1];
  if (status === undefined) return bad(`its status line is ${shown(line)}`);
  return Number(status) >= 200 && Number(status) < 400 ? good : bad(`status ${status}`);
}

export const redisRequest: ProbeRequest = { bytes: bytesOf("*1\r\n$4\r\nPING\r\n"), judge: judgeRedis };

export function judgeRedis(answer: Uint8Array): Judged {
  const text = textOf(answer);
  if (!text.includes("\r\n")) return /^[+-]/.test(text) ? more : bad(`it is no redis: ${shown(text)}`);
  const line = text.slice(0, text.indexOf("\r\n"));
  if (line === "+PONG" || line.startsWith("-NOAUTH") || line.startsWith("-NOPERM")) return good;
  return bad(`it answers ${shown(line)}`);
}

/** CONNECT of MQTT 3.1.1, clean session, no client id, keep-alive 60 s. */
const mqttConnect = new Uint8Array([0x10, 12, 0, 4, 0x4d, 0x51, 0x54, 0x54, 4, 2, 0, 60, 0, 0]);
const mqttDisconnect = new Uint8Array([0xe0, 0]);

export const mqttRequest: ProbeRequest = { bytes: mqttConnect, judge: judgeMqtt, farewell: mqttDisconnect };

/** Return codes 2, 4 and 5: it knows MQTT and does not want us. 3: the server is unavailable. */
export function judgeMqtt(answer: Uint8Array): Judged {
  if (answer[0] !== 0x20 || (answer.length > 1 && answer[1] !== 2)) return bad("its answer is no CONNACK");
  if (answer.length < 4) return more;
  const code = answer[3]!;
  return [0, 2, 4, 5].includes(code) ? good : bad(`it refuses with code ${code}`);
}
