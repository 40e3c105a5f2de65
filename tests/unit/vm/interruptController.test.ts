// SPDX-License-Identifier: Apache-2.0
/** Lines of /proc/interrupts as boards have them. */
import { expect, test } from "bun:test";
import { controllerTrouble } from "#vm/interruptController.ts";

const line = (name: string): string => ` 11:      34567      33210     ${name}  30 Level     arch_timer\n`;

test("a board with GICv2 is told before anything is started; others are not in the way", () => {
  expect(controllerTrouble("arm64", line("GICv2"))).toContain("GICv2");
  expect(controllerTrouble("arm64", line("GIC-0"))).toContain("GICv3 or later");
  expect(controllerTrouble("arm64", line("GICv3"))).toBeNull();
  expect(controllerTrouble("arm64", `${line("GICv3")}${line("GICv2")}`)).toBeNull();
  expect(controllerTrouble("arm64", "")).toBeNull();
  expect(controllerTrouble("x64", line("GICv2"))).toBeNull();
});
