// SPDX-License-Identifier: Apache-2.0
/**
 * Starts a stock server in a scratch directory and puts it under load, for sampling. Sockets are files: no port is taken.
 *
 * Everything started here ends with its owner. Limit: start-up time.
 */
import { systemClock } from "#clock.ts";
import { ProgramError } from "#errors.ts";

export const programNames = ["redis", "nginx", "memcached", "mosquitto", "mariadbd"] as const;
export type ProgramName = (typeof programNames)[number];

export type RunningProgram = AsyncDisposable & { readonly pid: number; readonly socket: string };

type Recipe = {
  readonly executable: string;
  readonly prepare?: (directory: string) => Promise<void>;
  readonly command: (directory: string, socket: string) => readonly string[];
  /** Where the process that serves is a child of the one started. */
  readonly servesInChild?: boolean;
};

const startMsMax = 30_000;
const stopMsMax = 10_000;
const pollMs = 20;

const recipes: Readonly<Record<ProgramName, Recipe>> = {
  redis: {
    executable: "redis-server",
    command: (directory, socket) => [
      "--port",
      "0",
      "--unixsocket",
      socket,
      "--save",
      "",
      "--dir",
      directory,
      "--appendonly",
      "yes",
    ],
  },
  memcached: {
    executable: "memcached",
    command: (_, socket) => ["-s", socket, "-u", "root", "-m", "64", "-t", "4"],
  },
  nginx: {
    executable: "nginx",
    prepare: async (directory) => {
      await Bun.write(`${directory}/nginx.conf`, nginxConfiguration(directory));
      await Bun.write(`${directory}/page.html`, "x".repeat(20_000));
    },
    command: (directory) => ["-p", directory, "-c", `${directory}/nginx.conf`, "-e", `${directory}/error`],
    servesInChild: true,
  },
  mosquitto: {
    executable: "mosquitto",
    prepare: async (directory) => {
      await Bun.write(`${directory}/m.conf`, `listener 0 ${directory}/socket\nallow_anonymous true\nuser root\n`);
    },
    command: (directory) => ["-c", `${directory}/m.conf`],
  },
  mariadbd: {
    executable: "mariadbd",
    prepare: async (directory) => {
      const place = `--datadir=${directory}/db`;
      const made = Bun.spawn(
        ["mariadb-install-db", "--no-defaults", place, "--user=root", "--auth-root-authentication-method=normal"],
        {
          stdio: ["ignore", "ignore", "ignore"],
        },
      );
      if ((await made.exited) !== 0) throw new ProgramError("program.unsupported", "mariadb-install-db failed");
    },
    command: (directory, socket) => [
      "--no-defaults",
      `--datadir=${directory}/db`,
      `--socket=${socket}`,
      "--skip-networking",
      "--user=root",
      `--pid-file=${directory}/pid`,
    ],
  },
};

/** Path of the program's executable, or null where it is not installed. */
export const executableOf = (name: ProgramName): string | null =>
  Bun.which(recipes[name].executable, { PATH: `${process.env.PATH}:/usr/sbin:/sbin` });

/** Starts `name` and waits until its socket is there. @throws ProgramError where it is missing or does not come up. */
export async function startProgram(name: ProgramName, directory: string): Promise<RunningProgram> {
  const executable = executableOf(name);
  if (executable === null) throw new ProgramError("program.notFound", `${name} is not installed`);
  const recipe = recipes[name];
  const socket = `${directory}/socket`;
  await recipe.prepare?.(directory);
  const child = Bun.spawn([executable, ...recipe.command(directory, socket)], {
    stdio: ["ignore", Bun.file(`${directory}/out`), Bun.file(`${directory}/err`)],
  });
  const stop = async (): Promise<void> => {
    child.kill("SIGTERM");
    const forced = systemClock.sleep(stopMsMax).then(() => child.kill("SIGKILL"));
    await Promise.race([child.exited, forced]);
    await child.exited;
  };
  try {
    const pid = await whenServing(child, socket, recipe.servesInChild === true);
    return { pid, socket, [Symbol.asyncDispose]: stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function whenServing(child: Bun.Subprocess, socket: string, servesInChild: boolean): Promise<number> {
  const { pid } = child;
  const started = systemClock.monotonicNs();
  while (systemClock.monotonicNs() - started < startMsMax * 1e6) {
    if (child.exitCode !== null) break;
    const serving = servesInChild ? await firstChild(pid) : pid;
    if (serving !== null && (await answers(socket))) return serving;
    await systemClock.sleep(pollMs);
  }
  throw new ProgramError("program.gone", "the server did not come up", { pid, exitCode: child.exitCode });
}

async function firstChild(pid: number): Promise<number | null> {
  const text = await Bun.file(`/proc/${pid}/task/${pid}/children`).text();
  const first = Number(text.trim().split(" ")[0]);
  return first > 0 ? first : null;
}

async function answers(socket: string): Promise<boolean> {
  try {
    const connection = await Bun.connect({ unix: socket, socket: { data() {} } });
    connection.end();
    return true;
  } catch {
    // Not there yet: the caller asks again.
    return false;
  }
}

const nginxConfiguration = (directory: string): string => `daemon off;
worker_processes 1;
user root;
pid ${directory}/pid;
events { worker_connections 256; }
http {
  access_log ${directory}/access;
  client_body_temp_path ${directory}/body;
  proxy_temp_path ${directory}/proxy;
  fastcgi_temp_path ${directory}/fastcgi;
  uwsgi_temp_path ${directory}/uwsgi;
  scgi_temp_path ${directory}/scgi;
  gzip on;
  gzip_types text/plain;
  server {
    listen unix:${directory}/socket;
    location / { root ${directory}; }
    location /old { rewrite ^/old/(.*)$ /$1 last; }
    location /echo { return 200 "$request_uri $http_user_agent\\n"; }
  }
}
`;
