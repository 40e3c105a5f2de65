// SPDX-License-Identifier: Apache-2.0
/**
 * Keeps a server busy over its socket file until it is stopped: fixed bytes, sent again when an answer has come.
 *
 * Run as a process of its own, `unwindLoad.ts PROGRAM SOCKET`, so that a stopped server never stops its sampler. It does
 * not check answers: it only makes the server run through its usual code. Prints a line once the first answer is there.
 */
import { systemClock } from "#clock.ts";
import type { ProgramName } from "./unwindPrograms.ts";

const connections = 16;
const attemptsMax = 200;
const retryMs = 50;
const text = (content: string): Uint8Array => new TextEncoder().encode(content);

/** Requests that are sent in turn, each after an answer. The first is sent once, when the connection opens. */
const requests: Readonly<Record<Exclude<ProgramName, "mariadbd">, readonly Uint8Array[]>> = {
  redis: [
    text("PING\r\n"),
    text("SET key:1 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nGET key:1\r\nINCR counter\r\n"),
    text("LPUSH list a b c d e f g h\r\nLRANGE list 0 50\r\nLTRIM list 0 500\r\n"),
    text("ZADD board 1 a 2 b 3 c 4 d\r\nZRANGEBYSCORE board 0 10 WITHSCORES\r\nSADD set a b c\r\nSORT set ALPHA\r\n"),
    text("EVAL \"local s=0 for i=1,2000 do s=s+i end return redis.call('incrby','n',s)\" 0\r\n"),
    text("HSET h f1 v1 f2 v2 f3 v3\r\nHGETALL h\r\nEXPIRE h 100\r\nSCAN 0 COUNT 50\r\nINFO\r\n"),
    text(
      "XADD stream MAXLEN 200 * a 1 b 2\r\nXRANGE stream - + COUNT 20\r\nDEBUG SLEEP 0\r\nPFADD p a b c\r\nPFCOUNT p\r\n",
    ),
  ],
  memcached: [
    text("version\r\n"),
    text(`set key:1 0 0 200\r\n${"v".repeat(200)}\r\nget key:1 key:2 key:3\r\n`),
    text("add key:2 0 1 3\r\nabc\r\nincr key:2 1\r\ndelete key:3\r\ntouch key:1 100\r\n"),
    text("stats\r\nstats items\r\nmg key:1 v t f\r\ngat 100 key:1\r\nappend key:2 0 0 1\r\nz\r\n"),
  ],
  nginx: [
    text("GET /page.html HTTP/1.1\r\nHost: a\r\n\r\n"),
    text("GET /page.html HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nUser-Agent: unwind\r\n\r\n"),
    text("GET /old/page.html HTTP/1.1\r\nHost: a\r\nRange: bytes=1-200\r\n\r\n"),
    text("GET /echo/%41/b?c=d HTTP/1.1\r\nHost: a\r\n\r\nGET /missing HTTP/1.1\r\nHost: a\r\n\r\n"),
  ],
  mosquitto: mqttRequests(),
};
/** A publication comes back at any time, so the broker has answered when the ping behind the request is answered. */
const pingResponse = 0xd0;

function mqttRequests(): readonly Uint8Array[] {
  const string = (content: string): number[] => [0, content.length, ...text(content)];
  const packet = (type: number, body: readonly number[]): number[] => [type, body.length, ...body];
  const publish = (topic: string): number[] => packet(0x30, [...string(topic), ...text("payload")]);
  const ping = [0xc0, 0];
  const connect = packet(0x10, [...string("MQTT"), 4, 2, 0, 60, 0, 0]);
  const subscribe = packet(0x82, [0, 1, ...string("a/+/b"), 1, ...string("c/#"), 0]);
  const publishAcknowledged = packet(0x32, [...string("a/x/b"), 0, 7, ...text("payload")]);
  return [
    Uint8Array.from([...connect, ...subscribe, ...ping]),
    Uint8Array.from([...publish("a/x/b"), ...publish("c/d/e"), ...publish("f"), ...ping]),
    Uint8Array.from([...publish("f"), ...publishAcknowledged, ...ping]),
  ];
}

let isBusy = false;

function openConnection(program: keyof typeof requests, socket: string, attempt = 0): void {
  const list = requests[program];
  let next = 1;
  void Bun.connect({
    unix: socket,
    socket: {
      open: (connection) => {
        connection.write(list[0]!);
      },
      data: (connection, bytes) => {
        if (program === "mosquitto" && !bytes.includes(pingResponse)) return;
        if (!isBusy) process.stdout.write("busy\n");
        isBusy = true;
        connection.write(list[next]!);
        next = next + 1 < list.length ? next + 1 : Math.min(1, list.length - 1);
      },
      close: () => openConnection(program, socket),
    },
  }).catch(async () => {
    // A full backlog refuses for a moment; a server that has gone refuses for good.
    if (attempt === attemptsMax) process.exit(0);
    await systemClock.sleep(retryMs);
    openConnection(program, socket, attempt + 1);
  });
}

const [program = "", socket = ""] = process.argv.slice(2);
if (import.meta.main && program in requests) {
  for (let index = 0; index < connections; index += 1) openConnection(program as keyof typeof requests, socket);
}

/** The command that keeps `name` busy. */
export function loadCommand(name: ProgramName, socketPath: string): readonly string[] {
  if (name !== "mariadbd") return [process.execPath, "run", import.meta.path, name, socketPath];
  return [
    "mariadb-slap",
    "--no-defaults",
    `--socket=${socketPath}`,
    "--user=root",
    "--auto-generate-sql",
    "--auto-generate-sql-load-type=mixed",
    "--auto-generate-sql-secondary-indexes=2",
    "--number-char-cols=3",
    "--number-int-cols=3",
    "--concurrency=8",
    "--iterations=1000",
    "--number-of-queries=4000",
  ];
}
