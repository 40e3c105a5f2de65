// SPDX-License-Identifier: Apache-2.0
/** Files of a guest's programs cross vsock once, whoever wants them, unless the stub that read one was lost. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { GdbError } from "#errors.ts";
import { silentLog } from "#log.ts";
import { type ImageStore, RemoteCode } from "#monitor/guest/remoteCode.ts";

/** Of this very process: its C library, as it is mapped here. */
const rows = readFileSync("/proc/self/maps", "latin1").split("\n");
const file = rows.map((row) => /(\/\S*libc[.-]\S*)$/.exec(row)?.[1]).find((path) => path !== undefined)!;
const maps = new TextEncoder().encode(rows.filter((row) => row.endsWith(file)).join("\n"));
const noMemory = (): never => {
  throw new GdbError("gdb.closed", "no memory is read here");
};

class Reader {
  readonly read: string[] = [];
  lost = false;

  readonly readFile = async (path: string): Promise<Uint8Array | null> => {
    this.read.push(path);
    if (path.endsWith("/maps")) return maps;
    await Promise.resolve();
    if (this.lost) throw new GdbError("gdb.closed", "the stub is gone");
    return readFileSync(file);
  };

  files(): string[] {
    return this.read.filter((path) => !path.endsWith("/maps"));
  }
}

const codeOf = (pid: number, reader: Reader, images: ImageStore): RemoteCode =>
  new RemoteCode(pid, reader.readFile, noMemory, images, silentLog);

test("two programs that start at once read a file of both once", async () => {
  const [images, reader] = [new Map() as ImageStore, new Reader()];
  const both = [codeOf(1, reader, images), codeOf(2, reader, images)];
  expect(await Promise.all(both.map((code) => code.refresh()))).toEqual([true, true]);
  expect(reader.files()).toEqual([`/proc/1/root${file}`]);
});

test("one whose neighbour's stub was lost in the middle reads it itself", async () => {
  const [images, lost, reader] = [new Map() as ImageStore, new Reader(), new Reader()];
  lost.lost = true;
  const first = codeOf(1, lost, images).refresh();
  const second = codeOf(2, reader, images).refresh();
  await expect(first).rejects.toThrow("the stub is gone");
  expect(await second).toBe(true);
  expect(reader.files()).toEqual([`/proc/2/root${file}`]);
});
