// SPDX-License-Identifier: Apache-2.0
/**
 * Update bundles as the real RAUC makes and judges them: whole, damaged at any place, foreign, unsigned.
 */
import { afterAll, expect } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Rauc } from "#appliance/update/rauc.ts";
import { seededRandom, systemClock } from "#clock.ts";
import { UpdateError } from "#errors.ts";
import { makeBundle, makeTestKey } from "#image/bundle.ts";
import { need } from "#tests/skip.ts";

const seed = systemClock.wallMs() % 2 ** 31;
const random = seededRandom(seed);
const folder = mkdtempSync(join(tmpdir(), "holdfast-bundle-"));
const at = (name: string): string => join(folder, name);
const never = new AbortController().signal;
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const rauc = (): Rauc => {
  writeFileSync(
    at("system.conf"),
    `[system]\ncompatible=holdfast-test\nbootloader=noop\n[keyring]\npath=${at("cert.pem")}\n[slot.root.0]\ndevice=/dev/null\nbootname=A\n`,
  );
  return new Rauc(at("system.conf"));
};

async function bundle(out: string, keys = ""): Promise<string> {
  const images = { rootImage: at("root.img"), bootImage: at("boot.img") };
  const signed = { certificate: at(`${keys}cert.pem`), key: at(`${keys}key.pem`) };
  await makeBundle({ ...images, ...signed, version: "2.0+20261123", compatible: "holdfast-test", out: at(out) });
  return at(out);
}

const verdict = async (path: string): Promise<string> => {
  const tool = rauc();
  try {
    const { version, compatible } = await tool.inspect(path);
    await tool.checkWhole(path, never);
    return `${version} for ${compatible}`;
  } catch (error) {
    if (!(error instanceof UpdateError)) throw error;
    return `${error.code}: ${error.message}`;
  }
};

need("rauc", "mksquashfs", "openssl")(
  `a bundle is believed only whole and signed by a known key (seed ${seed})`,
  async () => {
    mkdirSync(folder, { recursive: true });
    writeFileSync(at("root.img"), Buffer.from(Array.from({ length: 700_000 }, () => random() * 256)));
    writeFileSync(at("boot.img"), Buffer.alloc(100_000, "boot"));
    for (const keys of ["", "foreign-"]) await makeTestKey(at(`${keys}key.pem`), at(`${keys}cert.pem`));
    const whole = await bundle("whole.raucb");
    expect(await verdict(whole)).toBe("2.0+20261123 for holdfast-test");
    expect(await verdict(await bundle("foreign.raucb", "foreign-"))).toStartWith(
      "update.signature: the bundle is not signed by a key",
    );
    expect(await verdict(at("absent.raucb"))).toStartWith("update.bundle: there is no bundle");

    const bytes = readFileSync(whole);
    const damaged = async (change: (copy: Buffer) => Uint8Array): Promise<string> => {
      writeFileSync(at("damaged.raucb"), change(Buffer.from(bytes)));
      return await verdict(at("damaged.raucb"));
    };
    expect(await damaged((copy) => copy.subarray(0, copy.length - 4_096))).toStartWith("update.");
    expect(await damaged((copy) => copy.subarray(0, 1_000))).toStartWith("update.");
    expect(await damaged(() => Buffer.alloc(0))).toStartWith("update.");
    expect(await damaged(() => Buffer.alloc(100_000, "squash"))).toStartWith("update.");
    // Without its signature: a plain squashfs.
    const signatureBytes = Number(bytes.readBigUInt64BE(bytes.length - 8));
    expect(await damaged((copy) => copy.subarray(0, copy.length - 8 - signatureBytes))).toStartWith("update.");
    for (let flip = 0; flip < 6; flip += 1) {
      const where = Math.floor(random() * (bytes.length - 40_000));
      const said = await damaged((copy) => {
        copy[where] = copy[where]! ^ 0x01;
        return copy;
      });
      expect(`${where} ${said}`).toStartWith(`${where} update.bundle: `);
    }
    expect(statSync(whole).size).toBe(bytes.length);
  },
  60_000,
);
