// SPDX-License-Identifier: Apache-2.0
/**
 * The servers that are attacked: how each is started by itself, which of its processes serves, and its clients' talk.
 *
 * Gets a name; gives a running server on a free port of loopback, with the process to guard. Disposal stops it and all it
 * has started. nginx and Apache run with one worker: their master would hide a dead one. The first four are the run's usual
 * ones; the others (webServers.ts, nameServers.ts, mysqlTraffic.ts) were never looked at while the ladder was made.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { frameMemcached, frameResp } from "#appliance/demo/framing.ts";
import { authenticatedTraffic } from "#appliance/demo/memcachedTraffic.ts";
import { startTicksOf } from "#appliance/demo/processFacts.ts";
import { redisTraffic } from "#appliance/demo/redisTraffic.ts";
import { prepareFrom, stopChild, waitUntilServing } from "#appliance/demo/serverProcess.ts";
import { memcachedAccount, type Place, type ServerRecipe, serverRecipes } from "#appliance/demo/serverRecipes.ts";
import { textOf } from "#appliance/demo/traffic.ts";
import { systemClock } from "#clock.ts";
import { ProgramError } from "#errors.ts";
import { dnsTraffic, essenceOfDns, frameDns, refusedByDns } from "./dnsTraffic.ts";
import { essenceOfHttp, frameHttp, httpTraffic, refusedHttp, webFiles } from "./httpTraffic.ts";
import type { Talk } from "./load.ts";
import { frameMqtt, mqttTraffic } from "./mqttTraffic.ts";
import { essenceOfMysql, frameMysql, mysqlSchema, mysqlTraffic, refusedByMysql } from "./mysqlTraffic.ts";
import { type NameServer, nameServers } from "./nameServers.ts";
import { type WebServer, webServers } from "./webServers.ts";

export const usualServers = ["redis", "memcached", "nginx", "mosquitto"] as const;
export const serverNames = [...usualServers, "lighttpd", "apache2", "haproxy", "unbound", "named", "mariadb"] as const;
export type ServerName = (typeof serverNames)[number];

export type Target = AsyncDisposable & {
  readonly name: ServerName;
  /** The process that serves: the one to guard. */
  readonly pid: number;
  readonly port: number;
  readonly talk: Talk;
  /** True while it is the very process that was started. */
  isSame(): boolean;
};

const recipes: Readonly<Record<ServerName, ServerRecipe>> = {
  redis: serverRecipes["redis-server"],
  memcached: serverRecipes.memcached,
  nginx: serverRecipes.nginx,
  mosquitto: serverRecipes.mosquitto,
  ...webServers,
  ...nameServers,
  mariadb: {
    ...serverRecipes.mariadbd,
    files: () => ({ "schema.sql": mysqlSchema }),
    command: (place) => [
      ...serverRecipes.mariadbd.command(place),
      ...["--skip-grant-tables", `--init-file=${place.directory}/schema.sql`],
    ],
  },
};
/** Their master starts the one process that serves. */
const mastered: readonly ServerName[] = ["nginx", "apache2"];
const workerPatienceMs = 5_000;
const pollMs = 10;
const firstByteIs =
  (...marks: readonly string[]) =>
  (answer: Uint8Array): boolean =>
    marks.some((mark) => textOf(answer.subarray(0, mark.length)) === mark);

const web: Talk = { framing: frameHttp, traffic: httpTraffic, essence: essenceOfHttp, refused: refusedHttp };
const names: Talk = { framing: frameDns, traffic: dnsTraffic, essence: essenceOfDns, refused: refusedByDns };
const talks: Readonly<Record<ServerName, Talk>> = {
  redis: { framing: frameResp, traffic: redisTraffic, essence: textOf, refused: firstByteIs("-") },
  memcached: {
    framing: frameMemcached,
    traffic: authenticatedTraffic(memcachedAccount.user, memcachedAccount.password),
    essence: textOf,
    refused: firstByteIs("ERROR", "CLIENT_ERROR", "SERVER_ERROR"),
  },
  nginx: web,
  mosquitto: { framing: frameMqtt, traffic: mqttTraffic, essence: textOf, refused: () => false },
  mariadb: { framing: frameMysql, traffic: mysqlTraffic, essence: essenceOfMysql, refused: refusedByMysql },
  ...(Object.fromEntries(Object.keys(webServers).map((name) => [name, web])) as Record<WebServer, Talk>),
  ...(Object.fromEntries(Object.keys(nameServers).map((name) => [name, names])) as Record<NameServer, Talk>),
};

/** @throws ProgramError where it is not installed or does not come up */
export async function startTarget(name: ServerName): Promise<Target> {
  const prepared = await prepareFrom(recipes[name]);
  const { directory } = prepared.place;
  if (name === "nginx") await writeSite(prepared.place);
  const child = Bun.spawn([...prepared.command], {
    ...{ cwd: directory, detached: true, stdin: "ignore", stdout: "ignore", stderr: "ignore" },
  });
  const stop = async (): Promise<void> => {
    await stopChild(child);
    await prepared[Symbol.asyncDispose]();
  };
  try {
    await waitUntilServing(prepared, child.exited, systemClock);
    const pid = mastered.includes(name) ? await onlyChildOf(child.pid) : child.pid;
    const startTicks = startTicksOf(pid);
    return {
      ...{ name, pid, port: prepared.place.port, talk: talks[name] },
      isSame: () => startTicks !== null && startTicksOf(pid) === startTicks,
      [Symbol.asyncDispose]: stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function writeSite({ directory, port, root }: Place): Promise<void> {
  await mkdir(join(directory, "www"), { recursive: true });
  for (const [file, content] of Object.entries(webFiles())) await Bun.write(join(directory, "www", file), content);
  const kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  const configuration = `daemon off; worker_processes 1; pid ${directory}/pid; ${root ? "user root;" : ""}
events { worker_connections 512; }
http {
  access_log off; default_type text/plain; keepalive_requests 1000000; keepalive_timeout 600s;
  ${kinds.map((kind) => `${kind}_temp_path ${directory}/${kind};`).join(" ")}
  server { listen 127.0.0.1:${port}; root ${directory}/www; }
}
`;
  await Bun.write(join(directory, "nginx.conf"), configuration);
}

async function onlyChildOf(pid: number): Promise<number> {
  for (let waitedMs = 0; waitedMs < workerPatienceMs; waitedMs += pollMs) {
    const [child] = (await Bun.file(`/proc/${pid}/task/${pid}/children`).text()).trim().split(" ").filter(Boolean);
    if (child !== undefined) return Number(child);
    await systemClock.sleep(pollMs);
  }
  throw new ProgramError("program.busy", "the master has started no worker", { pid });
}
