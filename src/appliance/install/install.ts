// SPDX-License-Identifier: Apache-2.0
/**
 * Installs and uninstalls our own systemd service. Gets options; does the steps and tells each of them, or only tells.
 *
 * Idempotent. Refused without systemd, unless a file tree is given, as for an image. Configuration and record are left
 * where they are. @throws ProgramError, NativeError as said at each function
 */
import { existsSync, lstatSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { NativeError, ProgramError } from "#errors.ts";
import { type InstallStep, installSteps, type Places, type Present, uninstallSteps } from "./installSteps.ts";
import { emptyConfig, unitFile, unitFileName } from "./unitFile.ts";

export type InstallOptions = {
  readonly command: readonly string[];
  readonly config: string;
  /** A file tree to be booted later; null: this machine. */
  readonly root: string | null;
  readonly dryRun: boolean;
  readonly tell: (line: string) => void;
};

const unitDirectory = "/etc/systemd/system";

/** @throws NativeError native.unsupported without systemd, ProgramError program.permission, program.state */
export function install(options: InstallOptions): void {
  const places = placesOf(options.config);
  const steps = installSteps(unitFile(options), emptyConfig, places, lookAt(places, options));
  perform(steps, options);
  const done = options.dryRun ? "nothing was changed" : "Holdfast is installed";
  options.tell(`${done}; what it looks after is said in ${options.config}`);
}

/** @throws as install */
export function uninstall(options: InstallOptions): void {
  const places = placesOf(options.config);
  const steps = uninstallSteps(places, lookAt(places, options));
  perform(steps, options);
  if (steps.length === 0) options.tell("Holdfast's service is not installed");
  else options.tell(`programs run on, unguarded; the configuration (${options.config}) and the record are left`);
}

const placesOf = (config: string): Places => ({
  unit: join(unitDirectory, unitFileName),
  config,
  wanted: join(unitDirectory, "multi-user.target.wants", unitFileName),
});

function lookAt(places: Places, { root, dryRun, tell }: InstallOptions): Present {
  const offline = root !== null;
  if (!offline && !runsSystemd()) {
    const advice = "start holdfast run from the service manager that is here, or give --root for a file tree";
    const refusal = `systemd does not run this machine; ${advice}`;
    if (!dryRun) throw new NativeError("native.unsupported", refusal);
    tell(`would be refused: ${refusal}`);
  }
  if (!offline && !dryRun && process.getuid?.() !== 0) {
    throw new ProgramError("program.permission", "a service is installed by root; run it with sudo");
  }
  const there = (path: string): string => join(root ?? "/", path);
  return {
    unit: readIfThere(there(places.unit)),
    config: readIfThere(there(places.config)),
    isEnabled: isLink(there(places.wanted)),
    isActive: !offline && runsSystemd() && Bun.spawnSync(["systemctl", "is-active", "--quiet", unitFileName]).success,
    offline,
  };
}

const runsSystemd = (): boolean => existsSync("/run/systemd/system");

function perform(steps: readonly InstallStep[], { root, dryRun, tell }: InstallOptions): void {
  for (const step of steps) {
    tell(`${dryRun ? "would " : ""}${describe(step)}`);
    if (dryRun && step.kind === "write") tell(step.text.trimEnd().replaceAll(/^/gm, "    "));
    if (!dryRun) doStep(step, root ?? "/");
  }
}

function describe(step: InstallStep): string {
  switch (step.kind) {
    case "write":
      return `write ${step.path}: ${step.why}`;
    case "remove":
      return `remove ${step.path}`;
    case "link":
      return `link ${step.path} to ${step.to}`;
    case "run":
      return `run ${step.words.join(" ")}`;
  }
}

function doStep(step: InstallStep, root: string): void {
  switch (step.kind) {
    case "write":
      mkdirSync(dirname(join(root, step.path)), { recursive: true });
      writeFileSync(join(root, step.path), step.text, { mode: step.mode });
      return;
    case "remove":
      rmSync(join(root, step.path), { force: true });
      return;
    case "link":
      mkdirSync(dirname(join(root, step.path)), { recursive: true });
      symlinkSync(step.to, join(root, step.path));
      return;
    case "run": {
      const ran = Bun.spawnSync([...step.words]);
      if (ran.success) return;
      const said = ran.stderr.toString().trim().split("\n")[0] ?? "";
      throw new ProgramError("program.state", `${step.words.join(" ")} failed: ${said}`);
    }
  }
}

function readIfThere(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null; // Not there, or not ours to read: then it is written anew, and that says what is wrong.
  }
}

function isLink(path: string): boolean {
  try {
    return lstatSync(path).isSymbolicLink();
  } catch {
    return false;
  }
}
