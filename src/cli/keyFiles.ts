// SPDX-License-Identifier: Apache-2.0
/**
 * An operator's key on disk: FILE with the private key (PEM, mode 600), FILE.pub, and FILE.ctr with the counter of the last
 * command signed by it. Gets paths; gives pairs and counters.
 *
 * A counter is written before it is used, so it never repeats; one key belongs to one machine.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { ConfigError } from "#errors.ts";
import { type KeyPair, newKeyPair, privatePem, publicPem, readKeyPair } from "#telemetry/keys.ts";
import { readText } from "./brokerOptions.ts";

/** Makes a pair and its files; refuses to overwrite. @throws ConfigError */
export function makeKeyFiles(path: string): KeyPair {
  for (const each of [path, `${path}.pub`]) {
    if (existsSync(each)) throw new ConfigError("config.argument", `${each} is there already; choose another name`);
  }
  const pair = newKeyPair();
  try {
    writeFileSync(path, privatePem(pair), { mode: 0o600, flag: "wx" });
    writeFileSync(`${path}.pub`, publicPem(pair.public), { mode: 0o644, flag: "wx" });
  } catch (cause) {
    throw new ConfigError("config.argument", `cannot write the key to ${path}`, {}, cause);
  }
  return pair;
}

/** @throws ConfigError where others may read it, TelemetryError where it is no key */
export function readKeyFile(path: string): KeyPair {
  const pem = readText(path);
  if ((statSync(path).mode & 0o077) !== 0) {
    throw new ConfigError("config.argument", `others may read ${path}; close it with: chmod 600 ${path}`);
  }
  return readKeyPair(pem);
}

/** The next counter of the key at `path`, on the disk before it is given. @throws ConfigError */
export function nextCounter(path: string): number {
  const counterPath = `${path}.ctr`;
  const last = existsSync(counterPath) ? Number(readFileSync(counterPath, "utf8").trim()) : 0;
  if (!Number.isSafeInteger(last) || last < 0) throw new ConfigError("config.argument", `${counterPath} is damaged`);
  const next = last + 1;
  const fresh = `${counterPath}.new`;
  try {
    const file = openSync(fresh, "w", 0o600);
    writeSync(file, `${next}\n`);
    fsyncSync(file);
    closeSync(file);
    renameSync(fresh, counterPath);
  } catch (cause) {
    throw new ConfigError("config.argument", `cannot write the counter ${counterPath}`, {}, cause);
  }
  return next;
}
