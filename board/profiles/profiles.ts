// SPDX-License-Identifier: Apache-2.0
/**
 * The kinds of boards we know, and which of them this is: chosen at run time, by device tree, else by what firmware says.
 *
 * Source: vendors' documents and the device trees of Linux 6.12; only QEMU's own machine has run Holdfast.
 */
import type { Box } from "../box.ts";
import type { BoardProfile } from "./profile.ts";

const twoKinds = "two kinds of cores: counters are opened once for each kind";

export const profiles: readonly BoardProfile[] = [
  {
    name: "QEMU virt",
    compatible: ["linux,dummy-virt"],
    tried: "emulated",
    guests: "yes",
    watchdogSecondsMax: null,
    notes: [],
  },
  {
    name: "Rockchip RK3588",
    compatible: ["rockchip,rk3588", "rockchip,rk3588s"],
    tried: "never",
    guests: "yes",
    watchdogSecondsMax: null,
    notes: [twoKinds, "its boot firmware is the vendor's, in SPI flash or at sectors 64 and 16384 of the card"],
  },
  {
    name: "NXP i.MX 8M Plus",
    compatible: ["fsl,imx8mp"],
    tried: "never",
    guests: "yes",
    watchdogSecondsMax: 128,
    notes: ["its boot firmware is the vendor's, at 32 KiB of the card, and must start Linux at EL2 for guests"],
  },
  {
    name: "NVIDIA Jetson Orin",
    compatible: ["nvidia,tegra234"],
    tried: "never",
    guests: "yes",
    watchdogSecondsMax: null,
    notes: ["its own UEFI must hand over the device tree: Debian's kernel has none for it"],
  },
  {
    name: "NXP LX2160A",
    compatible: ["fsl,lx2160a"],
    tried: "never",
    guests: "yes",
    watchdogSecondsMax: null,
    notes: [],
  },
  {
    name: "Raspberry Pi 4 or 5",
    compatible: ["brcm,bcm2711", "brcm,bcm2712"],
    tried: "never",
    guests: { why: "its interrupt controller is a GICv2, and Cloud Hypervisor needs a GICv3" },
    watchdogSecondsMax: 15,
    notes: ["its watchdog waits 15 s at most"],
  },
];

const server: BoardProfile = {
  name: "arm64 machine with UEFI",
  compatible: [],
  tried: "never",
  guests: "yes",
  watchdogSecondsMax: null,
  notes: [],
};
const computer: BoardProfile = { ...server, name: "PC", tried: "real" };

/** The board, or the nearest kind that we know; null where nothing tells. */
export function profileOf(box: Box): BoardProfile | null {
  const words = (box.text("/proc/device-tree/compatible") ?? "").split("\0").filter((word) => word !== "");
  const known = profiles.find(({ compatible }) => compatible.some((word) => words.includes(word)));
  if (known !== undefined) return known;
  const vendor = box.text("/sys/class/dmi/id/sys_vendor");
  if (vendor === null) return null;
  if (box.processor !== "arm64") return computer;
  return vendor === "QEMU" ? profiles[0]! : server;
}
