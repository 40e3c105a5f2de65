// SPDX-License-Identifier: Apache-2.0
/**
 * Events of the monitor: recorded bytes, every split, every truncation and every flipped bit.
 */
import { describe, expect, test } from "bun:test";
import { eventBytesMax, type MonitorEvent, MonitorFrames, readEvent } from "#vm/monitorEvent.ts";

/** As v53.0 wrote it. */
const record = (source: string, event: string, properties: object | null, secs = 2, nanos = 39_282_250): string =>
  `${JSON.stringify({ timestamp: { secs, nanos }, source, event, properties }, null, 2)}\n\n`;

const vectors: readonly [string, Partial<MonitorEvent>][] = [
  [record("vmm", "starting", null), { kind: "vmm.starting", sinceStartMs: 2039.28225 }],
  [record("vm", "booted", null), { kind: "vm.booted" }],
  [record("guest", "panic", { event: "panic" }), { kind: "guest.panic", what: "panic" }],
  [record("guest", "panic", { event: "crash_loaded" }), { kind: "guest.panic", what: "crash_loaded" }],
  [record("virtio-device", "activated", { id: "__rng" }), { kind: "device.activated", id: "__rng" }],
  [record("vm", "migration-memory-iteration", { id: "3" }), { kind: "vm.migration-memory-iteration", iteration: 3 }],
  [
    record("vm", "device-removed", { id: "d9", bdf: "0000:00:02.0" }),
    { kind: "vm.device-removed", bdf: "0000:00:02.0" },
  ],
  [record("cpu_manager", "create_vcpu", { id: "0" }), { kind: "other", source: "cpu_manager", event: "create_vcpu" }],
];
const wire = new TextEncoder().encode(vectors.map(([text]) => text).join(""));

describe("monitor events", () => {
  test("recorded events", () => {
    const events = new MonitorFrames().push(wire);
    expect(events).toHaveLength(vectors.length);
    for (const [index, [, expected]] of vectors.entries()) expect(events[index]).toMatchObject(expected);
  });

  test("every split gives the same events", () => {
    const whole = new MonitorFrames().push(wire);
    for (let at = 0; at <= wire.length; at += 1) {
      const frames = new MonitorFrames();
      expect([...frames.push(wire.subarray(0, at)), ...frames.push(wire.subarray(at))]).toEqual(whole);
    }
  });

  test("a truncated record is unreadable or not there, never half an event", () => {
    const text = vectors[2]![0].trimEnd();
    for (let at = 0; at < text.length; at += 1) expect(readEvent(text.slice(0, at)).kind).toBe("unreadable");
  });

  test("a flipped bit gives an event or an unreadable one, and the next record survives", () => {
    const first = new TextEncoder().encode(vectors[2]![0]);
    const second = new TextEncoder().encode(vectors[1]![0]);
    for (let bit = 0; bit < (first.length - 2) * 8; bit += 1) {
      const bytes = new Uint8Array([...first, ...second]);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      const events = new MonitorFrames().push(bytes);
      expect(events.length).toBeGreaterThan(0);
      expect(events.at(-1)!.kind).toBe("vm.booted");
    }
  });

  test("a peer that never ends a record is cut off", () => {
    const frames = new MonitorFrames();
    const events = frames.push(new Uint8Array(eventBytesMax + 1).fill(0x61));
    expect(events.map((event) => event.kind)).toEqual(["unreadable"]);
    expect(frames.push(new TextEncoder().encode(vectors[0]![0]))).toHaveLength(1);
  });
});
