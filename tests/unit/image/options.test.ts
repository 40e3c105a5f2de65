// SPDX-License-Identifier: Apache-2.0
/**
 * What may be said to `image/build`, and the list of components it writes.
 */
import { expect, test } from "bun:test";
import { readOptions } from "#image/options.ts";
import { sbomOf } from "#image/sbom.ts";

const sum = "ab".repeat(32);

test("without words it builds the arm64 image into the checkout's cache, packed", () => {
  const options = readOptions([], "/top")!;
  expect(options).toMatchObject({ architecture: "arm64", out: "/top/.cache/image/out", packs: true, hypervisor: null });
  expect(readOptions(["--no-pack"], "/top")!.packs).toBe(false);
  expect(readOptions(["--help"], "/top")).toBeNull();
});

test("a hypervisor is taken only with its sum", () => {
  expect(() => readOptions(["--hypervisor", "x"], "/top")).toThrow("--hypervisor-sha256");
  expect(() => readOptions(["--hypervisor", "x", "--hypervisor-sha256", "ab"], "/top")).toThrow("64");
  expect(readOptions(["--hypervisor", "/x", "--hypervisor-sha256", sum], "/top")!.hypervisor).toEqual({
    file: "/x",
    sha256: sum,
    mayBeDynamic: false,
  });
});

test("words that name no architecture or no version are refused", () => {
  expect(() => readOptions(["--arch", "riscv"], "/top")).toThrow("riscv");
  expect(() => readOptions(["--version", "a b"], "/top")).toThrow("--version");
});

test("the list of components depends on its input alone", () => {
  const facts = {
    version: "1",
    commit: "c",
    builtAtMs: 1_700_000_000_000,
    architecture: "arm64",
    compatible: "holdfast-arm64",
    testKey: true,
  } as const;
  const deb = { kind: "deb", name: "bash", version: "5.2+1", architecture: "arm64", sha256: sum } as const;
  const text = sbomOf(facts, [deb]);
  expect(sbomOf(facts, [deb])).toBe(text);
  expect(sbomOf({ ...facts, version: "2" }, [deb])).not.toBe(text);
  const document = JSON.parse(text) as { packages: { externalRefs: { referenceLocator: string }[] }[] };
  expect(document.packages[0]!.externalRefs[0]!.referenceLocator).toStartWith("pkg:deb/debian/bash@5.2%2B1?arch=arm64");
  expect(text).toContain("2023-11-14T22:13:20Z");
});
