// SPDX-License-Identifier: Apache-2.0
/**
 * A folder that stands for a flashed box: its image's facts, kernel command line, boot loader's environment and records, and a
 * boot loader on paper that starts one of its slots.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { readEnvironment, writeEnvironment } from "#appliance/update/environmentFile.ts";
import { bootNext, readSlotBook, type Slot, slots, withSlotBook } from "#appliance/update/slotEnvironment.ts";
import { openSlottedBox, type SlottedBox } from "#appliance/update/slottedBox.ts";
import { assert } from "#errors.ts";
import type { FakeBundle } from "./fakeRauc.ts";

export const compatible = "holdfast-test";

export class SlottedTree implements Disposable {
  readonly top = mkdtempSync(join(tmpdir(), "holdfast-box-"));
  boots = 0;
  /** Of whatever image comes up. */
  builtAtMs = 1_600_000_000_000;

  constructor(version: string) {
    for (const slot of slots) this.put(`slot-${slot}.json`, JSON.stringify({ version, compatible }));
    this.put("esp/grub/.keep", "");
    writeEnvironment(this.environmentPath, withSlotBook(null, readSlotBook(null)));
  }

  get environmentPath(): string {
    return join(this.top, "esp/grub/grubenv");
  }
  get box(): SlottedBox {
    const box = openSlottedBox(this.top);
    assert(box !== null, "the tree is no box");
    return box;
  }
  /** How the fake tool is run on this tree. */
  get tool(): string[] {
    return [process.execPath, join(import.meta.dir, "fakeRauc.ts"), this.top];
  }

  put(path: string, text: string): string {
    const full = join(this.top, path);
    mkdirSync(dirname(full), { recursive: true });
    writeFileSync(full, text);
    return full;
  }

  bundle(name: string, bundle: Partial<FakeBundle> & { version: string }): string {
    return this.put(name, JSON.stringify({ compatible, ...bundle }));
  }

  /** The boot loader chooses; slots of `dead` come up no further. */
  powerOn(dead: readonly Slot[] = []): SlottedBox {
    for (let start = 0; start < 20; start += 1) {
      const known = readEnvironment(this.environmentPath);
      if (known === null) this.put("state/boots/environment-lost", "A\n");
      const next = bootNext(readSlotBook(known));
      writeEnvironment(this.environmentPath, withSlotBook(known, next.book));
      if (next.slot === null || dead.includes(next.slot)) continue;
      this.boots += 1;
      const { version } = JSON.parse(readFileSync(join(this.top, `slot-${next.slot}.json`), "utf8")) as FakeBundle;
      this.put("proc/cmdline", `quiet holdfast.slot=${next.slot} rauc.slot=${next.slot} panic=5\n`);
      this.put("usr/lib/holdfast/image.json", JSON.stringify({ version, compatible, builtAtMs: this.builtAtMs }));
      return this.box;
    }
    throw new TypeError("the box never comes up");
  }

  [Symbol.dispose](): void {
    rmSync(this.top, { recursive: true, force: true });
  }
}
