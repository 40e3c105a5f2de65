// SPDX-License-Identifier: Apache-2.0
/**
 * An initial RAM disk that loads modules, mounts /dev/vda and goes on with the init it is told to.
 */
import { basename } from "node:path";
import { type CpioEntry, writeCpio } from "#image/cpio.ts";
import type { LabRoot } from "./root.ts";

const applets = ["sh", "mount", "insmod", "switch_root", "sleep", "echo", "mkdir"];

export async function initrdFor(root: LabRoot, init: string): Promise<Uint8Array> {
  const script = [
    "#!/bin/sh",
    "mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev",
    ...root.modules.map((path) => `insmod /m/${basename(path)}`),
    "n=0; while [ ! -b /dev/vda ] && [ $n -lt 300 ]; do sleep 0.1; n=$((n+1)); done",
    "mount -t ext4 /dev/vda /new || { echo LAB no root; sleep 3600; }",
    "mount --move /dev /new/dev; mount --move /sys /new/sys; mount --move /proc /new/proc",
    `exec switch_root /new ${init}`,
    "",
  ].join("\n");
  const file = async (path: string, source: string, mode: number): Promise<CpioEntry> => ({
    kind: "file",
    path,
    mode,
    bytes: await Bun.file(source).bytes(),
  });
  const entries: CpioEntry[] = [
    ...["bin", "dev", "proc", "sys", "new", "m"].map((path): CpioEntry => ({ kind: "folder", path })),
    { kind: "device", path: "dev/console", major: 5, minor: 1 },
    await file("bin/busybox", root.busybox, 0o755),
    ...applets.map((applet): CpioEntry => ({ kind: "link", path: `bin/${applet}`, target: "busybox" })),
    ...(await Promise.all(root.modules.map((path) => file(`m/${basename(path)}`, path, 0o644)))),
    { kind: "file", path: "init", mode: 0o755, bytes: Buffer.from(script) },
  ];
  return writeCpio(entries);
}
