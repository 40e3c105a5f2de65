// SPDX-License-Identifier: Apache-2.0
/**
 * Numbers, times and names as people read them. Gets values with units; gives short text, or HTML for a time.
 *
 * A time is UTC in the markup and in the `datetime` attribute; the script of the page makes it local.
 */
import { type Html, html } from "./html.ts";

export const dash = "–";

export function micros(us: number): string {
  if (us < 1_000) return `${Math.round(us)} µs`;
  if (us < 1_000_000) return `${(us / 1_000).toFixed(us < 10_000 ? 1 : 0)} ms`;
  return `${(us / 1_000_000).toFixed(1)} s`;
}

export function duration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} days`;
}

export function bytes(count: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}

export const percent = (ratio: number): string => `${(ratio * 100).toFixed(ratio < 0.1 ? 1 : 0)} %`;

export const plural = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? "" : "s"}`;

export const iso = (atMs: number): string => new Date(Number.isFinite(atMs) ? atMs : 0).toISOString();

/** `2026-11-23 14:02:07 UTC`, made local by the script. */
export const when = (atMs: number): Html =>
  html`<time datetime="${iso(atMs)}">${iso(atMs).slice(0, 19).replace("T", " ")} UTC</time>`;

/** How long ago, with the time itself for a pointer and for the script. */
export const ago = (atMs: number, nowMs: number): Html =>
  html`<time datetime="${iso(atMs)}" data-ago title="${iso(atMs).slice(0, 19).replace("T", " ")} UTC">${duration(nowMs - atMs)} ago</time>`;

export const fileName = (path: string): string => path.slice(path.lastIndexOf("/") + 1);
export const hex64 = (value: bigint | null): string =>
  value === null ? "not known" : `0x${value.toString(16).padStart(16, "0")}`;

/** A site in few letters: eight of the build-id and the offset. */
export const shortSite = (site: string): string =>
  site.replace(/^([0-9a-f]{8})[0-9a-f]+/, (_, start: string) => `${start}…`);

/** Text cut to a length, for names that an attacker may have made very long. */
export const clip = (text: string, most: number): string =>
  text.length <= most ? text : `${text.slice(0, most - 1)}…`;

/** A large number in few digits: 1,234 as it is, then `12.3 k`, `4.56 M`. */
export function compact(value: number): string {
  const units = ["", " k", " M", " G", " T"];
  let [rest, unit] = [Math.abs(value), 0];
  while (rest >= (unit === 0 ? 10_000 : 1_000) && unit < units.length - 1) {
    rest /= 1_000;
    unit += 1;
  }
  const digits = Number.isInteger(rest) || rest >= 1_000 ? 0 : rest >= 100 ? 1 : 2;
  return `${value < 0 ? "-" : ""}${rest.toFixed(digits)}${units[unit]}`;
}

/** A figure with its unit (of the metric catalogue or of the history), as a person would say it. */
export function quantity(value: number, unit: string): string {
  switch (unit) {
    case "B":
      return bytes(value);
    case "B/s":
      return `${bytes(value)}/s`;
    case "/":
      return percent(value);
    case "s":
      return micros(value * 1e6);
    case "Cel":
      return `${value.toFixed(1)} °C`;
    default:
      return unit === "" ? compact(value) : `${compact(value)} ${unit}`;
  }
}
