// SPDX-License-Identifier: Apache-2.0
/**
 * Loads and stores of AArch64: gets one instruction word, gives what it transfers and where, or null for any other word.
 *
 * Covers the general, pair, exclusive, ordered, atomic, pointer-authenticated and SIMD&FP groups. Memory tags, memory
 * copy and set, 64-byte and SVE accesses are not decoded. Source: Arm ARM DDI 0487 J.a, C4.1.94 "Loads and Stores".
 */

/** Register 31 of a transfer is the zero register, of an address the stack pointer. */
export type A64Memory = {
  readonly mnemonic: string;
  readonly access: "read" | "write" | "readWrite" | "prefetch";
  /** Bytes transferred. */
  readonly bytes: number;
  readonly vector: boolean;
  /** General registers that receive what was in memory. */
  readonly loads: readonly number[];
  /** General registers that are stored or combined with memory. */
  readonly stores: readonly number[];
  /** Receives 0 where a store-exclusive succeeded. */
  readonly status: number | null;
  /** True for load-exclusive and store-exclusive. */
  readonly exclusive: boolean;
  /** null: PC-relative, `displacement` is added to the address of the instruction. */
  readonly addressBase: number | null;
  readonly index: number | null;
  readonly extend: "none" | "signed32" | "unsigned32";
  readonly scale: number;
  readonly displacement: bigint;
  /** What is added to the address register afterwards: a constant, a register, or nothing. */
  readonly writeBack: bigint | { readonly register: number } | null;
  /** Width in bits of the transferred general registers, 32 or 64. */
  readonly registerBits: 32 | 64;
};

const field = (word: number, low: number, width: number): number => (word >>> low) & ((1 << width) - 1);
const signedField = (word: number, low: number, width: number): number => (word << (32 - low - width)) >> (32 - width);

type Parts = Partial<A64Memory> & Pick<A64Memory, "mnemonic" | "access" | "bytes">;

function memory(word: number, parts: Parts): A64Memory {
  return {
    vector: false,
    loads: [],
    stores: [],
    status: null,
    exclusive: false,
    addressBase: field(word, 5, 5),
    index: null,
    extend: "none",
    scale: 1,
    displacement: 0n,
    writeBack: null,
    registerBits: 64,
    ...parts,
  };
}

/** @param word the instruction as an unsigned or signed 32-bit number */
export function decodeMemory(word: number): A64Memory | null {
  const access = decodeGroup(word);
  return access === null || isUnpredictable(access, word) ? null : access;
}

/** Transfers that the architecture leaves open (CONSTRAINED UNPREDICTABLE): no compiler emits them. */
function isUnpredictable(access: A64Memory, word: number): boolean {
  const { loads, stores, addressBase, writeBack } = access;
  const isPair = field(word, 27, 3) === 0b101;
  if (isPair && access.access === "read" && field(word, 0, 5) === field(word, 10, 5)) return true;
  if (access.exclusive && loads.length === 2 && loads[0] === loads[1]) return true;
  return (
    writeBack !== null && addressBase !== 31 && addressBase !== null && [...loads, ...stores].includes(addressBase)
  );
}

function decodeGroup(word: number): A64Memory | null {
  if ((word & 0x0a00_0000) !== 0x0800_0000) return isZeroCache(word) ? zeroCache(word) : null;
  const vector = field(word, 26, 1) === 1;
  switch (field(word, 27, 3)) {
    case 0b001:
      if (vector) return structures(word);
      return field(word, 24, 1) === 0 ? exclusive(word) : null;
    case 0b011:
      return field(word, 24, 1) === 0 ? literal(word, vector) : ordered(word, vector);
    case 0b101:
      return pair(word, vector);
    default:
      return single(word, vector);
  }
}

/** DC ZVA, which memset uses: writes a block of zeros whose size the processor knows. */
const isZeroCache = (word: number): boolean => (word & 0xffff_ffe0) >>> 0 === 0xd50b_7420;
const zeroCache = (word: number): A64Memory =>
  memory(word, { mnemonic: "dc zva,", access: "write", bytes: 0, addressBase: field(word, 0, 5) });

const sizeSuffix = ["b", "h", "", ""] as const;

