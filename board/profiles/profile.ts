// SPDX-License-Identifier: Apache-2.0
/**
 * What is known of a kind of board: how it is recognised, and what differs on it. Plain values, one file a family.
 *
 * `tried` is the honest part: where Holdfast has run. What was only read in documents says so.
 */

export type BoardProfile = {
  readonly name: string;
  /** Words of the device tree's root `compatible`, any of which names this kind. */
  readonly compatible: readonly string[];
  /** Where it has run: `real`, `emulated`, or `never` on real hardware. */
  readonly tried: "real" | "emulated" | "never";
  /** Whether Cloud Hypervisor can run guests on it, and why not. */
  readonly guests: "yes" | { readonly why: string };
  /** The longest that its hardware watchdog can be told to wait; null where nothing short is known. */
  readonly watchdogSecondsMax: number | null;
  /** What its owner should know. */
  readonly notes: readonly string[];
};
