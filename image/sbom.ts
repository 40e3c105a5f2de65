// SPDX-License-Identifier: Apache-2.0
/**
 * The list of what an image is made of, as SPDX 2.3 in JSON: Debian packages, packages of the lock file, the runtime, the
 * operator's binaries. Pure but for the tree it reads. Its time and its name derive from the inputs alone.
 */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { suite } from "./packages.ts";
import type { ImageFacts } from "./service.ts";
import { packageRecord } from "./tools.ts";

/** Name, version, and the SHA-256 of the file it came as, where there is one. */
export type Component = {
  readonly kind: "deb" | "npm" | "file";
  readonly name: string;
  readonly version: string;
  readonly sha256?: string;
  readonly architecture?: string;
};

/** Debian packages as they were unpacked. */
export async function debianComponents(debian: string): Promise<Component[]> {
  const text = await readFile(join(debian, packageRecord), "utf8");
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const [name, version, architecture, sha256] = line.split("\t") as [string, string, string, string];
      return { kind: "deb", name, version, architecture, sha256 };
    });
}

/** Packages of the lock file, as installed beside Holdfast in the tree. */
export async function npmComponents(tree: string): Promise<Component[]> {
  const home = join(tree, "usr/lib/holdfast/node_modules");
  const found: Component[] = [];
  for (const path of (await readdir(home, { recursive: true })).sort()) {
    if (!/(^|\/node_modules\/)(@[^/]+\/)?[^/@.][^/]*\/package\.json$/.test(path)) continue;
    const { name, version } = JSON.parse(await readFile(join(home, path), "utf8")) as Partial<Record<string, string>>;
    if (name !== undefined && version !== undefined) found.push({ kind: "npm", name, version });
  }
  return found;
}

export async function fileComponent(name: string, version: string, path: string): Promise<Component> {
  return { kind: "file", name, version, sha256: await sha256Of(path) };
}

export async function sha256Of(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of Bun.file(path).stream()) hash.update(chunk);
  return hash.digest("hex");
}

export function sbomOf(facts: ImageFacts, components: readonly Component[]): string {
  const name = `holdfast-${facts.version}-${facts.architecture}`;
  const packages = components.map((component) => ({
    SPDXID: idOf(component),
    name: component.name,
    versionInfo: component.version,
    downloadLocation: "NOASSERTION",
    filesAnalyzed: false,
    ...(component.sha256 === undefined
      ? {}
      : { checksums: [{ algorithm: "SHA256", checksumValue: component.sha256 }] }),
    ...(component.kind === "file"
      ? {}
      : {
          externalRefs: [
            { referenceCategory: "PACKAGE-MANAGER", referenceType: "purl", referenceLocator: purlOf(component) },
          ],
        }),
  }));
  const sum = createHash("sha256")
    .update(JSON.stringify([facts, packages]))
    .digest("hex");
  const document = {
    spdxVersion: "SPDX-2.3",
    dataLicense: "CC0-1.0",
    SPDXID: "SPDXRef-DOCUMENT",
    name,
    documentNamespace: `urn:holdfast:${name}:${sum}`,
    creationInfo: {
      created: new Date(facts.builtAtMs).toISOString().replace(/\.\d+Z/, "Z"),
      creators: ["Tool: holdfast"],
    },
    packages,
    relationships: packages.map(({ SPDXID }) => ({
      spdxElementId: "SPDXRef-DOCUMENT",
      relationshipType: "DESCRIBES",
      relatedSpdxElement: SPDXID,
    })),
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

const idOf = ({ kind, name, version }: Component): string =>
  `SPDXRef-${kind}-${`${name}-${version}`.replaceAll(/[^A-Za-z0-9.-]/g, "-")}`;

function purlOf({ kind, name, version, architecture }: Component): string {
  if (kind === "npm") return `pkg:npm/${name.replace("@", "%40")}@${version}`;
  return `pkg:deb/debian/${name}@${encodeURIComponent(version)}?arch=${architecture ?? "all"}&distro=${suite}`;
}