/** Exclusive, ordered and compare-and-swap accesses: bits 29..24 are 001000. */
function exclusive(word: number): A64Memory | null {
  const size = field(word, 30, 2);
  const [o2, load, o1, ordered] = [field(word, 23, 1), field(word, 22, 1), field(word, 21, 1), field(word, 15, 1)];
  const [status, second, first] = [field(word, 16, 5), field(word, 10, 5), field(word, 0, 5)];
  const bytes = 1 << size;
  const registerBits = size === 3 ? 64 : 32;
  const suffix = sizeSuffix[size] ?? "";
  if (o2 === 1 && o1 === 1) {
    if (second !== 31) return null;
    const mnemonic = `cas${load ? "a" : ""}${ordered ? "l" : ""}${suffix}`;
    return memory(word, { mnemonic, access: "readWrite", bytes, registerBits, loads: [status], stores: [first] });
  }
  if (o2 === 1) {
    if (status !== 31 || second !== 31) return null;
    const name = load ? (ordered ? "ldar" : "ldlar") : ordered ? "stlr" : "stllr";
    const transfers = load ? { loads: [first] } : { stores: [first] };
    return memory(word, {
      mnemonic: name + suffix,
      access: load ? "read" : "write",
      bytes,
      registerBits,
      ...transfers,
    });
  }
  if (o1 === 1 && size < 2) return casPair(word);
  if ((load && status !== 31) || (o1 === 0 && second !== 31)) return null;
  const transfers = o1 === 1 ? [first, second] : [first];
  const name = `${load ? "ld" : "st"}${ordered ? (load ? "a" : "l") : ""}x${o1 === 1 ? "p" : "r"}${suffix}`;
  return memory(word, {
    mnemonic: name,
    access: load ? "read" : "write",
    bytes: bytes * transfers.length,
    registerBits,
    exclusive: true,
    ...(load === 1 ? { loads: transfers } : { stores: transfers, status }),
  });
}

function casPair(word: number): A64Memory | null {
  const wide = field(word, 30, 1) === 1;
  const [from, to] = [field(word, 16, 5), field(word, 0, 5)];
  if (field(word, 10, 5) !== 31 || from % 2 === 1 || to % 2 === 1) return null;
  return memory(word, {
    mnemonic: `casp${field(word, 22, 1) ? "a" : ""}${field(word, 15, 1) ? "l" : ""}`,
    access: "readWrite",
    bytes: wide ? 16 : 8,
    registerBits: wide ? 64 : 32,
    loads: [from, from + 1],
    stores: [to, to + 1],
  });
}

/** LD1..LD4 and ST1..ST4 of whole and single structures. */
function structures(word: number): A64Memory | null {
  if (field(word, 31, 1) === 1) return null;
  const postIndex = field(word, 23, 1) === 1;
  const whole = field(word, 24, 1) === 0;
  const shape = whole ? wholeShape(word) : laneShape(word);
  if (shape === null || (!postIndex && field(word, 16, 5) !== 0)) return null;
  if (whole && field(word, 21, 1) === 1) return null;
  const load = field(word, 22, 1) === 1;
  const step = field(word, 16, 5);
  const writeBack = postIndex ? (step === 31 ? BigInt(shape.bytes) : { register: step }) : null;
  const mnemonic = `${load ? "ld" : "st"}${shape.elements}${shape.replicate ? "r" : ""}`;
  return memory(word, { mnemonic, access: load ? "read" : "write", bytes: shape.bytes, vector: true, writeBack });
}

type Shape = { readonly elements: number; readonly bytes: number; readonly replicate: boolean };

function wholeShape(word: number): Shape | null {
  const shapes: Record<number, readonly [elements: number, registers: number]> = {
    0: [4, 4],
    2: [1, 4],
    4: [3, 3],
    6: [1, 3],
    7: [1, 1],
    8: [2, 2],
    10: [1, 2],
  };
  const shape = shapes[field(word, 12, 4)];
  const quad = field(word, 30, 1);
  if (shape === undefined || (shape[0] !== 1 && field(word, 10, 2) === 3 && quad === 0)) return null;
  return { elements: shape[0], bytes: shape[1] * (quad === 1 ? 16 : 8), replicate: false };
}

