// SPDX-License-Identifier: Apache-2.0
/**
 * Values of the configuration that are more than a string or a number: names, sizes, files, addresses, probes.
 *
 * Each is a valibot schema whose message says what is wanted. Sizes are powers of 1024 (`512M`, `2G`).
 */
import * as v from "valibot";

const unitBytes: Readonly<Record<string, number>> = { K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

const matching = (pattern: RegExp, wanted: string) =>
  v.pipe(v.string(`wants ${wanted}`), v.regex(pattern, `wants ${wanted}`));

/** Names of workloads are names of directories too. */
export const name = matching(
  /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/,
  "letters, digits, dot, dash and underscore, at most 64, the first a letter or digit",
);

export const file = matching(/^\/[^\0]*$/, "an absolute path");

export const device = matching(
  /^[A-Za-z0-9][A-Za-z0-9_.:-]{0,14}$/,
  "the name of a network device, at most 15 characters",
);

export const mac = matching(
  /^[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}$/,
  "a unicast hardware address, 02:00:00:00:00:01",
);

export const probe = matching(
  /^((tcp|redis|mqtt):(.+:)?\d{1,5}|http:(.+:)?\d{1,5}(\/\S*)?|cmd:.+)$/,
  "tcp:PORT, http:PORT/PATH, redis:PORT, mqtt:PORT (HOST: may stand before the port) or cmd:COMMAND",
);

/** Where something listens. */
export const listen = matching(
  /^(off|((\[[0-9a-fA-F:]+\]|[\w.-]+):)?\d{1,5})$/,
  "ADDRESS:PORT, PORT, or off, such as 127.0.0.1:8443",
);

export const hostName = matching(/^[A-Za-z0-9][A-Za-z0-9.:-]{0,252}$/, "a host name or an address");

export const words = (wanted: string) =>
  v.pipe(v.array(v.string(`wants ${wanted}`), `wants ${wanted}`), v.minLength(1, `wants ${wanted}`));

/** Bytes, at least `min`. */
export const size = (min: number, wanted: string) =>
  v.pipe(
    v.string(`wants ${wanted}`),
    v.regex(/^\d{1,12}[KMGT]$/, `wants ${wanted}`),
    v.transform((text) => Number(text.slice(0, -1)) * unitBytes[text.at(-1)!]!),
    v.minValue(min, `wants ${wanted}`),
  );

/** A whole number between two limits, both included. */
export const count = (least: number, most: number) => {
  const wanted = `wants a whole number from ${least} to ${most}`;
  return v.pipe(v.number(wanted), v.integer(wanted), v.minValue(least, wanted), v.maxValue(most, wanted));
};

export const flag = v.boolean("wants true or false");
