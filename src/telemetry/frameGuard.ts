// SPDX-License-Identifier: Apache-2.0
/**
 * Watches the bytes a broker sends for a packet above our limit, before anything collects it. Gets chunks in any split;
 * says no at the first head that announces too much. Source: MQTT 5.0, section 2.1.4 (remaining length: 1 to 4 bytes).
 *
 *     head ──byte──▶ length ──last byte──▶ body ──all skipped──▶ head
 */
export class FrameGuard {
  #part: "head" | "length" | "body" = "head";
  #left = 0;
  #shift = 0;

  constructor(private readonly packetBytesMax: number) {}

  /** False once a packet is too large or its length malformed; after that, always false. */
  accepts(chunk: Uint8Array): boolean {
    for (let at = 0; at < chunk.length; ) {
      if (this.#part === "body") {
        const skipped = Math.min(this.#left, chunk.length - at);
        at += skipped;
        this.#left -= skipped;
        if (this.#left === 0) this.#part = "head";
        continue;
      }
      const byte = chunk[at]!;
      at += 1;
      if (this.#part === "head") {
        this.#part = "length";
        this.#left = 0;
        this.#shift = 0;
        continue;
      }
      this.#left += (byte & 0x7f) * 2 ** this.#shift;
      this.#shift += 7;
      if (this.#left > this.packetBytesMax || (this.#shift > 21 && byte > 0x7f)) {
        this.#left = Number.POSITIVE_INFINITY;
        this.#part = "body";
      } else if (byte <= 0x7f) this.#part = this.#left === 0 ? "head" : "body";
    }
    return this.#left !== Number.POSITIVE_INFINITY;
  }
}
