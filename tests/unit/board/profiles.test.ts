// SPDX-License-Identifier: Apache-2.0
/**
 * Which profile a box gets: by the words of its device tree, else by what its firmware says of itself.
 */
import { expect, test } from "bun:test";
import type { Box } from "#board/box.ts";
import { profileOf, profiles } from "#board/profiles/profiles.ts";

const boxWith = (files: Readonly<Record<string, string>>, processor = "arm64"): Box =>
  ({ processor, text: (path: string) => files[path] ?? null }) as unknown as Box;
const tree = (...words: string[]): Box => boxWith({ "/proc/device-tree/compatible": `${words.join("\0")}\0` });

test("the device tree names the board, however specific its first word is", () => {
  expect(profileOf(tree("radxa,rock-5b", "rockchip,rk3588"))?.name).toBe("Rockchip RK3588");
  expect(profileOf(tree("toradex,verdin-imx8mp", "fsl,imx8mp"))?.name).toBe("NXP i.MX 8M Plus");
  expect(profileOf(tree("linux,dummy-virt"))?.tried).toBe("emulated");
  expect(profileOf(tree("rockchip,rk35889"))).toBeNull();
});

test("without a device tree, firmware tells a server, a PC or QEMU", () => {
  const vendor = (name: string): Record<string, string> => ({ "/sys/class/dmi/id/sys_vendor": name });
  expect(profileOf(boxWith(vendor("Ampere")))?.name).toBe("arm64 machine with UEFI");
  expect(profileOf(boxWith(vendor("QEMU")))?.name).toBe("QEMU virt");
  expect(profileOf(boxWith(vendor("LENOVO"), "x64"))?.name).toBe("PC");
  expect(profileOf(boxWith({}))).toBeNull();
});

test("no two profiles claim the same word, and none claims to have run on hardware that nobody here has", () => {
  const words = profiles.flatMap(({ compatible }) => compatible);
  expect(new Set(words).size).toBe(words.length);
  expect(profiles.filter(({ tried }) => tried === "real")).toEqual([]);
});
