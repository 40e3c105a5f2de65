// SPDX-License-Identifier: Apache-2.0
/**
 * Metric samples as SenML. Gets samples of one group and one time; gives packs of CBOR (RFC 8428, section 6) or JSON, and
 * reads them back. A pack holds at most 256 records, so it stays far below the packet limit.
 *
 * The prefix of all names is `DEVICE/`, a name is `METRIC/LABEL/LABEL`; a point is (name, time), so a double is harmless.
 */
import { TelemetryError } from "#errors.ts";
import { type MetricSample, metricDefinition } from "#metrics.ts";
import { type CborValue, decodeCbor, encodeCbor } from "./cbor.ts";

/** Labels of RFC 8428, table 4. */
const prefixName = -2;
const prefixTime = -3;
const nameLabel = 0;
const unitLabel = 1;
const valueLabel = 2;
const timeLabel = 6;

const recordsMax = 256;
export const packBytesMax = 64 * 1024;

/** One value as a pack carries it. `atMs` is absolute. */
export type SenmlPoint = {
  readonly name: string;
  readonly unit: string;
  readonly value: number;
  readonly atMs: number;
};

type Point = { readonly name: string; readonly unit: string; readonly value: number };

/** Packs of one group at one time. Samples without a value (NaN, infinite) are left out: no value is not zero. */
export function encodePacks(device: string, atMs: number, samples: readonly MetricSample[]): Uint8Array<ArrayBuffer>[] {
  return chunks(samples.flatMap(pointsOf)).map((points) =>
    encodeCbor(points.map((point, index) => record(point, index === 0 ? { device, atMs } : null))),
  );
}

/** The same as JSON (RFC 8428, section 5), for the mirror. */
export function jsonPacks(device: string, atMs: number, samples: readonly MetricSample[]): string[] {
  return chunks(samples.flatMap(pointsOf)).map((points) =>
    JSON.stringify(
      points.map(({ name, unit, value }, index) => ({
        ...(index === 0 ? { bn: `${device}/`, bt: atMs / 1000 } : {}),
        n: name,
        ...(unit === "" ? {} : { u: unit }),
        v: value,
      })),
    ),
  );
}

/** Reads a pack of ours, or of anybody who keeps to our profile. @throws TelemetryError */
export function decodePack(bytes: Uint8Array): SenmlPoint[] {
  const records = decodeCbor(bytes, packBytesMax);
  if (!Array.isArray(records)) throw new TelemetryError("telemetry.payload", "a SenML pack is an array");
  let prefix = "";
  let prefixMs = 0;
  return records.map((item: CborValue) => {
    if (!(item instanceof Map)) throw new TelemetryError("telemetry.payload", "a SenML record is a map of integers");
    prefix = textOf(item.get(prefixName)) ?? prefix;
    prefixMs = (numberOf(item.get(prefixTime)) ?? prefixMs / 1000) * 1000;
    const value = numberOf(item.get(valueLabel));
    if (value === null) throw new TelemetryError("telemetry.payload", "a SenML record without a value");
    return {
      name: prefix + (textOf(item.get(nameLabel)) ?? ""),
      unit: textOf(item.get(unitLabel)) ?? "",
      value,
      atMs: Math.round(prefixMs + (numberOf(item.get(timeLabel)) ?? 0) * 1000),
    };
  });
}

/** A label as part of a name: letters, digits, `-`, `.` and `_` as they are, any other byte as `:XX`. */
export function labelPart(label: string): string {
  if (label === "") return ":";
  return [...Buffer.from(label).subarray(0, 128)]
    .map((byte) => {
      const letter = String.fromCharCode(byte);
      return /[A-Za-z0-9._-]/.test(letter) ? letter : `:${byte.toString(16).padStart(2, "0")}`;
    })
    .join("");
}

function record(point: Point, first: { device: string; atMs: number } | null): Map<number, CborValue> {
  const fields = new Map<number, CborValue>();
  if (first !== null) fields.set(prefixName, `${first.device}/`).set(prefixTime, first.atMs / 1000);
  fields.set(nameLabel, point.name).set(valueLabel, point.value);
  if (point.unit !== "") fields.set(unitLabel, point.unit);
  return fields;
}

function pointsOf(sample: MetricSample): Point[] {
  const { unit, bounds = [] } = metricDefinition(sample.name);
  const name = [sample.name, ...sample.labels.map(labelPart)].join("/");
  if (sample.kind === "value") return Number.isFinite(sample.value) ? [{ name, unit, value: sample.value }] : [];
  return [
    ...bounds.map((bound, index) => ({ name: `${name}/le/${bound}`, unit: "", value: sample.buckets[index] ?? 0 })),
    { name: `${name}/count`, unit: "", value: sample.count },
    { name: `${name}/sum`, unit, value: sample.sum },
  ];
}

function chunks(points: readonly Point[]): Point[][] {
  const count = Math.ceil(points.length / recordsMax);
  return Array.from({ length: count }, (_, index) => points.slice(index * recordsMax, (index + 1) * recordsMax));
}

const textOf = (value: CborValue | undefined): string | null => (typeof value === "string" ? value : null);
const numberOf = (value: CborValue | undefined): number | null =>
  typeof value === "number" ? value : typeof value === "bigint" ? Number(value) : null;
