// SPDX-License-Identifier: Apache-2.0
/**
 * Rescue records as text: what `holdfast rescue export` writes and `import` reads, and how one is read back from storage.
 *
 * Everything is checked, field by field: a file comes from anywhere. A record names places and values and nothing more, so
 * the worst a bad one can do is to change the order in which edits are tried. Limits: 4 MiB, 1,024 records.
 */
import * as v from "valibot";
import { toJson } from "#bytes.ts";
import { ConfigError } from "#errors.ts";
import { fatalSignals, rungs } from "#fault.ts";
import { editsPerSiteMax, type SiteRecord } from "./rescueRecord.ts";

export const rescueFormat = "holdfast.rescue";
export const rescueVersion = 1;
export const fileBytesMax = 4 << 20;
export const recordsMax = 1024;

const whole = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const text = (most: number) => v.pipe(v.string(), v.maxLength(most));
const place = v.pipe(text(512), v.regex(/^[^\s\p{Cc}]+\+0x[0-9a-f]{1,16}$/u, "FILE+0xOFFSET"));
const key = v.pipe(
  text(640),
  v.regex(
    /^(?:(?:abandon|inward) [^\s\p{Cc}]+\+0x[0-9a-f]{1,16}=-?\d{1,20}|neutralise [^\s\p{Cc}]+\+0x[0-9a-f]{1,16}|mend|park)$/u,
    "an edit",
  ),
);

const edit = v.strictObject({
  key,
  rung: v.picklist(rungs),
  clean: whole,
  degraded: whole,
  failed: whole,
  last: v.picklist(["clean", "degraded", "failed"]),
  lastMs: whole,
  imported: v.boolean(),
});

const record = v.strictObject({
  program: text(256),
  build: v.pipe(text(128), v.regex(/^(?:[0-9a-f]{2})*$/, "hex digits")),
  site: v.strictObject({
    fault: v.union([place, v.picklist(["anonymous", "unknown"])]),
    boundary: v.union([v.literal(""), v.literal("anonymous"), place]),
  }),
  signal: v.picklist([...fatalSignals, "SIGSTOP"]),
  architecture: v.picklist(["x86_64", "aarch64"]),
  lastFaultMs: whole,
  edits: v.pipe(v.array(edit), v.maxLength(editsPerSiteMax)),
  forgottenMs: whole,
});

const file = v.object({
  format: v.literal(rescueFormat),
  version: whole,
  records: v.pipe(v.array(v.unknown()), v.maxLength(recordsMax)),
});

/** A record as storage holds it; null where it is damaged or of a form we do not know. */
export function readRecord(value: unknown): SiteRecord | null {
  const read = v.safeParse(record, value);
  return read.success ? read.output : null;
}

export const exportRecords = (records: readonly SiteRecord[]): string =>
  `${toJson({ format: rescueFormat, version: rescueVersion, records }, 1)}\n`;

/** @throws ConfigError config.argument that says what is wrong, and with which record */
export function importRecords(bytes: Uint8Array): SiteRecord[] {
  if (bytes.length > fileBytesMax) throw refused(`it has ${bytes.length} bytes, more than ${fileBytesMax}`);
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw refused("it is not JSON; make one with holdfast rescue export", cause);
  }
  const read = v.safeParse(file, parsed);
  if (!read.success) throw refused(`${whereOf(read.issues[0])}; make one with holdfast rescue export`);
  const { version, records } = read.output;
  if (version > rescueVersion) {
    throw refused(`it is of version ${version}, this release reads up to ${rescueVersion}: update Holdfast`);
  }
  return records.map((value, index) => {
    const one = v.safeParse(record, value);
    if (!one.success) throw refused(`record ${index + 1}: ${whereOf(one.issues[0])}`);
    return one.output;
  });
}

const refused = (why: string, cause?: unknown): ConfigError =>
  new ConfigError("config.argument", `this is no file of rescue records: ${why}`, {}, cause);

function whereOf(issue: v.BaseIssue<unknown>): string {
  const path = (issue.path ?? []).map(({ key }) => String(key)).join(".");
  return `${path === "" ? "" : `${path}: `}${issue.message}`;
}
