// SPDX-License-Identifier: Apache-2.0
/**
 * `bun scripts/guestKit.ts DIRECTORY`: builds the guest kit as a Debian package, byte-identical wherever it is built.
 *
 * Gets the units of vm/guest-kit; gives one .deb of a few kB. Source: deb(5), the ustar format of POSIX.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { guestKit, guestKitSockets, guestKitUnits } from "#image/guestKit.ts";

const version = "0.1.0";
/** One fixed time for every file: 2026-01-01. */
const modifiedS = 1_767_225_600;

const control = `Package: holdfast-guest-kit
Version: ${version}
Architecture: all
Maintainer: Holdfast
Depends: gdbserver (>= 13), iproute2 (>= 5), systemd (>= 245), util-linux
Section: admin
Priority: optional
Description: lets the supervisor on the host guard programs in this guest
 Systemd units that run stock gdbserver and ss for the host, over vsock. Nothing
 listens on a network, and only the host can connect.
`;
const postinst = `#!/bin/sh
set -e
if [ "$1" = configure ] && [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  systemctl enable --now ${guestKitSockets.join(" ")}
elif [ "$1" = configure ]; then
  systemctl enable ${guestKitSockets.join(" ")} || true
fi
`;
const prerm = `#!/bin/sh
set -e
if [ "$1" = remove ]; then systemctl disable --now ${guestKitSockets.join(" ")} || true; fi
`;

type Member = { readonly path: string; readonly mode: number; readonly bytes: Uint8Array };

/** The package's bytes. */
export async function buildGuestKit(): Promise<Uint8Array> {
  const text = (path: string, content: string, mode: number): Member => ({ path, mode, bytes: Buffer.from(content) });
  const controlTar = tar([
    text("./control", control, 0o644),
    text("./postinst", postinst, 0o755),
    text("./prerm", prerm, 0o755),
  ]);
  const folders = ["./", "./lib/", "./lib/systemd/", "./lib/systemd/system/"].map((path) => text(path, "", 0o755));
  const files = await Promise.all(
    guestKitUnits.map(async (unit) => ({
      path: `./lib/systemd/system/${unit}`,
      mode: 0o644,
      bytes: await Bun.file(join(guestKit, unit)).bytes(),
    })),
  );
  return ar([
    ["debian-binary", Buffer.from("2.0\n")],
    ["control.tar.gz", gzip(controlTar)],
    ["data.tar.gz", gzip(tar([...folders, ...files]))],
  ]);
}

/** Without a name, a time and the system it was made on, which the header could hold. */
function gzip(bytes: Uint8Array): Uint8Array {
  const packed = Bun.gzipSync(new Uint8Array(bytes), { level: 9 });
  packed.fill(0, 4, 8);
  packed[9] = 255;
  return packed;
}

function ar(members: readonly (readonly [string, Uint8Array])[]): Uint8Array {
  const parts: Uint8Array[] = [Buffer.from("!<arch>\n")];
  for (const [name, bytes] of members) {
    const fields = [name.padEnd(16), String(modifiedS).padEnd(12), "0".padEnd(6), "0".padEnd(6), "100644".padEnd(8)];
    parts.push(Buffer.from(`${fields.join("")}${String(bytes.length).padEnd(10)}\`\n`), bytes);
    if (bytes.length % 2 === 1) parts.push(Buffer.from("\n"));
  }
  return Buffer.concat(parts);
}

function tar(members: readonly Member[]): Uint8Array {
  const parts = members.flatMap((member) => [
    tarHeader(member),
    member.bytes,
    new Uint8Array((512 - (member.bytes.length % 512)) % 512),
  ]);
  return Buffer.concat([...parts, new Uint8Array(1024)]);
}

function tarHeader({ path, mode, bytes }: Member): Uint8Array {
  const header = Buffer.alloc(512);
  const octal = (value: number, width: number): string => value.toString(8).padStart(width - 1, "0");
  const put = (text: string, at: number): number => header.write(text, at, "latin1");
  put(path, 0);
  put(octal(mode, 8), 100);
  put(octal(0, 8), 108);
  put(octal(0, 8), 116);
  put(octal(bytes.length, 12), 124);
  put(octal(modifiedS, 12), 136);
  header.fill(0x20, 148, 156);
  put(path.endsWith("/") ? "5" : "0", 156);
  put("ustar\u000000", 257);
  put("root", 265);
  put("root", 297);
  const sum = header.reduce((total, byte) => total + byte, 0);
  put(`${octal(sum, 7)}\u0000 `, 148);
  return header;
}

if (import.meta.main) {
  const directory = process.argv[2];
  if (directory === undefined) {
    console.error("usage: bun scripts/guestKit.ts DIRECTORY");
    process.exit(2);
  }
  mkdirSync(directory, { recursive: true });
  const file = join(directory, `holdfast-guest-kit_${version}_all.deb`);
  await Bun.write(file, await buildGuestKit());
  console.log(file);
}
