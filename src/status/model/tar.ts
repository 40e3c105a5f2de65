// SPDX-License-Identifier: Apache-2.0
/**
 * Files as one tar archive (ustar, POSIX.1-1988): same files, same order, same bytes. Gets names and text; gives bytes. Pure.
 */
import { StatusError } from "#errors.ts";

const blockBytes = 512;
const nameBytesMax = 100;

export type TarFile = { readonly name: string; readonly bytes: Uint8Array };

/** @throws StatusError status.refused for a name that does not fit */
export function tar(files: readonly TarFile[], atSeconds: number): Uint8Array<ArrayBuffer> {
  const parts = files.flatMap(({ name, bytes }) => [
    header(name, bytes.length, atSeconds),
    bytes,
    padding(bytes.length),
  ]);
  parts.push(new Uint8Array(2 * blockBytes));
  const whole = new Uint8Array(new ArrayBuffer(parts.reduce((sum, part) => sum + part.length, 0)));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const padding = (size: number): Uint8Array => new Uint8Array((blockBytes - (size % blockBytes)) % blockBytes);

/** Field, offset, bytes: name 0 100, mode 100 8, owner 108 8, group 116 8, size 124 12, time 136 12, sum 148 8, type 156 1, magic 257 8. */
function header(name: string, size: number, atSeconds: number): Uint8Array {
  const block = new Uint8Array(blockBytes);
  const put = (text: string, at: number): void => block.set(new TextEncoder().encode(text), at);
  const octal = (value: number, digits: number): string => `${value.toString(8).padStart(digits, "0")}\0`;
  if (new TextEncoder().encode(name).length > nameBytesMax)
    throw new StatusError("status.refused", `${name} is too long a name for an archive`);
  put(name, 0);
  put(octal(0o600, 7), 100);
  put(octal(0, 7), 108);
  put(octal(0, 7), 116);
  put(octal(size, 11), 124);
  put(octal(Math.floor(atSeconds), 11), 136);
  put("        ", 148);
  put("0", 156);
  put("ustar\x0000", 257);
  put(
    `${octal(
      block.reduce((sum, byte) => sum + byte, 0),
      6,
    )} `,
    148,
  );
  return block;
}
