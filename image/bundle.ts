// SPDX-License-Identifier: Apache-2.0
/**
 * The signed update bundle of an image: its root and boot file systems, which board class they are for, and which version.
 * Gets the two files, a certificate and its key; gives one `.raucb` file that a box installs by `holdfast update install`.
 *
 *     bun image/bundle.ts --root FILE --boot FILE --version V --compatible NAME --cert PEM --key PEM --out FILE
 *
 * Needs rauc and mksquashfs; no root, no mount, no loop device. Salt and signature are new each time: two bundles of the same
 * files differ in those and are alike in what they install. Source: RAUC's docs/reference.rst (manifest, bundle format verity).
 */
import { linkSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { explain, UpdateError } from "#errors.ts";

export type BundleParts = {
  readonly rootImage: string;
  readonly bootImage: string;
  readonly version: string;
  /** The board class: a box of another one refuses the bundle. */
  readonly compatible: string;
  readonly certificate: string;
  readonly key: string;
  /** Replaced where there is one. */
  readonly out: string;
  /** How rauc is run: another one than that of this machine, in a tree of tools. */
  readonly rauc?: readonly string[];
};

const wordPattern = /^[0-9A-Za-z][0-9A-Za-z.+~_-]{0,63}$/;

/** @throws UpdateError update.bundle, update.tool */
export async function makeBundle(parts: BundleParts): Promise<void> {
  const { version, compatible, certificate, key, out, rauc = ["rauc"] } = parts;
  for (const word of [version, compatible]) {
    if (!wordPattern.test(word))
      throw new UpdateError("update.bundle", `${JSON.stringify(word)} cannot name a version or board`);
  }
  const folder = mkdtempSync(join(dirname(out), ".bundle-"));
  try {
    const content = join(folder, "content");
    await Bun.write(join(content, "manifest.raucm"), manifestOf(version, compatible));
    await place(parts.rootImage, join(content, "root.img"));
    await place(parts.bootImage, join(content, "boot.img"));
    const made = join(folder, "made.raucb");
    // The images are compressed already, or compress in a moment: their bytes are kept as they are.
    const squash = "--mksquashfs-args=-all-root -no-progress -noappend -comp zstd -Xcompression-level 3";
    await run([...rauc, "bundle", `--cert=${certificate}`, `--key=${key}`, squash, content, made]);
    await run(["mv", "-f", made, out]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A key and a certificate of its own, for images that are tried and thrown away. @throws UpdateError update.tool */
export async function makeTestKey(key: string, certificate: string): Promise<void> {
  const files = ["-keyout", key, "-out", certificate, "-days", "3650"];
  await run(["openssl", "req", "-x509", "-newkey", "rsa:3072", "-nodes", "-subj", "/CN=holdfast test key", ...files]);
  writeFileSync(
    `${certificate}.why`,
    "Made for trying images. Whoever has the key beside it can sign updates for them.\n",
  );
}

const manifestOf = (version: string, compatible: string): string =>
  [
    ...["[update]", `compatible=${compatible}`, `version=${version}`, ""],
    ...["[bundle]", "format=verity", ""],
    ...["[image.root]", "filename=root.img", ""],
    ...["[image.boot]", "filename=boot.img", ""],
  ].join("\n");

/** Without a copy where it is the same disk. */
async function place(from: string, to: string): Promise<void> {
  try {
    linkSync(from, to);
  } catch {
    await copyFile(from, to);
  }
}

async function run(command: readonly string[]): Promise<void> {
  let child: Bun.Subprocess<"ignore", "ignore", "pipe">;
  try {
    child = Bun.spawn([...command], { stdio: ["ignore", "ignore", "pipe"] });
  } catch (cause) {
    throw new UpdateError(
      "update.tool",
      `${command[0]} cannot be run: apt-get install rauc squashfs-tools openssl`,
      {},
      cause,
    );
  }
  const said = await child.stderr.text();
  if ((await child.exited) === 0) return;
  throw new UpdateError("update.tool", `${command.slice(0, 2).join(" ")} failed: ${said.trim().slice(-400)}`);
}

if (import.meta.main) {
  const text = { type: "string" } as const;
  const options = { root: text, boot: text, version: text, compatible: text, cert: text, key: text, out: text };
  try {
    const { values } = parseArgs({ options });
    const missing = Object.keys(options).filter((name) => !(name in values));
    if (missing.length > 0) throw new UpdateError("update.bundle", `say --${missing.join(", --")} too`);
    const { root, boot, version, compatible, cert, key, out } = values as Record<keyof typeof options, string>;
    await makeBundle({ rootImage: root, bootImage: boot, version, compatible, certificate: cert, key, out });
  } catch (error) {
    process.stderr.write(`bundle: ${explain(error)}\n`);
    process.exitCode = 1;
  }
}
