// SPDX-License-Identifier: Apache-2.0
/**
 * How each stock server is started privately: its own directory and port, loopback only, nothing kept on disk.
 *
 * Gets a directory, a port and whether we are root; gives files to write, a command to run first, the command, and the
 * question that shows it serves. No well-known port is ever used. Source: each program's manual page.
 */
import { bytesOf } from "./traffic.ts";

export const serverPrograms = ["redis-server", "memcached", "nginx", "mosquitto", "mariadbd"] as const;
export type ServerProgram = (typeof serverPrograms)[number];

export type Place = { readonly directory: string; readonly port: number; readonly root: boolean };

export type ServerRecipe = {
  /** What is started: found on PATH. */
  readonly program: string;
  /** Name in the directory, and content. */
  files(place: Place): Readonly<Record<string, string>>;
  /** Run to its end before the start; null where nothing is needed. */
  prepare(place: Place): readonly string[] | null;
  command(place: Place): readonly string[];
  /** Sent on a new connection; null where the server speaks first. */
  readonly question: Uint8Array | null;
  /** The answer starts with these bytes. */
  readonly answer: Uint8Array;
};

/** The user and password that memcached's `-Y` file holds. */
export const memcachedAccount = { user: "bystander", password: "word" } as const;

export const serverRecipes: Readonly<Record<ServerProgram, ServerRecipe>> = {
  "redis-server": {
    program: "redis-server",
    files: () => ({}),
    prepare: () => null,
    command: ({ directory, port }) => [
      ...["redis-server", "--port", String(port), "--bind", "127.0.0.1", "--dir", directory],
      ...["--save", "", "--appendonly", "no", "--daemonize", "no", "--enable-debug-command", "local"],
    ],
    question: bytesOf("PING\r\n"),
    answer: bytesOf("+PONG\r\n"),
  },
  memcached: {
    program: "memcached",
    files: () => ({ authfile: `${memcachedAccount.user}:${memcachedAccount.password}\n` }),
    prepare: () => null,
    command: ({ directory, port, root }) => [
      ...["memcached", "-l", "127.0.0.1", "-p", String(port), "-U", "0", "-Y", `${directory}/authfile`],
      ...(root ? ["-u", "root"] : []),
    ],
    question: bytesOf("set login 0 0 14\r\nbystander word\r\n"),
    answer: bytesOf("STORED\r\n"),
  },
  nginx: {
    program: "nginx",
    files: (place) => ({ "nginx.conf": nginxConfiguration(place), "www/hello": "hello\n" }),
    prepare: () => null,
    command: ({ directory }) => ["nginx", "-p", directory, "-e", "stderr", "-c", `${directory}/nginx.conf`],
    question: bytesOf("GET /hello HTTP/1.0\r\n\r\n"),
    answer: bytesOf("HTTP/1.1 200"),
  },
  mosquitto: {
    program: "mosquitto",
    files: ({ port, root }) => ({
      "mosquitto.conf": `listener ${port} 127.0.0.1\nallow_anonymous true\npersistence false\n${root ? "user root\n" : ""}`,
    }),
    prepare: () => null,
    command: ({ directory }) => ["mosquitto", "-c", `${directory}/mosquitto.conf`],
    // CONNECT of MQTT 3.1.1: clean session, 60 s, client "probe"; CONNACK accepted.
    question: new Uint8Array([0x10, 17, 0, 4, ...bytesOf("MQTT"), 4, 2, 0, 60, 0, 5, ...bytesOf("probe")]),
    answer: new Uint8Array([0x20, 2, 0, 0]),
  },
  mariadbd: {
    program: "mariadbd",
    files: () => ({ "my.cnf": "" }),
    prepare: ({ directory, root }) => [
      ...["mariadb-install-db", "--no-defaults", `--datadir=${directory}/tables`, "--skip-test-db"],
      ...["--auth-root-authentication-method=normal", ...(root ? ["--user=root"] : [])],
    ],
    command: ({ directory, port, root }) => [
      ...["mariadbd", "--no-defaults", `--datadir=${directory}/tables`, `--socket=${directory}/socket`],
      ...["--bind-address=127.0.0.1", `--port=${port}`, `--pid-file=${directory}/pid`, "--innodb-fast-shutdown=2"],
      ...(root ? ["--user=root"] : []),
    ],
    question: null,
    // The handshake packet: 3 bytes of length and a 0 come first; see `greets`.
    answer: new Uint8Array([0x0a]),
  },
};

/** True where what the server said is the answer that shows it serves. */
export function greets(recipe: ServerRecipe, said: Uint8Array): boolean {
  const from = recipe.program === "mariadbd" ? 4 : 0;
  return recipe.answer.every((byte, index) => said[from + index] === byte);
}

function nginxConfiguration({ directory, port, root }: Place): string {
  return `daemon off; worker_processes 2; pid ${directory}/pid; ${root ? "user root;" : ""}
events { worker_connections 512; }
http {
  access_log off;
  ${["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) => `${kind}_temp_path ${directory}/${kind};`).join(" ")}
  server { listen 127.0.0.1:${port}; root ${directory}/www; }
}
`;
}
