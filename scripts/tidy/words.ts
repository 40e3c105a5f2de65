// SPDX-License-Identifier: Apache-2.0
/**
 * Rules about words: errors, clock, enums, skipped tests, paths of one machine and hosts of the network.
 */
import { eachMatch, type Finding, lineAt, type SourceFile } from "./source.ts";

export function wordRules(file: SourceFile): Finding[] {
  return [...errorRule(file), ...clockRule(file), ...enumRule(file), ...skipRule(file)];
}

const errorRule = (file: SourceFile): Finding[] =>
  eachMatch(
    file,
    /\bthrow\s+(new\s+)?Error\(/g,
    "bare-error",
    () => "throw a subclass of HoldfastError (src/errors.ts), or assert",
  );

const clockPattern =
  /\bDate\.now\b|\bnew Date\(\)|(?<![.\w$])set(Timeout|Interval|Immediate)\b|\bperformance\.now\b|\bMath\.random\b|\bBun\.(nanoseconds|sleep|sleepSync)\b|\bprocess\.hrtime\b/g;

function clockRule(file: SourceFile): Finding[] {
  if (file.path === "src/clock.ts") return [];
  return eachMatch(file, clockPattern, "clock", (found) => `${found}: time and chance are passed in, see src/clock.ts`);
}

const enumRule = (file: SourceFile): Finding[] =>
  eachMatch(
    file,
    /^\s*(export\s+)?(declare\s+)?(const\s+)?(enum\s+\w+\s*\{|namespace\s+[\w.]+\s*\{)/gm,
    "no-enum",
    () => "a union of literals, or a module",
  );

function skipRule(file: SourceFile): Finding[] {
  if (file.path === "tests/skip.ts" || !file.path.startsWith("tests/")) return [];
  const pattern = /\b(test|it|describe)\.(skip|skipIf|todo|todoIf|only)\b/g;
  return eachMatch(
    file,
    pattern,
    "silent-skip",
    (found) => `${found}: use need() of tests/skip.ts, which says what is missing`,
  );
}

/** A path that exists on one machine only, at a place where a path can begin. */
const machinePath = /(?<![\w.~/$*-])\/(work|root|home\/[a-z][\w-]*|tmp\/bash_jobs[\w.]*)\//g;
const address = /\b(?:https?|wss?|git|ftp):\/\/([\w.-]+)/g;
const registry =
  /\b(?:registry|proxy|mirror|deb|pypi|index|sum|crates|repo\d?|files|security|snapshot)(?:[.-][\w-]+)*\.(?:org|com|net|io|dev)\b/g;

/** Hosts that may be named: this machine, the reserved examples, and where licences and specifications are kept. */
const namedHosts =
  /^(localhost|127(\.\d+){3}|0\.0\.0\.0|([\w-]+\.)*(example|invalid|test)|([\w-]+\.)?example\.(com|org|net)|www\.apache\.org|json-schema\.org|www\.w3\.org)$/;

/** For every text file, whatever its language. */
export function machineRules({ path, text }: SourceFile): Finding[] {
  if (path === "LICENSE") return [];
  const at = (offset: number, rule: string, advice: string): Finding => ({
    path,
    line: lineAt(text, offset),
    rule,
    advice,
  });
  const paths = [...text.matchAll(machinePath)].map((match) =>
    at(match.index, "machine-path", `${match[0]} is a path of one machine`),
  );
  const hosts = [...text.matchAll(address)]
    .filter((match) => !namedHosts.test(match[1]!))
    .map((match) =>
      at(match.index, "named-host", `${match[1]}: name no host of the network (localhost and *.example may be)`),
    );
  const registries = [...text.matchAll(registry)].map((match) =>
    at(match.index, "named-host", `${match[0]}: name no package registry`),
  );
  return [...paths, ...hosts, ...registries];
}
