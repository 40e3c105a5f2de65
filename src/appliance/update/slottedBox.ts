// SPDX-License-Identifier: Apache-2.0
/**
 * A flashed box as its files tell it: which image runs, in which slot, and where its records are. Gets the top of the file
 * tree; gives null where this is no such box. Tests hand in a tree of their own.
 */
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { isSlot, type Slot } from "./slotEnvironment.ts";
import { isVersion } from "./updateBook.ts";

const factsSchema = v.object({
  version: v.pipe(v.string(), v.check(isVersion)),
  /** Bundles of another board class are refused. */
  compatible: v.pipe(v.string(), v.minLength(1), v.maxLength(64)),
  /** The clock of the box cannot be before. */
  builtAtMs: v.pipe(v.number(), v.safeInteger()),
  testKey: v.optional(v.boolean(), false),
});
export type ImageFacts = v.InferOutput<typeof factsSchema>;

export type SlottedBox = {
  readonly image: ImageFacts;
  /** The slot that runs. */
  readonly slot: Slot;
  readonly environmentPath: string;
  /** Ours, on the partition that outlives updates and resets. */
  readonly recordsDirectory: string;
  readonly bootsDirectory: string;
  /** Room for a bundle that is fetched. */
  readonly downloadDirectory: string;
  readonly toolConfig: string;
  /** Where it is there at a start of the box, the setup of the image erases all data first. */
  readonly resetMarkPath: string;
};

export function openSlottedBox(top = "/"): SlottedBox | null {
  const slot = /(?:^|\s)holdfast\.slot=(\w+)/.exec(textOf(join(top, "proc/cmdline")) ?? "")?.[1];
  const image = readFacts(textOf(join(top, "usr/lib/holdfast/image.json")));
  if (image === null || !isSlot(slot)) return null;
  return {
    image,
    slot,
    environmentPath: join(top, "esp/grub/grubenv"),
    recordsDirectory: join(top, "state/update"),
    bootsDirectory: join(top, "state/boots"),
    downloadDirectory: join(top, "data/update"),
    toolConfig: join(top, "etc/rauc/system.conf"),
    resetMarkPath: join(top, "state/factory-reset"),
  };
}

/** Whether the setup of the box found the boot loader's environment lost. Told once. */
export const takeEnvironmentLoss = ({ bootsDirectory }: SlottedBox): boolean =>
  takeWords(join(bootsDirectory, "environment-lost")) !== null;

/** What the watch over a silent trial has left: no supervisor came up in time. Told once. */
export const takeSilence = ({ recordsDirectory }: SlottedBox): string | null =>
  takeWords(join(recordsDirectory, "silence"));

function takeWords(path: string): string | null {
  const words = textOf(path)?.trim() ?? null;
  if (words === null) return null;
  try {
    rmSync(path);
  } catch {
    // The disk takes no writes: it is told again next time.
  }
  return words;
}

function readFacts(text: string | null): ImageFacts | null {
  try {
    const read = v.safeParse(factsSchema, JSON.parse(text ?? "null"));
    return read.success ? read.output : null;
  } catch {
    return null; // Not ours.
  }
}

function textOf(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null; // Not there.
  }
}
