// SPDX-License-Identifier: Apache-2.0
/**
 * The same faults in servers of every shape: event loops, threads, processes; TCP, unix sockets, TLS; and the ways in which
 * compilers build them, down to a program without symbols and without unwind information.
 */
import type { Loop, Specimen } from "../specimen.ts";
import { each, survived } from "./memory.ts";

const loops: readonly Specimen[] = (["poll", "select", "threads", "workers"] as const).flatMap((loop: Loop) => [
  ...each("memory.c", ["load"], survived, { name: loop, loop }),
  ...each("aborts.c", ["assert"], survived, { name: loop, loop }),
]);

const forked: readonly Specimen[] = [
  ...each("memory.c", ["load"], { trials: [], culprit: ["cut"], program: "same" }, { name: "fork", loop: "fork" }),
];

const listeners: readonly Specimen[] = [
  ...each("memory.c", ["load"], survived, { name: "unix socket", listen: "unix" }),
  ...each("memory.c", ["load"], survived, { name: "IPv6", listen: "tcp6" }),
  ...each("secure.c", ["load"], survived, {
    name: "TLS",
    listen: "tls",
    build: { source: "secure.c", flags: ["certificate", "-lssl", "-lcrypto"] },
  }),
];

/** Flags, and whether anything is there that shows the way out of a request. */
const ways: readonly (readonly string[])[] = [
  ["-O0"],
  ["-O1"],
  ["-O3"],
  ["-Os"],
  ["-fno-omit-frame-pointer"],
  ["-fomit-frame-pointer"],
  ["-static"],
  ["-static-pie"],
  ["-no-pie", "-fno-pie"],
  ["-flto"],
  ["-fcf-protection=full"],
  ["-fno-plt"],
  ["-mindirect-branch=thunk"],
  ["strip"],
  ["-static", "strip"],
  ["-fno-asynchronous-unwind-tables"],
  ["-fno-asynchronous-unwind-tables", "-O0"],
  ["-fno-asynchronous-unwind-tables", "-fno-omit-frame-pointer", "strip"],
  ["-fno-asynchronous-unwind-tables", "strip"],
  ["musl"],
  ["musl", "-static"],
];

/** Compilers for other processors know none of them. */
const onlyX64: readonly string[] = ["-fcf-protection=full", "-mindirect-branch=thunk"];

const builds: readonly Specimen[] = ways.flatMap((flags) => {
  const only = flags.some((flag) => onlyX64.includes(flag)) ? ({ only: "x64" } as const) : {};
  const builtFrom = (source: string) => ({ name: flags.join(" "), build: { source, flags }, ...only });
  return [
    ...each("memory.c", ["load"], survived, builtFrom("memory.c")),
    ...each("calls.c", ["null"], survived, builtFrom("calls.c")),
    ...each("aborts.c", ["assert"], survived, builtFrom("aborts.c")),
  ];
});

/** No table of commands: the request is called directly, and the outermost frame above the spine is what is abandoned. */
const direct: readonly Specimen[] = [["-DDIRECT"], ["-DDIRECT", "-O0"], ["-DDIRECT", "strip"]].flatMap((flags) => [
  ...each("memory.c", ["load"], survived, { name: flags.join(" "), build: { source: "memory.c", flags } }),
  ...each("aborts.c", ["abort"], survived, { name: flags.join(" "), build: { source: "aborts.c", flags } }),
]);

/** A thread that serves nobody: what it does is abandoned where there is something to abandon. */
const background: readonly Specimen[] = [
  {
    name: "background.c die task",
    build: { source: "background.c" },
    core: true,
    deed: ["die task", "echo on"],
    expected: { trials: ["abandon clean"], culprit: ["said told", "said on"], program: "same" },
  },
  {
    name: "background.c die loop",
    build: { source: "background.c" },
    deed: ["die loop", "echo on"],
    expected: { trials: ["park degraded"], culprit: ["said told", "said on"], program: "same" },
  },
  {
    name: "background.c die abort",
    build: { source: "background.c" },
    deed: ["die abort"],
    expected: { trials: ["park degraded"], culprit: ["said told"], program: "same" },
  },
];

export const serverShapes: readonly Specimen[] = [
  ...loops,
  ...forked,
  ...listeners,
  ...builds,
  ...direct,
  ...background,
];
