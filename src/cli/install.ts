// SPDX-License-Identifier: Apache-2.0
/**
 * `holdfast install` and `holdfast uninstall`: our own systemd service, which runs `holdfast run` from boot on.
 */
import { resolve } from "node:path";
import type { Command } from "commander";
import { ownCommand } from "#appliance/demo/guardProcess.ts";
import { install, uninstall } from "#appliance/install/install.ts";
import { defaultConfigPath } from "./validate.ts";

type Flags = { readonly config: string; readonly root?: string; readonly dryRun?: true };

const rootOption = ["--root <dir>", "a file tree to be booted later, instead of this machine"] as const;
const dryOption = ["--dry-run", "only say what would be done"] as const;

export function addInstall(program: Command): void {
  program
    .command("install")
    .description("install Holdfast's own systemd service; a second time, after an upgrade, restarts it")
    .option("--config <file>", "the configuration that it runs", defaultConfigPath)
    .option(...rootOption)
    .option(...dryOption)
    .action((flags: Flags) => install(optionsOf(flags)));
}

export function addUninstall(program: Command): void {
  program
    .command("uninstall")
    .description("remove Holdfast's own systemd service; programs run on, configuration and record stay")
    .option("--config <file>", "the configuration that it runs", defaultConfigPath)
    .option(...rootOption)
    .option(...dryOption)
    .action((flags: Flags) => uninstall(optionsOf(flags)));
}

const optionsOf = ({ config, root, dryRun }: Flags): Parameters<typeof install>[0] => ({
  command: ownCommand(),
  config: resolve(config),
  root: root === undefined ? null : resolve(root),
  dryRun: dryRun === true,
  tell: (line) => void process.stdout.write(`${line}\n`),
});
