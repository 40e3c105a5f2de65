// SPDX-License-Identifier: Apache-2.0
/**
 * `image/build`: one disk image of the appliance, from Debian packages, the lock file's packages and the operator's files.
 *
 * Each step is told with its time. Needs root and mmdebstrap; no container engine, no loop device, nothing is mounted.
 * Equal commits give equal bytes: all times are the commit's, all input is sorted, all ids are fixed.
 */
import { existsSync } from "node:fs";
import { chmod, cp, mkdir, rename, rm, symlink, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { systemClock } from "#clock.ts";
import { explain } from "#errors.ts";
import { makeBundle, makeTestKey } from "./bundle.ts";
import { ImageError, run } from "./commands.ts";
import { buildDisk } from "./disk.ts";
import { mib } from "./layout.ts";
import { type BuildOptions, checkMachine, type Hypervisor, type Keys, readOptions, usage } from "./options.ts";
import { bytesOf, writeOutput } from "./output.ts";
import type { ImageArchitecture } from "./packages.ts";
import { buildBoot, buildEsp, buildRoot, buildState } from "./parts.ts";
import { type Component, debianComponents, fileComponent, npmComponents, sbomOf, sha256Of } from "./sbom.ts";
import { checkProgram, fetchBun, type ImageFacts, putService } from "./service.ts";
import { openTools, type Tools } from "./tools.ts";
import { type SystemTree, unpackSystem } from "./tree.ts";

const top = join(import.meta.dir, "..");

async function build(options: BuildOptions): Promise<void> {
  const { architecture, out, cache, hypervisor } = options;
  const linked = hypervisor === null ? null : await checkHypervisor(architecture, hypervisor);
  const facts = await factsOf(options);
  const steps = new Steps(`image ${facts.version} ${architecture}`);
  await mkdir(cache, { recursive: true, mode: 0o755 });
  await mkdir(out, { recursive: true });
  const tell = (text: string): void => steps.say(text);
  const tools = await steps.run("tools", () => openTools(options.archive, cache, facts.builtAtMs / 1000, tell));
  const bun = options.bun ?? (await steps.run("runtime", () => fetchBun(architecture, cache, tell)));
  await checkProgram(bun, architecture);
  const tree = await steps.run("system", () => unpackSystem(tools, options.archive, cache, architecture, tell));
  const keys = options.keys ?? (await testKeys(cache, tell));
  await steps.run("service", () => putService(tree.path, facts, bun, tell));
  await cp(keys.certificate, join(tree.path, "etc/rauc/keyring.pem"));
  if (hypervisor !== null && linked !== null) await putHypervisor(tree.path, hypervisor.file, linked);
  const boot = await steps.run("kernel and initial RAM disk", () => buildBoot(tools, tree));
  const root = await steps.run("root file system", () => buildRoot(tools, tree));
  const esp = await steps.run("boot loader", () => buildEsp(tools, tree, architecture, options.deviceTree));
  const state = await steps.run("state file system", () => buildState(tools));
  const disk = await steps.run("disk", () =>
    buildDisk(tools, { esp, boot_A: boot, root_A: root, state }, options.firmware),
  );
  const image = join(out, `holdfast-${facts.version}-${architecture}.img`);
  await rename(disk, image).catch(async () => void (await run(["cp", "--sparse=always", disk, image])));
  const sbom = sbomOf(facts, await componentsOf(tree, bun, options));
  const rootBytes = await bytesOf(root);
  const bundle = `${image.slice(0, -".img".length)}.raucb`;
  if (options.bundles) {
    await steps.run("update bundle", () => bundleOf(tools, facts, root, boot, keys, bundle));
  }
  const hasFirmware = options.firmware.length > 0;
  const handout = { image, rootBytes, hasFirmware, sbom, packs: options.packs, more: options.bundles ? [bundle] : [] };
  const files = await steps.run(options.packs ? "packing, sums" : "sums", () => writeOutput(handout));
  await rm(tools.work, { recursive: true, force: true });
  for (const file of files) steps.say(`${file} (${Math.ceil((await bytesOf(file)) / mib)} MiB)`);
  steps.say(`ready; try it: image/run ${image}`);
}

/** The tools see a build under another path than we do; a link inside their tree makes ours lead there, too. */
async function bundleOf(
  tools: Tools,
  { version, compatible }: ImageFacts,
  rootImage: string,
  bootImage: string,
  keys: Keys,
  target: string,
): Promise<void> {
  await mkdir(dirname(join(tools.root, tools.work)), { recursive: true });
  await rm(join(tools.root, tools.work), { force: true });
  await symlink(`/${basename(tools.work)}`, join(tools.root, tools.work));
  const [certificate, key, out] = ["cert.pem", "key.pem", "bundle.raucb"].map((name) => join(tools.work, name)) as [
    string,
    string,
    string,
  ];
  await cp(keys.certificate, certificate);
  await cp(keys.key, key);
  // rauc opens its files a second time through /proc, which a tree of files does not have: it gets one of its own.
  const rauc = [
    "unshare",
    "--mount",
    "sh",
    "-c",
    'mount -t proc proc "$0/proc" && exec chroot "$0" rauc "$@"',
    tools.root,
  ];
  await makeBundle({ rootImage, bootImage, version, compatible, certificate, key, out, rauc });
  await rename(out, target).catch(async () => void (await run(["cp", out, target])));
}

/** Before anything is made. @throws ImageError image.input where it is not the one that was meant, or cannot run there */
async function checkHypervisor(architecture: ImageArchitecture, hypervisor: Hypervisor): Promise<"static" | "dynamic"> {
  const { file, sha256, mayBeDynamic } = hypervisor;
  const linked = await checkProgram(file, architecture);
  if (linked === "dynamic" && !mayBeDynamic) {
    throw new ImageError("image.input", `${file} is linked dynamically; the image wants the static build`);
  }
  const found = await sha256Of(file);
  if (found !== sha256) throw new ImageError("image.input", `${file} has the SHA-256 ${found}, not ${sha256}`);
  return linked;
}

async function putHypervisor(tree: string, file: string, linked: "static" | "dynamic"): Promise<void> {
  const command = join(tree, "usr/bin/cloud-hypervisor");
  const target = linked === "static" ? command : `${command}.dynamic`;
  await cp(file, target);
  await chmod(target, 0o755);
  if (linked === "static") return;
  await writeFile(command, '#!/bin/sh\nexec /usr/bin/cloud-hypervisor.dynamic --seccomp log "$@"\n', { mode: 0o755 });
}

async function componentsOf(tree: SystemTree, bun: string, { hypervisor }: BuildOptions): Promise<Component[]> {
  return [
    ...(await debianComponents(tree.debian)),
    ...(await npmComponents(tree.path)),
    await fileComponent("bun", Bun.version, bun),
    ...(hypervisor === null ? [] : [await fileComponent("cloud-hypervisor", "as given", hypervisor.file)]),
  ];
}

/** Keys that nobody keeps safe, for images that are tried; made once. */
async function testKeys(cache: string, tell: (text: string) => void): Promise<Keys> {
  const keys = { key: join(cache, "keys/key.pem"), certificate: join(cache, "keys/cert.pem") };
  tell(
    "updates of this image are signed with a test key: give --sign-key and --sign-certificate for boxes that matter",
  );
  if (existsSync(keys.certificate)) return keys;
  await mkdir(join(cache, "keys"), { recursive: true, mode: 0o700 });
  await makeTestKey(keys.key, keys.certificate);
  return keys;
}

async function factsOf({ architecture, version, keys }: BuildOptions): Promise<ImageFacts> {
  const git = async (...words: string[]): Promise<string> => (await run(["git", ...words], { directory: top })).trim();
  const commit = await git("rev-parse", "HEAD");
  const isChanged = (await git("status", "--porcelain")) !== "";
  const { version: own } = (await Bun.file(join(top, "package.json")).json()) as { version: string };
  return {
    version: version ?? `${own}-${commit.slice(0, 8)}${isChanged ? "-changed" : ""}`,
    commit,
    builtAtMs: Number(await git("log", "-1", "--format=%ct")) * 1000,
    architecture,
    compatible: `holdfast-${architecture}`,
    testKey: keys === null,
  };
}

/** Tells each step as it begins and how long it took. */
class Steps {
  readonly #startedNs = systemClock.monotonicNs();

  constructor(private readonly title: string) {}

  async run<T>(name: string, work: () => Promise<T>): Promise<T> {
    const beganNs = systemClock.monotonicNs();
    const result = await work();
    this.say(`${name}: ${secondsSince(beganNs)} s`);
    return result;
  }

  say(text: string): void {
    console.log(`${this.title} [${secondsSince(this.#startedNs).padStart(5)} s] ${text}`);
  }
}

const secondsSince = (ns: number): string => ((systemClock.monotonicNs() - ns) / 1e9).toFixed(1);

try {
  const options = readOptions(process.argv.slice(2), top);
  if (options === null) {
    console.log(usage);
  } else {
    checkMachine(options);
    await build(options);
  }
} catch (error) {
  console.error(`image/build: ${explain(error)}`);
  if (error instanceof ImageError && error.code === "image.input") console.error(`\n${usage}`);
  process.exit(error instanceof ImageError && error.code === "image.missing" ? 69 : 1);
}