function laneShape(word: number): Shape | null {
  const opcode = field(word, 13, 3);
  const elements = (((opcode & 1) << 1) | field(word, 21, 1)) + 1;
  const [size, lane] = [field(word, 10, 2), field(word, 12, 1)];
  const scale = opcode >> 1;
  if (scale === 3) {
    const load = field(word, 22, 1) === 1;
    return load && lane === 0 ? { elements, bytes: elements << size, replicate: true } : null;
  }
  if (scale === 1 && (size & 1) === 1) return null;
  const doubles = scale === 2 && size === 1;
  if (scale === 2 && (size > 1 || (doubles && lane === 1))) return null;
  return { elements, bytes: elements << (doubles ? 3 : scale), replicate: false };
}

/** LDR (literal), LDRSW (literal), PRFM (literal). */
function literal(word: number, vector: boolean): A64Memory | null {
  const opc = field(word, 30, 2);
  const displacement = BigInt(signedField(word, 5, 19) * 4);
  const place = { addressBase: null, displacement };
  if (vector) {
    if (opc === 3) return null;
    return memory(word, { mnemonic: "ldr", access: "read", bytes: 4 << opc, vector, ...place });
  }
  if (opc === 3) return memory(word, { mnemonic: "prfm", access: "prefetch", bytes: 0, ...place });
  const registerBits = opc === 0 ? 32 : 64;
  const loads = [field(word, 0, 5)];
  const bytes = opc === 1 ? 8 : 4;
  return memory(word, { mnemonic: opc === 2 ? "ldrsw" : "ldr", access: "read", bytes, registerBits, loads, ...place });
}

/** LDAPUR and STLUR: bits 29..24 are 011001. Tags, memory copy and the SIMD forms are not decoded. */
function ordered(word: number, vector: boolean): A64Memory | null {
  if (vector || field(word, 10, 2) !== 0 || field(word, 21, 1) === 1) return null;
  const plain = integerTransfer(word, field(word, 30, 2), field(word, 22, 2));
  if (plain === null || plain.access === "prefetch") return null;
  const mnemonic = plain.mnemonic.replace("ldr", "ldapur").replace("str", "stlur");
  return { ...plain, mnemonic, displacement: BigInt(signedField(word, 12, 9)) };
}

/** LDP, STP, LDPSW, LDNP, STNP. */
function pair(word: number, vector: boolean): A64Memory | null {
  const opc = field(word, 30, 2);
  const [mode, load] = [field(word, 23, 2), field(word, 22, 1) === 1];
  if (opc === 3) return null;
  const signed = !vector && opc === 1;
  if (signed && (!load || mode === 0)) return null;
  const each = vector ? 4 << opc : opc === 2 ? 8 : 4;
  const distance = BigInt(signedField(word, 15, 7) * each);
  const registers = vector ? [] : [field(word, 0, 5), field(word, 10, 5)];
  return memory(word, {
    mnemonic: `${load ? "ld" : "st"}${mode === 0 ? "n" : ""}p${signed ? "sw" : ""}`,
    access: load ? "read" : "write",
    bytes: each * 2,
    vector,
    registerBits: opc === 0 ? 32 : 64,
    ...(load ? { loads: registers } : { stores: registers }),
    displacement: mode === 1 ? 0n : distance,
    writeBack: mode === 1 || mode === 3 ? distance : null,
  });
}

/** Loads and stores of one register: bits 29..27 are 111. */
function single(word: number, vector: boolean): A64Memory | null {
  const [size, opc] = [field(word, 30, 2), field(word, 22, 2)];
  if (field(word, 24, 1) === 0 && field(word, 21, 1) === 1 && field(word, 10, 2) !== 2) {
    if (vector) return null;
    return field(word, 10, 2) === 0 ? atomic(word, size) : authenticated(word, size);
  }
  const transfer = vector ? vectorTransfer(word, size, opc) : integerTransfer(word, size, opc);
  if (transfer === null) return null;
  const bytes = transfer.access === "prefetch" ? 8 : transfer.bytes;
  if (field(word, 24, 1) === 1) return { ...transfer, displacement: BigInt(field(word, 10, 12) * bytes) };
  if (field(word, 21, 1) === 1) return byRegister(word, transfer, bytes);
  const distance = BigInt(signedField(word, 12, 9));
  const mnemonic = transfer.mnemonic;
  switch (field(word, 10, 2)) {
    case 0: {
      const unscaled = mnemonic.replace(/^(ld|st)r/, "$1ur").replace("prfm", "prfum");
      return { ...transfer, mnemonic: unscaled, displacement: distance };
    }
    case 2: {
      if (vector || transfer.access === "prefetch") return null;
      return { ...transfer, mnemonic: mnemonic.replace(/^(ld|st)r/, "$1tr"), displacement: distance };
    }
    default: {
      if (transfer.access === "prefetch") return null;
      const pre = field(word, 10, 2) === 3;
      return { ...transfer, displacement: pre ? distance : 0n, writeBack: distance };
    }
  }
}

