// SPDX-License-Identifier: Apache-2.0
/**
 * Whether an arm64 board has the interrupt controller that Cloud Hypervisor needs: GICv3 or later. Gets what
 * /proc/interrupts says; gives what is wrong, or null. Pure.
 *
 * Boards with a GICv2 (Raspberry Pi 4 and 5 among them) have KVM, and Cloud Hypervisor fails late and obscurely there.
 * Source: the names that `drivers/irqchip/irq-gic.c` and `irq-gic-v3.c` of Linux 6.1 give themselves.
 */

export function controllerTrouble(architecture: string, interrupts: string): string | null {
  if (architecture !== "arm64" || /\bGICv[345]\b/.test(interrupts)) return null;
  if (!/\bGIC(v2|-\d+)\b/.test(interrupts)) return null;
  return "this board has a GICv2 interrupt controller; Cloud Hypervisor needs GICv3 or later, so no guest can run here";
}
