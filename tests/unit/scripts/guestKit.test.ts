// SPDX-License-Identifier: Apache-2.0
/**
 * The guest kit's package: the same bytes twice, a form that dpkg reads, and the units as they lie in the checkout.
 */
import { describe, expect } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { guestKitUnits } from "#image/guestKit.ts";
import { buildGuestKit } from "#scripts/guestKit.ts";
import { need } from "#tests/skip.ts";

describe("the guest kit's package", () => {
  need("dpkg-deb")("is reproducible, and dpkg finds both units in it", async () => {
    const first = await buildGuestKit();
    expect(Bun.SHA256.hash(first, "hex")).toBe(Bun.SHA256.hash(await buildGuestKit(), "hex"));
    const top = mkdtempSync(join(tmpdir(), "kit-"));
    try {
      const file = join(top, "kit.deb");
      await Bun.write(file, first);
      const fields = Bun.spawnSync(["dpkg-deb", "--field", file, "Package", "Depends"]).stdout.toString();
      expect(fields).toContain("Package: holdfast-guest-kit");
      expect(fields).toContain("gdbserver (>= 13)");
      expect(Bun.spawnSync(["dpkg-deb", "--extract", file, join(top, "out")]).exitCode).toBe(0);
      for (const unit of guestKitUnits) {
        const packed = readFileSync(join(top, "out/lib/systemd/system", unit), "utf8");
        expect(packed).toBe(readFileSync(join(import.meta.dir, "../../../vm/guest-kit", unit), "utf8"));
      }
    } finally {
      rmSync(top, { recursive: true, force: true });
    }
  });
});
