// SPDX-License-Identifier: Apache-2.0
/**
 * Network cards of a guest on the host: a tap that exists already, or one of our own on an existing bridge.
 *
 * Gets the guest's cards; gives the taps to name to Cloud Hypervisor. Our own taps have names made from the guest's name,
 * so that whoever supervises it next finds and removes them; making one that is there already is no error. Bridges, addresses
 * and forwarding stay the operator's. Uses ip(8) of iproute2. Limit: `ipTimeoutMs` a call.
 */
import { existsSync } from "node:fs";
import { deadline } from "#clock.ts";
import { HypervisorError } from "#errors.ts";
import { type GuestCard, type GuestNet, macOf } from "#vm/guestMachine.ts";

const ipTimeoutMs = 5_000;
/** Names of network devices have at most 15 characters (IFNAMSIZ). */
const hashCharacters = 10;

/** Whose taps they are to be: Cloud Hypervisor's user. */
export type NetParts = { readonly user?: { readonly uid: number } | undefined };

/** Our own tap for this card. */
export function tapName(guest: string, index: number): string {
  const hash = Bun.hash.xxHash3(`${guest}/${index}`).toString(36).slice(0, hashCharacters);
  return `hf-${hash}`;
}

/** Makes what has to be made. @throws HypervisorError hypervisor.network, with what to do */
export async function openCards(guest: string, net: readonly GuestNet[], parts: NetParts): Promise<GuestCard[]> {
  const cards: GuestCard[] = [];
  for (const [index, card] of net.entries()) {
    const mac = card.mac ?? macOf(guest, index);
    if (card.kind === "tap") {
      requireDevice(card.tap, `make it, for example: ip tuntap add dev ${card.tap} mode tap`);
      cards.push({ tap: card.tap, mac });
      continue;
    }
    requireDevice(card.bridge, `make it, for example: ip link add ${card.bridge} type bridge`);
    cards.push({ tap: await openTap(tapName(guest, index), card.bridge, parts), mac });
  }
  return cards;
}

/** Removes our own taps. Total: a tap that is gone already is what is wanted. */
export async function closeCards(guest: string, net: readonly GuestNet[]): Promise<void> {
  for (const [index, card] of net.entries()) {
    const tap = tapName(guest, index);
    if (card.kind === "bridge" && isDevice(tap)) await ip(["link", "delete", tap]).catch(() => {});
  }
}

async function openTap(tap: string, bridge: string, { user }: NetParts): Promise<string> {
  if (!isDevice(tap)) {
    const owner = user === undefined ? [] : ["user", String(user.uid)];
    await ip(["tuntap", "add", "dev", tap, "mode", "tap", ...owner]);
  }
  await ip(["link", "set", "dev", tap, "master", bridge]);
  await ip(["link", "set", "dev", tap, "up"]);
  return tap;
}

const isDevice = (name: string): boolean => existsSync(`/sys/class/net/${name}`);

function requireDevice(name: string, advice: string): void {
  if (!isDevice(name)) {
    throw new HypervisorError("hypervisor.network", `there is no network device ${name}: ${advice}`);
  }
}

async function ip(words: readonly string[]): Promise<void> {
  const late = (): HypervisorError => new HypervisorError("hypervisor.network", `ip ${words.join(" ")} does not end`);
  using limit = deadline(ipTimeoutMs, late);
  let said: string;
  try {
    const child = Bun.spawn(["ip", ...words], { stdio: ["ignore", "ignore", "pipe"], signal: limit.signal });
    said = await child.stderr.text();
    if ((await child.exited) === 0) return;
  } catch (cause) {
    const advice = "ip cannot be run; install it (Debian: apt-get install iproute2)";
    throw limit.signal.aborted ? limit.signal.reason : new HypervisorError("hypervisor.network", advice, {}, cause);
  }
  throw new HypervisorError("hypervisor.network", `ip ${words.join(" ")}: ${said.trim().slice(0, 200)}`);
}
