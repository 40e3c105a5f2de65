// SPDX-License-Identifier: Apache-2.0
/**
 * What only looks like survival: a program that is alive after the act and serves nobody, or ends a moment later. The
 * verdict must be `failed`. Bystanders do fare ill here, and the point is that nobody claims otherwise.
 */
import type { Specimen } from "../specimen.ts";

const zombie = (word: string, program: string, changes: Partial<Specimen> = {}): Specimen => ({
  name: `zombie.c die ${word}`,
  build: { source: "zombie.c" },
  deed: [`die ${word}`],
  expected: { trials: ["request failed"], culprit: ["lost"], program },
  ...changes,
});

export const falseHopes: readonly Specimen[] = [
  zombie("exit", "code 3"),
  zombie("busy", "unserved"),
  {
    name: "library.c die print, and a log that all need stays locked",
    build: { source: "library.c", flags: ["-DLOGGED"] },
    loop: "workers",
    deed: ["die print"],
    expected: { trials: ["request degraded"], culprit: ["lost"], program: "same" },
    yet: {
      trials: ["request failed"],
      culprit: ["lost"],
      program: "unserved",
      missing: "the release of the C library's own locks",
    },
  },
  zombie("sleep", "unserved"),
  zombie("mute", "unserved"),
  zombie("lock", "same", {
    expected: { trials: ["request degraded"], culprit: ["lost"], program: "same" },
  }),
];
