// SPDX-License-Identifier: Apache-2.0
/** Our own service: what its unit says, and that installing twice does nothing the second time. */
import { expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { install, uninstall } from "#appliance/install/install.ts";
import { installSteps, uninstallSteps } from "#appliance/install/installSteps.ts";
import { unitFile } from "#appliance/install/unitFile.ts";
import { need } from "#tests/skip.ts";

const options = { command: ["/bin/true"], config: "/etc/holdfast/holdfast.toml" };
const places = { unit: "/u", config: "/c", wanted: "/w" };
const nothing = { unit: null, config: null, isEnabled: false, isActive: false, offline: false };
const words = (steps: ReturnType<typeof installSteps>): string[] =>
  steps.map((step) => (step.kind === "run" ? step.words.slice(0, 2).join(" ") : `${step.kind} ${step.path}`));

test("what outlives us is in the unit, and words are quoted as systemd reads them", () => {
  const text = unitFile({ command: ["/opt/a b/holdfast", "100%"], config: "/c" });
  for (const line of ["KillMode=process", "RuntimeDirectoryPreserve=yes", "Restart=always", "Type=notify"]) {
    expect(text.split("\n")).toContain(line);
  }
  expect(text).toContain('ExecStart="/opt/a b/holdfast" 100%% run --config /c\n');
});

test("steps lead from what is there to what should be, and no further", () => {
  const fresh = ["write /c", "write /u", "systemctl daemon-reload", "systemctl enable", "systemctl start"];
  expect(words(installSteps("unit", "config", places, nothing))).toEqual(fresh);
  const there = { ...nothing, unit: "unit", config: "mine", isEnabled: true, isActive: true };
  expect(words(installSteps("unit", "config", places, there))).toEqual(["systemctl restart"]);
  expect(words(uninstallSteps(places, there))).toEqual(["systemctl disable", "remove /u", "systemctl daemon-reload"]);
  expect(uninstallSteps(places, nothing)).toEqual([]);
});

test("into a file tree: twice is once, the user's configuration stays, and uninstalling leaves it", () => {
  const root = mkdtempSync(join(tmpdir(), "holdfast-tree-"));
  try {
    const said: string[] = [];
    const into = { ...options, root, dryRun: false, tell: (line: string) => void said.push(line) };
    install({ ...into, dryRun: true });
    expect(existsSync(join(root, "etc"))).toBe(false);
    install(into);
    const unit = join(root, "etc/systemd/system/holdfast.service");
    writeFileSync(join(root, options.config), "# mine\n");
    const before = statSync(unit).mtimeMs;
    said.length = 0;
    install(into);
    expect(said).toHaveLength(1);
    expect([statSync(unit).mtimeMs, readFileSync(join(root, options.config), "utf8")]).toEqual([before, "# mine\n"]);
    uninstall(into);
    expect([existsSync(unit), existsSync(join(root, options.config))]).toEqual([false, true]);
    uninstall(into);
    expect(said.at(-1)).toContain("not installed");
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});

need("systemd-analyze")("systemd finds nothing wrong with the unit", () => {
  const directory = mkdtempSync(join(tmpdir(), "holdfast-unit-"));
  try {
    const path = join(directory, "holdfast.service");
    writeFileSync(path, unitFile(options));
    const found = Bun.spawnSync(["systemd-analyze", "verify", path]);
    expect(found.stderr.toString()).toBe("");
    expect(found.exitCode).toBe(0);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
