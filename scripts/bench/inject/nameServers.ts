// SPDX-License-Identifier: Apache-2.0
/**
 * Name servers that answer for one small zone over TCP: Unbound (one process, two threads, from its own memory) and BIND
 * (one process, a thread pool and tasks). Gets a place; gives a recipe as the demonstration's servers have one.
 *
 * Source: unbound.conf(5), named.conf(5).
 */
import type { Place, ServerRecipe } from "#appliance/demo/serverRecipes.ts";
import { addressText, hostNumbers, question, zone } from "./dnsTraffic.ts";

export type NameServer = "unbound" | "named";

const probe = question(0x7777, 0);
/** The answer repeats the question and adds one record: its length is known, and its id is ours. */
const shown = { prepare: () => null, question: probe, answer: new Uint8Array([0, probe.length - 2 + 16, 0x77, 0x77]) };

export const nameServers: Readonly<Record<NameServer, ServerRecipe>> = {
  unbound: {
    ...shown,
    program: "unbound",
    files: (place) => ({ "unbound.conf": unboundConfiguration(place) }),
    command: ({ directory }) => ["unbound", "-d", "-c", `${directory}/unbound.conf`],
  },
  named: {
    ...shown,
    program: "named",
    files: (place) => ({ "named.conf": namedConfiguration(place), zone: zoneFile() }),
    command: ({ directory }) => ["named", "-f", "-n", "2", "-c", `${directory}/named.conf`],
  },
};

function unboundConfiguration({ directory, port }: Place): string {
  return `server:
  interface: 127.0.0.1
  port: ${port}
  num-threads: 2
  incoming-num-tcp: 256
  tcp-idle-timeout: 600000
  do-daemonize: no
  use-syslog: no
  chroot: ""
  username: ""
  directory: "${directory}"
  pidfile: "${directory}/pid"
  module-config: "iterator"
  local-zone: "${zone}." static
${hostNumbers.map((host) => `  local-data: "h${host}.${zone}. 3600 IN A ${addressText(host)}"`).join("\n")}
remote-control:
  control-enable: no
`;
}

function namedConfiguration({ directory, port }: Place): string {
  return `options {
  directory "${directory}";
  pid-file "${directory}/pid";
  session-keyfile "${directory}/session.key";
  listen-on port ${port} { 127.0.0.1; };
  listen-on-v6 { none; };
  recursion no;
  minimal-responses yes;
  tcp-clients 256;
  tcp-idle-timeout 1200;
};
controls { };
zone "${zone}" { type primary; file "${directory}/zone"; };
`;
}

function zoneFile(): string {
  const hosts = hostNumbers.map((host) => `h${host} IN A ${addressText(host)}`);
  return `$TTL 3600
@ IN SOA ns.${zone}. admin.${zone}. 1 3600 600 86400 3600
@ IN NS ns.${zone}.
ns IN A 127.0.0.1
${hosts.join("\n")}
`;
}
