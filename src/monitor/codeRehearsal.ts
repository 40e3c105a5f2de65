// SPDX-License-Identifier: Apache-2.0
/**
 * Reads a few random places of the program's code as the fault path would, so that the decoders are compiled and have met
 * more than the few frames of waiting threads. Gets a code map and randomness; gives nothing.
 */
import type { CodeMap } from "#binary/codeMap.ts";
import { segmentFlags, segmentTypes } from "#binary/elfLayout.ts";
import type { InstructionSet } from "#binary/instructionSet.ts";
import type { Random } from "#clock.ts";
import { address } from "#fault.ts";
import type { CallSites } from "./callSites.ts";

const placesPerRound = 4;
const searchedBytes = 256;

export function rehearseCode(map: CodeMap, instructions: InstructionSet, callSites: CallSites, random: Random): void {
  for (let place = 0; place < placesPerRound; place += 1) {
    const module = map.modules[Math.floor(random() * map.modules.length)];
    const code = module?.image.layout.segments.find(
      ({ type, flags }) => type === segmentTypes.load && (flags & segmentFlags.execute) !== 0,
    );
    if (module === undefined || code === undefined) continue;
    const fde = module.image.fdeAt(code.offset + Math.floor(random() * code.memoryBytes));
    if (fde === null) continue;
    const bytes = module.image.codeAt(fde.start, Math.min(searchedBytes, fde.end - fde.start));
    instructions.faulting(bytes, module.bias + BigInt(fde.start));
    module.image.rowAt(fde.start + Math.floor(random() * (fde.end - fde.start)));
    for (let offset = fde.start; offset < fde.start + bytes.length; offset += 1) {
      const returnAddress = address(module.bias + BigInt(offset));
      if (map.callBefore(Number(returnAddress)) === null) continue;
      map.symbolAt(returnAddress);
      callSites.at(returnAddress, map);
      break;
    }
  }
}
