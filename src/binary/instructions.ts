// SPDX-License-Identifier: Apache-2.0
/** The instruction set of an architecture. Free: iced-x86 is loaded by the first x86-64 instruction, not here. */
import type { Architecture } from "#fault.ts";
import { aarch64 } from "./aarch64.ts";
import type { InstructionSet } from "./instructionSet.ts";
import { x86_64 } from "./x86_64.ts";

const sets: Record<Architecture, InstructionSet> = { x86_64, aarch64 };

export const instructionsOf = (architecture: Architecture): InstructionSet => sets[architecture];
