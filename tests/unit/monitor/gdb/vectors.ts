// SPDX-License-Identifier: Apache-2.0
/**
 * Bytes in the forms that gdbserver 13.1 sends, each with what they mean: written once, used for decoding, encoding, every split,
 * every truncation and every bit flip. And the target descriptions of both architectures.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Frame } from "#monitor/gdb/frame.ts";

export type WireVector = { readonly name: string; readonly bytes: string; readonly frame: Frame };

export const wireVectors: readonly WireVector[] = [
  { name: "OK", bytes: "$OK#9a", frame: { kind: "packet", text: "OK" } },
  { name: "empty", bytes: "$#00", frame: { kind: "packet", text: "" } },
  { name: "error", bytes: "$E01#a6", frame: { kind: "packet", text: "E01" } },
  {
    name: "stop with run lengths",
    bytes: "%Stop:T0006:59a18557e8550* ;07:d045eef7fe7f0* ;10:f2bdf573ab7f0* ;thread:p181a.181a;core:0;#cd",
    frame: {
      kind: "notification",
      text: "Stop:T0006:59a18557e8550000;07:d045eef7fe7f0000;10:f2bdf573ab7f0000;thread:p181a.181a;core:0;",
    },
  },
  {
    name: "registers of a running thread",
    bytes: "$x*}x*}x*k#4b",
    frame: { kind: "packet", text: "x".repeat(97 + 97 + 79) },
  },
  { name: "binary with escapes", bytes: "$l}\x03}]\x00\xff#c5", frame: { kind: "packet", text: "l}\x03}]\x00\xff" } },
  { name: "capital checksum", bytes: "$vCont;c;C;t;s;S;r#BE", frame: { kind: "packet", text: "vCont;c;C;t;s;S;r" } },
  { name: "acknowledgement", bytes: "+", frame: { kind: "ack" } },
  { name: "refusal", bytes: "-", frame: { kind: "nak" } },
];

const vectorPath = (name: string): string => join(import.meta.dir, "../../../vectors/gdb", name);
const vector = (name: string): string => readFileSync(vectorPath(name), "utf8");

export const x86Documents: ReadonlyMap<string, string> = new Map([["target.xml", vector("x86_64.xml")]]);

export const aarch64Documents: ReadonlyMap<string, string> = new Map([
  ["target.xml", vector("aarch64.xml")],
  ...["aarch64-core.xml", "sve-registers.xml", "system-registers.xml"].map((name) => [name, vector(name)] as const),
]);
