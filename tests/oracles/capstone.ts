// SPDX-License-Identifier: Apache-2.0
/**
 * Capstone as an oracle: gets bytes and an address, gives its text, one line an instruction. Bytes it does not know are
 * lines of their own, named `.byte`. @alexaltea/capstone-js 5.0.9: text and sizes are right, its `detail` is empty.
 */
import type { Architecture } from "#fault.ts";

export type Line = {
  readonly offset: number;
  readonly size: number;
  readonly mnemonic: string;
  readonly operands: string;
};
export type Disassemble = (code: Uint8Array, at: number) => readonly Line[];

type Raw = {
  readonly address: number | bigint;
  readonly size: number;
  readonly mnemonic: string;
  readonly op_str: string;
};
type Engine = { disasm(code: Uint8Array, at: number): Raw[]; option(name: number, value: number): void };
type Module = { Capstone: new (architecture: number, mode: number) => Engine } & Record<string, number>;

export async function openCapstone(architecture: Architecture): Promise<Disassemble> {
  const exported = require("@alexaltea/capstone-js") as { default?: () => Promise<Module> } & (() => Promise<Module>);
  const module = await (exported.default ?? exported)();
  const [family, mode] = architecture === "x86_64" ? [module.ARCH_X86, module.MODE_64] : [module.ARCH_ARM64, 0];
  const engine = new module.Capstone(family ?? 0, mode ?? 0);
  engine.option(module.OPT_SKIPDATA ?? 0, module.OPT_ON ?? 1);
  return (code, at) =>
    engine.disasm(code, at).map(({ address, size, mnemonic, op_str }) => ({
      offset: Number(address) - at,
      size,
      mnemonic,
      operands: op_str,
    }));
}
