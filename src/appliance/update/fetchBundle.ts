// SPDX-License-Identifier: Apache-2.0
/**
 * Fetches a bundle over HTTPS into a file, and believes it only by its hash. Gets address, hash and path; a bundle that is
 * there already, whole, is not fetched again. What was begun and not ended is removed.
 *
 * Limits: `bundleBytesMax`, and `freeBytesMin` of the disk stay free; `silenceMs` without a byte.
 */
import { createHash } from "node:crypto";
import { createReadStream, rmSync, statfsSync } from "node:fs";
import { open, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { deadline } from "#clock.ts";
import { HoldfastError, UpdateError } from "#errors.ts";

export const bundleBytesMax = 2 * 1024 ** 3;
const silenceMs = 60_000;
const freeBytesMin = 64 * 1024 ** 2;

export type FetchOrder = {
  readonly url: string;
  /** In hex. */
  readonly sha256: string;
  readonly path: string;
  /** Certificates to believe, in PEM; left out: those that everybody believes. */
  readonly authority?: Uint8Array | string | undefined;
};

/** @throws UpdateError update.fetch */
export async function fetchBundle(
  { url, sha256, path, authority }: FetchOrder,
  signal: AbortSignal,
  progress: (part: number) => void,
): Promise<void> {
  if ((await hashOf(path)) === sha256) return;
  const part = `${path}.part`;
  try {
    const found = await fetchInto(part, url, authority, signal, progress);
    if (found !== sha256) {
      throw new UpdateError("update.fetch", "what was fetched is not the bundle that was meant", { found, sha256 });
    }
    await rename(part, path);
  } catch (error) {
    rmSync(part, { force: true });
    signal.throwIfAborted();
    if (error instanceof HoldfastError) throw error;
    throw new UpdateError("update.fetch", `cannot fetch ${new URL(url).origin}`, {}, error);
  }
}

async function fetchInto(
  part: string,
  url: string,
  authority: FetchOrder["authority"],
  signal: AbortSignal,
  progress: (part: number) => void,
): Promise<string> {
  const silent = (): UpdateError => new UpdateError("update.fetch", `nothing came for ${silenceMs} ms`);
  let patience = deadline(silenceMs, silent, signal);
  const ended = new AbortController();
  const end = (): void => ended.abort(patience.signal.reason);
  patience.signal.addEventListener("abort", end, { once: true });
  try {
    const tls = authority === undefined ? {} : { tls: { ca: Buffer.from(authority).toString() } };
    const answer = await fetch(url, { signal: ended.signal, redirect: "error", ...tls });
    if (!answer.ok || answer.body === null) throw new UpdateError("update.fetch", `the server says ${answer.status}`);
    const length = Number(answer.headers.get("content-length") ?? 0);
    const room = Math.min(bundleBytesMax, roomAt(dirname(part)));
    if (length > room) throw tooLarge(length, room);
    const file = await open(part, "w", 0o600);
    try {
      const hash = createHash("sha256");
      let bytes = 0;
      for await (const chunk of answer.body) {
        patience[Symbol.dispose]();
        patience = deadline(silenceMs, silent, signal);
        patience.signal.addEventListener("abort", end, { once: true });
        bytes += chunk.length;
        if (bytes > room) throw tooLarge(bytes, room);
        hash.update(chunk);
        await file.write(chunk);
        if (length > 0) progress(bytes / length);
      }
      await file.sync();
      return hash.digest("hex");
    } finally {
      await file.close();
    }
  } finally {
    patience[Symbol.dispose]();
  }
}

/** null where there is none. */
async function hashOf(path: string): Promise<string | null> {
  const hash = createHash("sha256");
  try {
    for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
    return hash.digest("hex");
  } catch {
    return null; // Not there, or unreadable: it is fetched.
  }
}

function roomAt(directory: string): number {
  const { bavail, bsize } = statfsSync(directory);
  return Math.max(0, bavail * bsize - freeBytesMin);
}

const tooLarge = (bytes: number, room: number): UpdateError =>
  new UpdateError("update.fetch", "the bundle is too large for this box", { bytes, room });
