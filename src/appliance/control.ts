// SPDX-License-Identifier: Apache-2.0
/**
 * The door of a running supervisor for people on the same box: `holdfast guest …` and `holdfast program …` ask here.
 *
 *     GET  /guests   /guests/NAME      what is known           POST /guests/NAME/console    types the body into it
 *     POST /guests/NAME/VERB           start stop pause resume reset
 *     GET  /programs /programs/NAME    what is known           POST /programs/NAME/VERB     start stop restart
 *     POST /programs/NAME/release      frees it for another debugger; /take-back ends that
 *     /checkpoints …                   see controlCheckpoints.ts      /update …   see update/controlUpdate.ts
 *
 * HTTP on a unix socket in the run directory, which only its owner can enter. Errors are `{code, message}` with status 404
 * for a name nobody knows, 409 for what makes no sense now, else 500. Limits: `verbTimeoutMs` beside the time that a stop is given, `inputBytesMax`.
 */
import { chmodSync, rmSync } from "node:fs";
import { join } from "node:path";
import { deadline } from "#clock.ts";
import { ConfigError, explain, HoldfastError, HypervisorError } from "#errors.ts";
import { answerCheckpoint } from "./controlCheckpoints.ts";
import type { Guests } from "./guests/guests.ts";
import type { GuestCommand } from "./guests/supervision.ts";
import type { ProgramLane } from "./programs/programLane.ts";
import { statusOf } from "./programs/programStatus.ts";
import type { ProgramCommand } from "./programs/supervision.ts";
import { answerUpdate } from "./update/controlUpdate.ts";
import type { MachineCare } from "./update/machineCare.ts";

export const verbTimeoutMs = 120_000;
export const inputBytesMax = 4_096;

export const controlPath = (runDirectory: string): string => join(runDirectory, "control.sock");

export type PlainCommand = Exclude<GuestCommand, "restore">;
export const guestCommands: readonly PlainCommand[] = ["start", "stop", "pause", "resume", "reset"];
/** Programs by name: all of a configuration, or the one of a guard. */
export type ProgramRoom = { readonly names: readonly string[]; lane(name: string): ProgramLane };

export const programCommands: readonly ProgramCommand[] = ["start", "stop", "restart"];

/**
 * A verb may take minutes; Bun's own ten seconds are meant for strangers. Bun 1.4.5 heeds this for unix
 * sockets too (tried, with an answer after 14 s); its types do not know.
 */
const patient = { idleTimeout: 0 } as object;

/** Opens the door; what an earlier supervisor left of its own is removed. */
export function openControl(
  runDirectory: string,
  guests: Guests | null,
  programs: ProgramRoom,
  machine: MachineCare | null = null,
): AsyncDisposable {
  const path = controlPath(runDirectory);
  rmSync(path, { force: true });
  const server = Bun.serve({
    unix: path,
    maxRequestBodySize: inputBytesMax,
    ...patient,
    fetch: async (request: Request) => {
      try {
        return await answer(request, guests, programs, machine);
      } catch (error) {
        return refusal(error);
      }
    },
  });
  chmodSync(path, 0o600);
  return {
    async [Symbol.asyncDispose]() {
      await server.stop(true);
      rmSync(path, { force: true });
    },
  };
}

async function answer(
  request: Request,
  guests: Guests | null,
  programs: ProgramRoom,
  machine: MachineCare | null,
): Promise<Response> {
  const [, place, name, verb] = new URL(request.url).pathname.split("/").map(decodeURIComponent);
  if (place === "checkpoints" && guests !== null) return await answerCheckpoint(request, guests, name, verb);
  if (place === "update" && machine !== null) return await answerUpdate(request, machine, name);
  if (place === "programs") return await answerProgram(request, programs, name, verb);
  if (place !== "guests" || guests === null) {
    throw new ConfigError("config.argument", "there is nothing of that name here");
  }
  return await answerGuest(request, guests, name, verb);
}

async function answerGuest(request: Request, guests: Guests, name?: string, verb?: string): Promise<Response> {
  if (name === undefined) return Response.json(guests.names.map((each) => guests.status(each)));
  if (request.method === "GET") return Response.json(guests.status(name));
  if (verb === "console") return await typeInto(guests, name, await request.text());
  const command = guestCommands.find((known) => known === verb);
  if (command === undefined) throw new ConfigError("config.argument", `a guest cannot ${verb}`);
  const lane = guests.lane(name);
  using limit = patience(name, command, lane.parts.section.stopMs, request.signal);
  await lane.command(command, limit.signal);
  return Response.json(guests.status(name));
}

async function answerProgram(request: Request, programs: ProgramRoom, name?: string, verb?: string): Promise<Response> {
  if (name === undefined) return Response.json(programs.names.map((each) => statusOf(programs.lane(each))));
  const lane = programs.lane(name);
  if (request.method === "GET") return Response.json(statusOf(lane));
  const command = programCommands.find((known) => known === verb);
  using limit = patience(name, String(verb), lane.parts.stopMs, request.signal);
  if (verb === "release") await lane.release(limit.signal);
  else if (verb === "take-back") lane.takeBack();
  else if (command !== undefined) await lane.command(command, limit.signal);
  else throw new ConfigError("config.argument", `a program cannot ${verb}`);
  return Response.json(statusOf(lane));
}

/** What is asked to stop may take its own time for it, beside ours. */
function patience(name: string, verb: string, stopMs: number, parent: AbortSignal): ReturnType<typeof deadline> {
  const limitMs = verbTimeoutMs + stopMs;
  const late = (): HypervisorError =>
    new HypervisorError("hypervisor.timeout", `${name}: ${verb} is not done after ${limitMs} ms; it goes on`);
  return deadline(limitMs, late, parent);
}

async function typeInto(guests: Guests, name: string, text: string): Promise<Response> {
  const serial = guests.lane(name).current?.serial;
  if (serial === undefined || serial === null || !serial.write(text)) {
    throw new HypervisorError("hypervisor.state", `${name}: its console takes nothing now`);
  }
  return new Response(null, { status: 204 });
}

const unknowns: readonly string[] = ["config.argument", "storage.notFound"];
const refusals: readonly string[] = ["hypervisor.state", "program.state", "program.busy", "update.state"];

function refusal(error: unknown): Response {
  const code = error instanceof HoldfastError ? error.code : "bug";
  const status = unknowns.includes(code) ? 404 : refusals.includes(code) ? 409 : 500;
  return Response.json({ code, message: explain(error) }, { status });
}
