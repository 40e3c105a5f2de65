// SPDX-License-Identifier: Apache-2.0
/**
 * The initial RAM disk of the appliance: busybox, the drivers between a processor and its disk, and system/init.
 *
 * Gets the system's tree; gives bytes, the same for the same tree. Debian's own generator is not run: it needs emulation.
 */
import { cp, mkdir, readdir, readFile, symlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { type CpioEntry, writeCpio } from "./cpio.ts";
import { earlyModules } from "./packages.ts";
import type { Tools } from "./tools.ts";
import type { SystemTree } from "./tree.ts";

const applets = [
  ..."sh cat cut echo find grep mkdir modprobe mount sed sleep sort switch_root sync tr umount xargs".split(" "),
];
const folders = ["bin", "dev", "etc", "mnt", "new", "proc", "run", "sys", "lib", "lib/modules"];
/** Words of one command. */
const unpackedAtOnce = 100;
const lists = ["modules.builtin", "modules.builtin.modinfo", "modules.order"];

export async function buildInitrd(tools: Tools, tree: SystemTree): Promise<Uint8Array> {
  const modules = `usr/lib/modules/${tree.release}`;
  const early = join(tools.work, "early");
  await mkdir(join(early, "usr/lib"), { recursive: true });
  await symlink("usr/lib", join(early, "lib"));
  const wanted = await closure(tree);
  const packed = wanted.filter((path) => path.endsWith(".xz")).map((path) => `/build/early/${path}`);
  for (const path of wanted) {
    await mkdir(dirname(join(early, path)), { recursive: true });
    await cp(join(tree.path, path), join(early, path));
  }
  // busybox cannot unpack them.
  for (let at = 0; at < packed.length; at += unpackedAtOnce) {
    await tools.run(["xz", "-d", ...packed.slice(at, at + unpackedAtOnce)]);
  }
  for (const name of lists) await cp(join(tree.path, modules, name), join(early, modules, name));
  await tools.run(["depmod", "-b", "/build/early", tree.release]);
  const file = async (path: string, source: string, mode: number): Promise<CpioEntry> => ({
    kind: "file",
    path,
    mode,
    bytes: await readFile(source),
  });
  const names = (await readdir(join(early, modules), { recursive: true, withFileTypes: true })).filter(
    (entry) => entry.isFile() && !/\.bin$/.test(entry.name),
  );
  const paths = names.map((entry) => join(entry.parentPath, entry.name).slice(join(early, modules).length + 1)).sort();
  const home = `lib/modules/${tree.release}`;
  const nested = [...new Set(paths.flatMap((path) => parents(path)))].sort().map((path) => `${home}/${path}`);
  const entries: CpioEntry[] = [
    ...[...folders, home, ...nested].map((path): CpioEntry => ({ kind: "folder", path })),
    { kind: "device", path: "dev/console", major: 5, minor: 1 },
    await file("bin/busybox", join(tree.path, "usr/bin/busybox"), 0o755),
    ...applets.map((applet): CpioEntry => ({ kind: "link", path: `bin/${applet}`, target: "busybox" })),
    ...(await Promise.all(paths.map((path) => file(`${home}/${path}`, join(early, modules, path), 0o644)))),
    await file("init", join(import.meta.dir, "system/init"), 0o755),
  ];
  return writeCpio(entries);
}

const parents = (path: string): string[] =>
  path
    .split("/")
    .slice(0, -1)
    .map((_, index, parts) => parts.slice(0, index + 1).join("/"));

/** Files of the wanted modules and all they need, relative to the tree; those built in or unknown to this kernel are none. */
async function closure({ path, release }: SystemTree): Promise<string[]> {
  const paths = new Set<string>();
  const dependencies = await readFile(join(path, "usr/lib/modules", release, "modules.dep"), "utf8");
  const byName = new Map<string, { file: string; needs: string[] }>();
  for (const line of dependencies.split("\n")) {
    const [file, needs] = line.split(":");
    if (file === undefined || needs === undefined) continue;
    byName.set(moduleName(file), { file, needs: needs.split(" ").filter((need) => need !== "") });
  }
  for (const name of earlyModules) {
    const found = byName.get(name.replaceAll("-", "_"));
    for (const file of found === undefined ? [] : [found.file, ...found.needs]) {
      paths.add(`usr/lib/modules/${release}/${file}`);
    }
  }
  return [...paths].sort();
}

const moduleName = (path: string): string =>
  basename(path)
    .replace(/\.ko.*$/, "")
    .replaceAll("-", "_");
