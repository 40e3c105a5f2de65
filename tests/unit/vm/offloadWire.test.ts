// SPDX-License-Identifier: Apache-2.0
/**
 * The migration protocol's messages: there and back, and every truncation and flipped bit gives a typed error or an equal
 * kind of value; the Config message changed in its place and nowhere else; queues that no driver has set up.
 */
import { describe, expect, test } from "bun:test";
import { HypervisorError } from "#errors.ts";
import { configText, regions, stateText } from "#tests/peers/migration.ts";
import { editConfig } from "#vm/offload/configEdit.ts";
import { GuestRam, numbered, pageBytes, ramOf } from "#vm/offload/guestRam.ts";
import { findUnreadyQueue } from "#vm/offload/readyQueues.ts";
import {
  type CommandName,
  commands,
  decodeRange,
  decodeRequest,
  decodeResponse,
  encodeRequest,
  encodeResponse,
} from "#vm/offload/wire.ts";

const lengths: Readonly<Record<CommandName, number>> = {
  ...{ start: 0, config: 7_500, state: 32_000, memory: 160, complete: 0 },
  ...{ abandon: 0, memoryFd: 4, completePaused: 0, pageFault: 16 },
};

/** Decodes; a typed error is as good as a value. */
function tried(act: () => unknown): unknown {
  try {
    return act();
  } catch (error) {
    expect(error).toBeInstanceOf(HypervisorError);
    return null;
  }
}

describe("messages", () => {
  test("requests and responses come back as they went", () => {
    for (const command of Object.keys(commands) as CommandName[]) {
      const lengthBytes = lengths[command];
      expect(decodeRequest(encodeRequest(command, lengthBytes))).toEqual({ command, lengthBytes, version: 0 });
    }
    expect(decodeResponse(encodeResponse("ok"))).toBe("ok");
    expect(decodeResponse(encodeResponse("error"))).toBe("error");
  });

  test("every truncation and every flipped bit is a typed error or a whole value", () => {
    for (const command of Object.keys(commands) as CommandName[]) {
      const whole = encodeRequest(command, lengths[command]);
      for (let length = 0; length < whole.length; length += 1) {
        expect(tried(() => decodeRequest(whole.slice(0, length)))).toBeNull();
      }
      for (let bit = 0; bit < whole.length * 8; bit += 1) {
        const flipped = whole.slice();
        flipped[bit >> 3]! ^= 1 << (bit & 7);
        const value = tried(() => decodeRequest(flipped)) as { lengthBytes: number } | null;
        if (value !== null) expect(Number.isSafeInteger(value.lengthBytes)).toBe(true);
      }
    }
    for (let bit = 0; bit < 128; bit += 1) {
      const flipped = encodeResponse("ok");
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      const value = tried(() => decodeResponse(flipped));
      expect(["ok", "error", null]).toContain(value as string | null);
      tried(() => decodeRange(flipped));
    }
  });
});

describe("the Config message", () => {
  test("is edited in its place, digit by digit", () => {
    const edited = editConfig(configText, { disks: { disk0: "/clone.img" } });
    const expected = configText
      .replace('"thp":true', '"thp":false')
      .replace('"path":"/guest.img"', '"path":"/clone.img"');
    expect(edited).toBe(expected);
  });

  test("one that does not come out as it went in is not edited", () => {
    for (const text of [configText.replace("{", "{ "), "{}", "["]) {
      expect(() => editConfig(text, { disks: {} })).toThrow(HypervisorError);
    }
  });

  test("tells where the memory lies; what overlaps or is no page is refused", () => {
    const ram = ramOf(configText);
    expect(ram.bytes).toBe(7 << 20);
    expect(ram.pageAt(2 ** 32)).toBe(1_024);
    expect(ram.regionOfPage(1_024).slot).toBe(1);
    expect(() => ram.pageAt(5 << 20)).toThrow(HypervisorError);
    expect(() => ram.regionOf((4 << 20) - pageBytes, 2 * pageBytes)).toThrow(HypervisorError);
    const [first] = regions;
    const plain = { slot: 0, gpa: 0, bytes: first.size, fileOffset: 0 };
    for (const change of [{ gpa: 100 }, { bytes: 0 }, { bytes: -4_096 }, { fileOffset: 5 }]) {
      expect(() => new GuestRam(numbered([{ ...plain, ...change }]))).toThrow(HypervisorError);
    }
    expect(() => new GuestRam(numbered([plain, { ...plain, slot: 1 }]))).toThrow(HypervisorError);
  });

  test("a queue that points nowhere is found", () => {
    const ram = ramOf(configText);
    expect(findUnreadyQueue(stateText(), ram)).toBeNull();
    // On x86 memory begins at 0, where the used ring of an unused queue is.
    expect(findUnreadyQueue(stateText(0), ram)).toBeNull();
    const high = new GuestRam(numbered([{ slot: 0, gpa: 2 ** 30, bytes: 1 << 20, fileOffset: 0 }]));
    expect(findUnreadyQueue(stateText(0), high)).toEqual({ device: "_rng0", queue: 0 });
    expect(findUnreadyQueue("no JSON", ram)).toBeNull();
  });
});