/** [Xn, Xm] and [Xn, Wm, UXTW|SXTW]. */
function byRegister(word: number, transfer: A64Memory, bytes: number): A64Memory | null {
  const option = field(word, 13, 3);
  if ((option & 0b010) === 0) return null;
  const extend = option === 0b010 ? "unsigned32" : option === 0b110 ? "signed32" : "none";
  const index = field(word, 16, 5);
  // Register 31 as an index is the zero register: no index at all.
  return { ...transfer, index: index === 31 ? null : index, extend, scale: field(word, 12, 1) === 1 ? bytes : 1 };
}

function integerTransfer(word: number, size: number, opc: number): A64Memory | null {
  const register = field(word, 0, 5);
  const suffix = sizeSuffix[size] ?? "";
  const bytes = 1 << size;
  if (opc === 0) {
    const registerBits = size === 3 ? 64 : 32;
    return memory(word, { mnemonic: `str${suffix}`, access: "write", bytes, registerBits, stores: [register] });
  }
  if (opc === 1) {
    const registerBits = size === 3 ? 64 : 32;
    return memory(word, { mnemonic: `ldr${suffix}`, access: "read", bytes, registerBits, loads: [register] });
  }
  if (size === 3) return opc === 2 ? memory(word, { mnemonic: "prfm", access: "prefetch", bytes: 0 }) : null;
  if (size === 2 && opc === 3) return null;
  const mnemonic = `ldrs${size === 2 ? "w" : suffix}`;
  return memory(word, { mnemonic, access: "read", bytes, registerBits: opc === 2 ? 64 : 32, loads: [register] });
}

function vectorTransfer(word: number, size: number, opc: number): A64Memory | null {
  if (opc >= 2 && size !== 0) return null;
  const bytes = opc >= 2 ? 16 : 1 << size;
  const load = (opc & 1) === 1;
  return memory(word, { mnemonic: load ? "ldr" : "str", access: load ? "read" : "write", bytes, vector: true });
}

const atomicNames = ["add", "clr", "eor", "set", "smax", "smin", "umax", "umin"] as const;

/** LDADD and its kin, SWP, LDAPR. */
function atomic(word: number, size: number): A64Memory | null {
  const [acquire, release] = [field(word, 23, 1), field(word, 22, 1)];
  const [source, target] = [field(word, 16, 5), field(word, 0, 5)];
  const shape = { bytes: 1 << size, registerBits: (size === 3 ? 64 : 32) as 32 | 64 };
  const suffix = sizeSuffix[size] ?? "";
  const opcode = field(word, 12, 4);
  if (opcode === 0b1100 && acquire === 1 && release === 0 && source === 31) {
    return memory(word, { mnemonic: `ldapr${suffix}`, access: "read", ...shape, loads: [target] });
  }
  const order = `${acquire ? "a" : ""}${release ? "l" : ""}${suffix}`;
  const name = opcode === 0b1000 ? "swp" : opcode < 8 ? `ld${atomicNames[opcode]}` : null;
  if (name === null) return null;
  return memory(word, { mnemonic: name + order, access: "readWrite", ...shape, loads: [target], stores: [source] });
}

/** LDRAA and LDRAB: the address register carries a signature that the processor checks. */
function authenticated(word: number, size: number): A64Memory | null {
  if (size !== 3) return null;
  const distance = BigInt(((field(word, 22, 1) === 1 ? -512 : 0) + field(word, 12, 9)) * 8);
  return memory(word, {
    mnemonic: field(word, 23, 1) === 1 ? "ldrab" : "ldraa",
    access: "read",
    bytes: 8,
    loads: [field(word, 0, 5)],
    displacement: distance,
    writeBack: field(word, 11, 1) === 1 ? distance : null,
  });
}
