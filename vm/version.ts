// SPDX-License-Identifier: Apache-2.0
/**
 * Which Cloud Hypervisor this is and what it can do. Gets the answer to `vmm.ping`; gives a Version, or why it is refused.
 *
 * Unknown JSON fields are ignored by Cloud Hypervisor, so a wrong guess would be silent: what a version lacks is refused
 * here, before any call. Source: the tags v51.0, v52.0 and v53.0, compared; for what comes after v53.0, its development
 * branch of August 2026.
 */
import { HypervisorError } from "#errors.ts";
import type { Ping } from "./vmConfig.ts";

/** The oldest release that was tried. */
export const oldestRelease = 52;
/** Releases whose behaviour is known line by line. Others run guests, without checkpoints. */
const knownBuilds: Readonly<Record<string, number>> = { "52.0.0 v52.0": 52, "53.0.0 v53.0": 53 };

export type Version = {
  /** Major number, 53 for v53.0. */
  readonly release: number;
  /** `known`: one of the tags we read. `unlisted`: a build of such a release that may differ. `later`: newer than all. */
  readonly kind: "known" | "unlisted" | "later";
  /** What to call it in a message. */
  readonly name: string;
};

/** What a version may lack. */
export type Feature =
  /** `vm.restore` with `memory_restore_mode`. */
  | "onDemandRestore"
  /** `vm.send-migration` answers at once and reports its end by events. */
  | "sendInBackground"
  /** `memory_mode` of `vm.send-migration` and `vm.receive-migration`. */
  | "memoryMode"
  /** `reserve` of the memory. */
  | "reserve"
  /** What the guest prints while nobody reads its serial socket is kept. */
  | "serialBuffer";

const spans: Readonly<Record<Feature, { readonly since: number; readonly until?: number; readonly what: string }>> = {
  onDemandRestore: { since: 52, what: "restoring on demand" },
  sendInBackground: { since: 53, what: "migration in the background" },
  memoryMode: { since: 53, until: 53, what: "the memory mode of a migration" },
  reserve: { since: 53, what: "reserved memory" },
  serialBuffer: { since: 53, what: "keeping serial output while nobody reads it" },
};

/** @throws HypervisorError hypervisor.versionUnknown, hypervisor.unsupported */
export function versionOf(ping: Ping): Version {
  const match = /^(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?/.exec(ping.version);
  const name = ping.buildVersion ?? `v${ping.version}`;
  if (match === null) {
    const said = JSON.stringify(ping.version.slice(0, 40));
    throw new HypervisorError("hypervisor.versionUnknown", `Cloud Hypervisor gives ${said} as its version`);
  }
  const release = Number(match[1]);
  if (release < oldestRelease) {
    const message = `Cloud Hypervisor ${name} is too old: install v${oldestRelease}.0 or later`;
    throw new HypervisorError("hypervisor.unsupported", message, { version: ping.version });
  }
  if (knownBuilds[`${ping.version} ${ping.buildVersion}`] !== undefined) return { release, kind: "known", name };
  const newest = Math.max(...Object.values(knownBuilds));
  return { release, kind: release > newest ? "later" : "unlisted", name };
}

/** Why this version cannot do it, or null where it can. */
export function lacks(version: Version, feature: Feature): string | null {
  const { since, until, what } = spans[feature];
  if (version.release < since) return `${version.name} lacks ${what}, which came with v${since}.0`;
  if (until !== undefined && version.release > until) return `${version.name} no longer has ${what}`;
  return null;
}

/** @throws HypervisorError hypervisor.unsupported */
export function demand(version: Version, feature: Feature): void {
  const reason = lacks(version, feature);
  if (reason !== null) throw new HypervisorError("hypervisor.unsupported", `Cloud Hypervisor ${reason}`, { feature });
}
