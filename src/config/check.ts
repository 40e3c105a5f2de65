// SPDX-License-Identifier: Apache-2.0
/**
 * What a schema cannot say: things that exclude, name or need one another. Gets a document of the right form; gives
 * problems with the path of the key at fault. Pure.
 */
import type * as v from "valibot";
import type { documentSchema, RestartPolicy } from "./schema.ts";
import { suggest } from "./suggest.ts";
import type { KeyPath } from "./tomlLines.ts";

type Document = v.InferOutput<typeof documentSchema>;
export type Finding = { readonly path: KeyPath; readonly text: string };

export function check(document: Document): Finding[] {
  return [
    ...duplicates(document),
    ...document.guest.flatMap((guest, index) => checkGuest(guest, ["guest", index])),
    ...document.program.flatMap((program, index) => checkProgram(program, ["program", index])),
    ...order(document),
    ...checkStatus(document.status),
  ];
}

type Named = { readonly name: string; readonly after: readonly string[]; readonly path: KeyPath };

const workloads = (document: Document): Named[] => [
  ...document.guest.map(({ name, after }, index) => ({ name, after, path: ["guest", index] })),
  ...document.program.map(({ name, after }, index) => ({ name, after, path: ["program", index] })),
];

function duplicates(document: Document): Finding[] {
  const inside = document.guest.flatMap((guest, at) =>
    guest.program.map(({ name }, index) => ({ name, path: ["guest", at, "program", index] })),
  );
  const seen = new Set<string>();
  return [...workloads(document), ...inside].flatMap(({ name, path }) => {
    if (!seen.has(name)) {
      seen.add(name);
      return [];
    }
    return [{ path: [...path, "name"], text: `there is another workload called ${JSON.stringify(name)}` }];
  });
}

function checkGuest(guest: Document["guest"][number], path: KeyPath): Finding[] {
  const findings: Finding[] = [];
  const say = (key: KeyPath, text: string): void => void findings.push({ path: [...path, ...key], text });
  if (guest.kernel === undefined && guest.firmware === undefined) say([], "a guest needs kernel or firmware");
  if (guest.kernel !== undefined && guest.firmware !== undefined)
    say(["firmware"], "give kernel or firmware, not both");
  for (const key of ["initramfs", "cmdline"] as const) {
    if (guest[key] !== undefined && guest.kernel === undefined)
      say([key], `${key} goes with a kernel, not with firmware`);
  }
  for (const [index, net] of guest.net.entries()) {
    if ((net.tap === undefined) === (net.bridge === undefined))
      say(["net", index], "a network card needs tap or bridge");
  }
  for (const [index, program] of guest.program.entries()) {
    const here: KeyPath = ["program", index];
    if ((program.process === undefined) === (program.unit === undefined)) {
      say(here, "a program in a guest needs process or unit");
    }
    if (guest.vsock === false) say(here, "guarding a program in a guest needs vsock");
  }
  return [...findings, ...checkRestart(guest.restart, [...path, "restart"])];
}

function checkStatus(status: Document["status"]): Finding[] {
  if (status === undefined || (status.certificate === undefined) === (status.key === undefined)) return [];
  return [{ path: ["status"], text: "a certificate needs its key, and a key its certificate" }];
}

function checkProgram(program: Document["program"][number], path: KeyPath): Finding[] {
  const { command, unit, restart } = program;
  const findings: Finding[] = [];
  if ((command === undefined) === (unit === undefined))
    findings.push({ path, text: "a program needs command or unit" });
  for (const key of ["user", "group", "directory"] as const) {
    if (unit === undefined || program[key] === undefined) continue;
    findings.push({ path: [...path, key], text: "the unit says as whom and where it runs" });
  }
  if (unit !== undefined && Object.keys(program.environment).length > 0) {
    findings.push({ path: [...path, "environment"], text: "the unit says what its environment is" });
  }
  return [...findings, ...checkRestart(restart, [...path, "restart"])];
}

function checkRestart(restart: RestartPolicy, path: KeyPath): Finding[] {
  const findings: Finding[] = [];
  if (restart.backoffMs > restart.backoffMsMax) {
    findings.push({ path: [...path, "backoffMs"], text: "backoffMs is larger than backoffMsMax" });
  }
  // A wait would itself be taken for quiet.
  if (restart.quietMs <= restart.backoffMsMax) {
    findings.push({ path: [...path, "quietMs"], text: "quietMs is not larger than backoffMsMax" });
  }
  return findings;
}

/** Every name in `after` exists, and following them never comes back. */
function order(document: Document): Finding[] {
  const all = workloads(document);
  const names = all.map(({ name }) => name);
  const byName = new Map(all.map((workload) => [workload.name, workload]));
  return all.flatMap(({ name, after, path }) =>
    after.flatMap((other, index): Finding[] => {
      const at = [...path, "after", index];
      if (!byName.has(other)) {
        const nearest = suggest(other, names);
        const hint = nearest === null ? "" : `; did you mean ${JSON.stringify(nearest)}?`;
        return [{ path: at, text: `there is no workload called ${JSON.stringify(other)}${hint}` }];
      }
      return leadsTo(other, name, byName)
        ? [{ path: at, text: `${name} would wait for itself, through ${other}` }]
        : [];
    }),
  );
}

function leadsTo(from: string, target: string, byName: ReadonlyMap<string, Named>, seen = new Set<string>()): boolean {
  if (from === target) return true;
  if (seen.has(from)) return false;
  seen.add(from);
  return (byName.get(from)?.after ?? []).some((next) => leadsTo(next, target, byName, seen));
}
