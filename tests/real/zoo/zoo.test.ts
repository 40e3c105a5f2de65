// SPDX-License-Identifier: Apache-2.0
/**
 * The zoo: every kind of fault in every kind of server, each with the rung and the verdict that must come of it, among
 * bystanders who check every answer. Nobody but the culprit may notice; where the honest answer is the end, the end it is.
 *
 * `./scripts/test real` runs all; the usual run takes those marked `core` and a few that a seed chooses.
 * HOLDFAST_ZOO_SEED=N chooses again what a run has shown as its seed, HOLDFAST_ZOO=WORDS those whose names hold the words.
 */
import { describe, expect } from "bun:test";
import { type Random, seededRandom, systemRandom } from "#clock.ts";
import { long, type Need, need, tracing } from "#tests/skip.ts";
import { compilerOf } from "./build.ts";
import { expectedIn, inWordsOf, observe, type Specimen, wholeOf } from "./specimen.ts";
import { programEnds } from "./specimens/ends.ts";
import { falseHopes } from "./specimens/falseHopes.ts";
import { processorFaults } from "./specimens/memory.ts";
import { serverShapes } from "./specimens/servers.ts";
import { sessions } from "./specimens/sessions.ts";
import { storms } from "./specimens/storms.ts";

/** At length also on an emulated processor, whose compiler alone takes longer than all of it here. */
const specimenMsMax = long("real") ? 600_000 : 90_000;
/** Beside the core ones. Each takes one to three seconds. */
const chosenInShort = 14;

const all = [...processorFaults, ...programEnds, ...serverShapes, ...sessions, ...falseHopes, ...storms];

const words = process.env.HOLDFAST_ZOO;
const seed = Number(process.env.HOLDFAST_ZOO_SEED ?? Math.floor(systemRandom() * 1_000_000));

function chosen(): readonly Specimen[] {
  if (words !== undefined) return all.filter(({ name }) => name.includes(words));
  if (long("real")) return all;
  const core = all.filter(({ core: isCore }) => isCore === true);
  const others = all.filter(({ core: isCore }) => isCore !== true);
  return [...core, ...some(others, chosenInShort, seededRandom(seed))];
}

function some<Item>(from: readonly Item[], count: number, random: Random): readonly Item[] {
  const left = [...from];
  return Array.from({ length: Math.min(count, left.length) }, () => {
    return left.splice(Math.floor(random() * left.length), 1)[0]!;
  });
}

const processor =
  ({ only }: Specimen): Need =>
  () =>
    only === undefined || only === process.arch ? null : `a processor of kind ${only}: no other has this fault or flag`;

const certificates = ({ build, listen }: Specimen): (string | Need)[] =>
  listen === "tls"
    ? ["openssl", headers("openssl/ssl.h", "libssl-dev")]
    : build.flags?.includes("strip")
      ? ["strip"]
      : [];

const headers =
  (file: string, debianPackage: string): Need =>
  () =>
    Bun.spawnSync(["gcc", "-E", "-include", file, "-x", "c", "/dev/null"], { stderr: "ignore", stdout: "ignore" })
      .success
      ? null
      : `${file}: apt-get install ${debianPackage}`;

describe(`zoo, seed ${seed}`, () => {
  for (const specimen of chosen()) {
    const missing = specimen.yet === undefined ? "" : ` [missing: ${specimen.yet.missing}]`;
    need(
      "gdbserver",
      tracing,
      processor(specimen),
      compilerOf(specimen.build),
      ...certificates(specimen),
    )(
      `${specimen.name}${missing}`,
      async () => {
        const observed = await observe(specimen);
        const expected = expectedIn(specimen, observed);
        expect(inWordsOf(expected, observed)).toEqual(wholeOf(expected));
      },
      specimenMsMax,
    );
  }
});
