// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast`: the list of verbs, and the start. A verb is added by a line here and a file beside this one.
 */
import { becomeLean } from "./leanRuntime.ts";
import { run, type Verb } from "./program.ts";

export const verbs: readonly Verb[] = [
  {
    name: "guard",
    summary: "start a program (or attach to one) and keep it running through its own crashes",
    add: async (program) => (await import("./guard.ts")).addGuard(program),
  },
  {
    name: "demo",
    summary: "crash a guarded redis-server of its own, while clients check every answer",
    add: async (program) => (await import("./demo.ts")).addDemo(program),
  },
  {
    name: "top",
    summary: "live view of workloads, counters, pressure and faults",
    add: async (program) => (await import("./top.ts")).addTop(program),
  },
  {
    name: "faults",
    summary: "what happened, newest first",
    add: async (program) => (await import("./faults.ts")).addFaults(program),
  },
  {
    name: "show",
    summary: "one fault in full: stack, registers, what was done and how it ended",
    add: async (program) => (await import("./show.ts")).addShow(program),
  },
  {
    name: "rescue",
    summary: "what was learned of each place where a program has faulted: list, show, export, import, forget",
    add: async (program) => (await import("./rescue.ts")).addRescue(program),
  },
  {
    name: "replay",
    summary: "decide a recorded fault again, and say why",
    add: async (program) => (await import("./replay.ts")).addReplay(program),
  },
  {
    name: "run",
    summary: "run the programs and guests of a configuration, and keep them running",
    add: async (program) => (await import("./run.ts")).addRun(program),
  },
  {
    name: "program",
    summary: "list, show, start, stop and restart programs",
    add: async (program) => (await import("./programVerb.ts")).addProgram(program),
  },
  {
    name: "install",
    summary: "install Holdfast's own systemd service",
    add: async (program) => (await import("./install.ts")).addInstall(program),
  },
  {
    name: "uninstall",
    summary: "remove Holdfast's own systemd service",
    add: async (program) => (await import("./install.ts")).addUninstall(program),
  },
  {
    name: "release",
    summary: "free a guarded program for another debugger, and take it back",
    add: async (program) => (await import("./release.ts")).addRelease(program),
  },
  {
    name: "guest",
    summary: "list, show, start, stop, pause, resume and reset guests, and their consoles",
    add: async (program) => (await import("./guest.ts")).addGuest(program),
  },
  {
    name: "checkpoint",
    summary: "checkpoints of guests: create, list, show, verify, restore, delete, pin, export, import",
    add: async (program) => (await import("./checkpoint.ts")).addCheckpoint(program),
  },
  {
    name: "validate",
    summary: "whether a configuration can be run: unknown settings, wrong values, missing files",
    add: async (program) => (await import("./validate.ts")).addValidate(program),
  },
  {
    name: "storage",
    summary: "state of the record: status, verify, backup, restore",
    add: async (program) => (await import("./storage.ts")).addStorage(program),
  },
  {
    name: "keys",
    summary: "whom this box believes: keys of operators, admins and the fleet",
    add: async (program) => (await import("./keys.ts")).addKeys(program),
  },
  {
    name: "fleet",
    summary: "many boxes behind one MQTT broker: signed commands, and a live view",
    add: async (program) => (await import("./fleet.ts")).addFleet(program),
  },
  {
    name: "update",
    summary: "slots of a flashed box: install a bundle, go back, hold updates back",
    add: async (program) => (await import("./update.ts")).addUpdate(program),
  },
  {
    name: "doctor",
    summary: "what this machine can do, what it cannot, and why",
    add: async (program) => (await import("./doctor.ts")).addDoctor(program),
  },
];

/** Who reads no further (`| head`) has seen enough: what runs goes on, and no error is made of it. */
function readNoFurther(error: NodeJS.ErrnoException): void {
  if (error.code !== "EPIPE") throw error;
}

if (import.meta.main) {
  if (process.argv[2] === "run") becomeLean();
  for (const stream of [process.stdout, process.stderr]) stream.on("error", readNoFurther);
  const code = await run(process.argv.slice(2), verbs);
  // A verb that set its own code keeps it; an error ends the process even where something is left open.
  if (code !== 0) process.exit(code);
}
