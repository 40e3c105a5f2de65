// SPDX-License-Identifier: Apache-2.0
/**
 * Frames found by code alone. Gets the bytes of a function and a stack; gives where its return address is and what its
 * caller's registers were, from the start of the function and on the way to its end.
 */
import { describe, expect, test } from "bun:test";
import { frameFromStart, frameToReturn } from "#binary/x86_64Frame.ts";

const base = 0x1000n;
const [rbx, rbp, rsp, r12] = [3, 6, 7, 12] as const;
const stackAt = 0x7000n;

/** Instructions as hex, each at its own offset; `at(n)` is the address of the n-th. */
function program(...instructions: readonly string[]) {
  const bytes = Uint8Array.fromHex(instructions.join(""));
  const starts = instructions.map((_, index) => instructions.slice(0, index).join("").length / 2);
  const code = (at: bigint): Uint8Array => bytes.subarray(Math.max(0, Number(at - base)));
  return { code, at: (index: number): bigint => base + BigInt(starts[index]!) };
}

/** The stack grows from `stackAt` upwards: eight words with the values 0x100, 0x101 and so on. */
const word = (at: bigint): bigint | null => (at >= stackAt && at < stackAt + 64n ? 0x100n + (at - stackAt) / 8n : null);

const registers = (known: Readonly<Record<number, bigint>>): (bigint | null)[] =>
  Array.from({ length: 17 }, (_, register) => known[register] ?? null);

const pushes = program(
  "55", // push rbp
  "53", // push rbx
  "4883ec10", // sub rsp, 16
  "31db", // xor ebx, ebx
  "e800000000", // call
  "7402", // je over the next
  "31c0", // xor eax, eax
  "4883c410", // add rsp, 16
  "5b", // pop rbx
  "5d", // pop rbp
  "c3", // ret
);

describe("a function that pushes", () => {
  const known = registers({ [rsp]: stackAt, [rbx]: 7n, [r12]: 12n });
  const expected = { returnSlot: stackAt + 32n, rbx: 0x102n, rbp: 0x103n, r12: 12n };
  const shown = (found: ReturnType<typeof frameToReturn>): unknown =>
    found === null
      ? null
      : {
          returnSlot: found.returnSlot,
          ...Object.fromEntries(
            [
              ["rbx", rbx],
              ["rbp", rbp],
              ["r12", r12],
            ].map(([n, r]) => [n, found.restored.get(r as number)]),
          ),
        };

  test("from its start", () => {
    for (const index of [4, 5, 6, 7]) {
      expect(shown(frameFromStart(pushes.at(0), pushes.at(index), known, pushes.code, word))).toEqual(expected);
    }
  });

  test("on the way to its end", () => {
    for (const index of [3, 4, 5, 6, 7]) {
      expect(shown(frameToReturn(pushes.at(index), known, pushes.code, word))).toEqual(expected);
    }
  });

  test("in its first and last instructions", () => {
    const early = registers({ [rsp]: stackAt, [rbx]: 7n, [rbp]: 6n });
    expect(shown(frameFromStart(pushes.at(0), pushes.at(1), early, pushes.code, word))).toMatchObject({
      ...{ returnSlot: stackAt + 8n, rbx: 7n, rbp: 0x100n },
    });
    expect(shown(frameToReturn(pushes.at(10), early, pushes.code, word))).toMatchObject({
      ...{ returnSlot: stackAt, rbx: 7n, rbp: 6n },
    });
  });

  test("not at all from an address that no path leads to", () => {
    expect(frameFromStart(pushes.at(10), pushes.at(4), known, pushes.code, word)).toBeNull();
  });
});

test("a frame pointer finds the way where the stack pointer was aligned", () => {
  const aligned = program(
    "55", // push rbp
    "4889e5", // mov rbp, rsp
    "53", // push rbx
    "4883e4e0", // and rsp, -32
    "e800000000", // call
    "488d65f8", // lea rsp, [rbp-8]
    "5b", // pop rbx
    "c9", // leave
    "c3", // ret
  );
  const known = registers({ [rsp]: stackAt, [rbp]: stackAt + 24n });
  for (const found of [
    frameFromStart(aligned.at(0), aligned.at(4), known, aligned.code, word),
    frameToReturn(aligned.at(4), known, aligned.code, word),
  ]) {
    expect(found?.returnSlot).toBe(stackAt + 32n);
    expect(found?.restored.get(rbp)).toBe(0x103n);
    expect(found?.restored.get(rbx)).toBe(0x102n);
  }
});

test("registers that are saved by a move, and one that is changed before it is stored", () => {
  const moves = program(
    "4883ec18", // sub rsp, 24
    "48895c2408", // mov [rsp+8], rbx
    "4531e4", // xor r12d, r12d
    "4c89642410", // mov [rsp+16], r12
    "90",
  );
  const found = frameFromStart(moves.at(0), moves.at(4), registers({ [rsp]: stackAt, [r12]: 1n }), moves.code, word);
  expect(found?.returnSlot).toBe(stackAt + 24n);
  expect(found?.restored.get(rbx)).toBe(0x101n);
  expect(found?.restored.get(r12)).toBeNull();
});

test("code that never ends, that jumps anywhere, or that is none, leads nowhere", () => {
  const known = registers({ [rsp]: stackAt });
  for (const hex of ["ebfe", "ffe0", "0f0b", "06", ""]) {
    const { code, at } = program(hex);
    expect(frameToReturn(at(0), known, code, word)).toBeNull();
  }
});
