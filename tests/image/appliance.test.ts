// SPDX-License-Identifier: Apache-2.0
/**
 * The appliance's image, booted. By default only as far as its own system: firmware, boot loader, kernel and initial RAM
 * disk, with the slot's choice. At length (`./scripts/test image`): every step of the appliance's lab.
 *
 * Needs an image, which the tests do not build: it takes root, minutes and Debian's archive.
 */
import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { missingForMachine } from "#image/machine.ts";
import { architectureOf, copyDisk, imageOf } from "#image/run.ts";
import { type ApplianceStep, runAppliance } from "#scripts/lab/appliance.ts";
import { applianceSteps } from "#scripts/lab/applianceSteps.ts";
import { runCuts } from "#scripts/lab/bootCuts.ts";
import { BootedBox } from "#scripts/lab/bootedBox.ts";
import { guestSteps } from "#scripts/lab/guestStep.ts";
import { lifeSteps } from "#scripts/lab/lifeSteps.ts";
import { bundleOf, updateSteps } from "#scripts/lab/updateSteps.ts";
import { long, type Need, need } from "#tests/skip.ts";

const out = join(import.meta.dir, "../../.cache/image/out");
const slotMsMax = 240_000;
const stepMsMax = 40 * 60_000;
const cutMsMax = 10 * 60_000;
/** How many of each kind. `bun scripts/lab.ts cuts` does them in parts, or with another seed. */
const cuts = { slot: 50, load: 100, update: 50 } as const;

const image: Need = () => {
  const named = process.env.HOLDFAST_IMAGE;
  if (named !== undefined) return existsSync(named) ? null : `${named}: HOLDFAST_IMAGE names no file`;
  const built = existsSync(out) && readdirSync(out).some((name) => name.endsWith(".img"));
  return built ? null : "an image of the appliance: sudo image/build";
};
const chosen = (): string => imageOf(process.env.HOLDFAST_IMAGE);
const machine: Need = () => {
  if (image() !== null) return null;
  const lacks = missingForMachine(architectureOf(chosen()));
  return lacks.length === 0 ? null : lacks.join("; ");
};

const bundles: Need = () => {
  if (image() !== null) return null;
  const lacks = ["2.0", "3.0"].map((version) => bundleOf(chosen(), version)).filter((path) => !existsSync(path));
  return lacks.length === 0 ? null : `${lacks.join(", ")}: image/build --version 2.0 and 3.0, or HOLDFAST_LAB_BUNDLES`;
};
/** Two steps sign bundles of their own. */
const keys: Need = () =>
  existsSync(join(process.env.HOLDFAST_LAB_KEYS ?? "", "key.pem"))
    ? null
    : "HOLDFAST_LAB_KEYS: the folder of the key.pem and cert.pem that signed the image (.cache/image/keys)";
const hypervisor: Need = () => {
  if (image() !== null) return null;
  const parts = `${chosen()}.spdx.json`;
  const has = existsSync(parts) && readFileSync(parts, "utf8").includes("cloud-hypervisor");
  return has ? null : "an image with Cloud Hypervisor: image/build --hypervisor FILE --hypervisor-sha256 SUM";
};
const buildWords: Need = () =>
  process.env.HOLDFAST_IMAGE_BUILD === undefined
    ? "HOLDFAST_IMAGE_BUILD: the words for image/build, such as --bun FILE --cache DIR"
    : null;

if (!long("image")) {
  need(image, machine, "mcopy")(
    "the image boots into its slot A",
    async () => {
      const directory = mkdtempSync(join(tmpdir(), "holdfast-box-"));
      try {
        const disk = join(directory, "box.img");
        await copyDisk(chosen(), disk, 0);
        await using box = new BootedBox({ architecture: architectureOf(disk), disk, forwards: [] });
        const [line] = await box.says(/Holdfast: slot [AB] on \S+/, slotMsMax);
        expect(line).toMatch(/slot A on \/dev\/\w+3/);
      } finally {
        rmSync(directory, { recursive: true });
      }
    },
    slotMsMax,
  );
} else {
  const scene = mkdtempSync(join(tmpdir(), "holdfast-scene-"));
  afterAll(() => rmSync(scene, { recursive: true, force: true }));
  const runs = (step: ApplianceStep, ...needs: readonly (Need | string)[]): void =>
    need(
      image,
      machine,
      "mcopy",
      "mosquitto",
      ...needs,
    )(
      step.name,
      async () => {
        const [ended] = await runAppliance({
          image: chosen(),
          steps: [step],
          tell: () => {},
          note: console.log,
          scene,
        });
        expect(ended).toMatchObject({ ok: true });
      },
      stepMsMax,
    );
  for (const step of [...applianceSteps, ...lifeSteps]) runs(step);
  for (const step of updateSteps) runs(step, bundles, keys, "rauc", "unsquashfs");
  for (const step of guestSteps) runs(step, hypervisor);
  for (const kind of ["slot", "load", "update"] as const) {
    need(
      image,
      machine,
      "mcopy",
      "debugfs",
      "mosquitto",
      ...(kind === "update" ? [bundles] : []),
    )(
      `${cuts[kind]} power cuts, ${kind}`,
      async () => {
        const run = { image: chosen(), kind, count: cuts[kind], first: 1, seed: 1, lies: false, tell: console.log };
        expect(await runCuts({ ...run, scene, bundle: bundleOf(chosen(), "2.0") })).toBe(cuts[kind]);
      },
      cuts[kind] * cutMsMax,
    );
  }
  need(buildWords)(
    "two builds are the same bit by bit",
    async () => {
      const words = process.env.HOLDFAST_IMAGE_BUILD!.split(" ");
      const child = Bun.spawn([process.execPath, join(import.meta.dir, "../../image/reproduce.ts"), ...words], {
        stdio: ["ignore", "inherit", "inherit"],
      });
      expect(await child.exited).toBe(0);
    },
    stepMsMax,
  );
}

test("every step of the lab has a name of its own", () => {
  const steps = [...applianceSteps, ...lifeSteps, ...updateSteps, ...guestSteps];
  expect(new Set(steps.map(({ name }) => name)).size).toBe(steps.length);
});
