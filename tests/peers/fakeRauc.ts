// SPDX-License-Identifier: Apache-2.0
/**
 * Stands for RAUC where there are no loop device, no service and no partitions: a bundle is a JSON file, a slot is one too.
 *
 *     fakeRauc.ts TOP -c CONFIG info --output-format=json BUNDLE | install BUNDLE
 *
 * As the real one it marks the target bad, writes it, and puts it first. A bundle with `breaks` fails while it is written.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readEnvironment, writeEnvironment } from "#appliance/update/environmentFile.ts";
import { activated, otherSlot, readSlotBook, type Slot, withSlotBook } from "#appliance/update/slotEnvironment.ts";

export type FakeBundle = { readonly version: string; readonly compatible: string; readonly breaks?: boolean };

const [top = "", , , verb, ...rest] = process.argv.slice(2);
const bundle = JSON.parse(readFileSync(rest.at(-1)!, "utf8")) as FakeBundle;

if (verb === "info") process.stdout.write(`${JSON.stringify({ ...bundle, hooks: [], images: [] })}\n`);
else install();

function install(): void {
  const running = /holdfast\.slot=(\w)/.exec(readFileSync(join(top, "proc/cmdline"), "utf8"))![1] as Slot;
  const target = otherSlot(running);
  const path = join(top, "esp/grub/grubenv");
  const known = readEnvironment(path);
  const book = readSlotBook(known);
  process.stdout.write("installing\n  0% Installing\n 20% Checking bundle done.\n");
  writeEnvironment(path, withSlotBook(known, { ...book, ok: { ...book.ok, [target]: false } }));
  if (bundle.breaks === true) {
    process.stdout.write("LastError: Failed to write: Input/output error\nidle\n");
    process.stderr.write("Installing failed\n");
    process.exit(1);
  }
  process.stdout.write(" 60% Copying image to rootfs\n");
  writeFileSync(join(top, `slot-${target}.json`), JSON.stringify(bundle));
  writeEnvironment(path, withSlotBook(known, activated(book, target)));
  process.stdout.write("100% Installing done.\nidle\nInstalling succeeded\n");
}
