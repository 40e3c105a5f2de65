// SPDX-License-Identifier: Apache-2.0
/**
 * Web servers that serve the same files as nginx does in this run: lighttpd (one process, one thread), Apache (one worker
 * process of the event module, 64 threads) and HAProxy (one process, two threads; it answers from its own memory).
 *
 * Gets a place; gives a recipe as the demonstration's servers have one. Source: each program's manual.
 */
import type { Place, ServerRecipe } from "#appliance/demo/serverRecipes.ts";
import { bytesOf } from "#appliance/demo/traffic.ts";
import { webFiles } from "./httpTraffic.ts";

export type WebServer = "lighttpd" | "apache2" | "haproxy";

const served = (): Record<string, string> =>
  Object.fromEntries(Object.entries(webFiles()).map(([name, content]) => [`www/${name}`, content]));
const shown = {
  prepare: () => null,
  question: bytesOf("GET /file1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
  answer: bytesOf("HTTP/1.1 200"),
};

export const webServers: Readonly<Record<WebServer, ServerRecipe>> = {
  lighttpd: {
    ...shown,
    program: "lighttpd",
    files: (place) => ({ "lighttpd.conf": lighttpdConfiguration(place), ...served() }),
    command: ({ directory }) => ["lighttpd", "-D", "-f", `${directory}/lighttpd.conf`],
  },
  apache2: {
    ...shown,
    program: "apache2",
    // Its worker gives up root, and is to read the files.
    prepare: ({ directory }) => ["chmod", "-R", "a+rX", directory],
    files: (place) => ({ "apache2.conf": apacheConfiguration(place), ...served() }),
    command: ({ directory }) => ["apache2", "-DFOREGROUND", "-f", `${directory}/apache2.conf`],
  },
  haproxy: {
    ...shown,
    program: "haproxy",
    files: (place) => ({ "haproxy.cfg": haproxyConfiguration(place), ...served() }),
    command: ({ directory }) => ["haproxy", "-db", "-f", `${directory}/haproxy.cfg`],
  },
};

function lighttpdConfiguration({ directory, port }: Place): string {
  return `server.bind = "127.0.0.1"
server.port = ${port}
server.document-root = "${directory}/www"
mimetype.assign = ( "" => "text/plain" )
server.max-keep-alive-requests = 1000000
server.max-keep-alive-idle = 600
`;
}

function apacheConfiguration({ directory, port, root }: Place): string {
  const modules = ["mpm_event", "authz_core", "mime"];
  return `ServerRoot ${directory}
ServerName localhost
Listen 127.0.0.1:${port}
PidFile ${directory}/pid
DefaultRuntimeDir ${directory}
ErrorLog ${directory}/errors
${modules.map((name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`).join("\n")}
${root ? "User www-data\nGroup www-data" : ""}
TypesConfig /dev/null
ThreadLimit 64
StartServers 1
ServerLimit 1
ThreadsPerChild 64
MaxRequestWorkers 64
KeepAlive On
KeepAliveTimeout 600
MaxKeepAliveRequests 0
DocumentRoot ${directory}/www
<Directory ${directory}/www>
  Require all granted
  ForceType text/plain
</Directory>
`;
}

function haproxyConfiguration({ directory, port }: Place): string {
  const answers = Object.keys(webFiles()).map(
    (name) =>
      `  http-request return status 200 content-type text/plain file ${directory}/www/${name} if { path /${name} }`,
  );
  return `global
  maxconn 512
  nbthread 2
  tune.bufsize 65536
defaults
  mode http
  timeout client 600s
  timeout http-keep-alive 600s
  timeout connect 5s
  timeout server 600s
frontend web
  bind 127.0.0.1:${port}
${answers.join("\n")}
`;
}
