// SPDX-License-Identifier: Apache-2.0
/**
 * The doors behind which programs are guarded on this box: that of `holdfast run`, and one for each `holdfast guard`.
 * Gets the run directory; gives clients.
 */
import { existsSync, readdirSync } from "node:fs";
import { ConfigError, HypervisorError } from "#errors.ts";
import { guardDirectory } from "#storage/ownership.ts";
import { controlPath } from "./control.ts";
import { ControlClient } from "./controlClient.ts";
import type { ProgramStatus } from "./programs/programStatus.ts";

/** All programs behind all doors; those of a supervisor that has just gone are left out. */
export async function listPrograms(runDirectory: string): Promise<ProgramStatus[]> {
  const found = await Promise.all(
    doorsOf(runDirectory).map(async (door) => {
      try {
        return await new ControlClient(door).programs();
      } catch (error) {
        if (error instanceof HypervisorError) return [];
        throw error;
      }
    }),
  );
  return found.flat().sort((a, b) => a.name.localeCompare(b.name));
}

/** The door behind which a program of that name is. @throws ConfigError config.argument */
export async function doorOf(runDirectory: string, name: string): Promise<ControlClient> {
  const known: string[] = [];
  for (const door of doorsOf(runDirectory)) {
    const client = new ControlClient(door);
    const names = await client.programs().then(
      (all) => all.map((program) => program.name),
      (): string[] => [],
    );
    if (names.includes(name)) return client;
    known.push(...names);
  }
  const there = known.length === 0 ? "no program is guarded here now" : `there are: ${known.join(", ")}`;
  throw new ConfigError("config.argument", `no guarded program is called ${JSON.stringify(name)}; ${there}`);
}

function doorsOf(runDirectory: string): string[] {
  const guards = guardDirectory(runDirectory, "");
  const all = [runDirectory, ...namesIn(guards).map((name) => guardDirectory(runDirectory, name))];
  return all.filter((directory) => existsSync(controlPath(directory)));
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return []; // No guard was ever here.
  }
}
