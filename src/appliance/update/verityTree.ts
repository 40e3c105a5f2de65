// SPDX-License-Identifier: Apache-2.0
/**
 * Whether a bundle's payload is what was signed: its dm-verity tree is computed and the root compared, before anything is
 * written. The kernel checks the same while it is installed, but then the other slot is overwritten already.
 *
 *     payload │ hash tree │ CMS signature, the manifest in it │ size of the signature, 8 bytes, big end first
 *
 * Gets a bundle whose signature was verified; reads it once, and lets others run between pieces. Limits: `manifestBytesMax`.
 * Source: RAUC's docs/reference.rst (bundle format verity); the kernel's verity.rst (version 1, SHA-256, blocks of 4,096).
 */
import { createHash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { UpdateError } from "#errors.ts";

const blockBytes = 4096;
const digestBytes = 32;
const manifestBytesMax = 256 * 1024;
/** Hashed without a pause: about 10 ms on a small core. */
const pieceBlocks = 256;

type Signed = { readonly root: string; readonly salt: Buffer; readonly payloadBytes: number };

/** @throws UpdateError update.bundle where it is damaged, short, or no verity bundle */
export async function checkPayload(path: string, signal: AbortSignal): Promise<void> {
  const file = await open(path, "r");
  try {
    const { root, salt, payloadBytes } = await readSigned(file);
    const found = await rootOf(file, payloadBytes, salt, signal);
    if (found !== root) {
      throw new UpdateError("update.bundle", "the bundle is damaged: its content is not what was signed", {
        found,
        root,
      });
    }
  } finally {
    await file.close();
  }
}

async function readSigned(file: FileHandle): Promise<Signed> {
  const { size } = await file.stat();
  const signatureBytes = Number((await readAt(file, size - 8, 8)).readBigUInt64BE());
  if (signatureBytes > manifestBytesMax || signatureBytes >= size - 8) throw notVerity("its end is damaged");
  const signature = (await readAt(file, size - 8 - signatureBytes, signatureBytes)).toString("latin1");
  const word = (name: string, pattern: string): string => {
    const found = new RegExp(`^${name}=(${pattern})$`, "m").exec(signature)?.[1];
    if (found === undefined) throw notVerity(`its manifest has no ${name}`);
    return found;
  };
  const treeBytes = Number(word("verity-size", "\\d{1,15}"));
  const payloadBytes = size - 8 - signatureBytes - treeBytes;
  if (payloadBytes <= 0 || payloadBytes % blockBytes !== 0) throw notVerity("its parts do not fit its length");
  return {
    root: word("verity-hash", "[0-9a-f]{64}"),
    salt: Buffer.from(word("verity-salt", "([0-9a-f]{2}){1,128}"), "hex"),
    payloadBytes,
  };
}

async function rootOf(file: FileHandle, payloadBytes: number, salt: Buffer, signal: AbortSignal): Promise<string> {
  let level = Buffer.alloc((payloadBytes / blockBytes) * digestBytes);
  for (let at = 0; at < payloadBytes; at += pieceBlocks * blockBytes) {
    signal.throwIfAborted();
    const piece = await readAt(file, at, Math.min(pieceBlocks * blockBytes, payloadBytes - at));
    hashBlocks(piece, salt).copy(level, (at / blockBytes) * digestBytes);
  }
  while (level.length > digestBytes) {
    const padded = Buffer.alloc(Math.ceil(level.length / blockBytes) * blockBytes);
    level.copy(padded);
    level = hashBlocks(padded, salt);
  }
  return level.toString("hex");
}

function hashBlocks(blocks: Buffer, salt: Buffer): Buffer<ArrayBuffer> {
  const digests = Buffer.alloc((blocks.length / blockBytes) * digestBytes);
  for (let at = 0; at < blocks.length; at += blockBytes) {
    const digest = createHash("sha256")
      .update(salt)
      .update(blocks.subarray(at, at + blockBytes))
      .digest();
    digest.copy(digests, (at / blockBytes) * digestBytes);
  }
  return digests;
}

async function readAt(file: FileHandle, at: number, bytes: number): Promise<Buffer<ArrayBuffer>> {
  if (at < 0) throw notVerity("it is too short");
  const buffer = Buffer.alloc(bytes);
  const { bytesRead } = await file.read(buffer, 0, bytes, at);
  if (bytesRead !== bytes) throw notVerity("it ends too soon");
  return buffer;
}

const notVerity = (why: string): UpdateError =>
  new UpdateError("update.bundle", `this is no whole update bundle: ${why}`);
