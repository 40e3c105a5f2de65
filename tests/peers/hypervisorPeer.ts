#!/usr/bin/env bun
// SPDX-License-Identifier: Apache-2.0
/**
 * A program that speaks as Cloud Hypervisor does: REST on its API socket, events to descriptor 3, a guest that prints.
 *
 * Started with the same arguments. `peer.json` in its working directory scripts it: version, calls that hang, refuse,
 * answer garbage or end the process. Its answers and refusals are those of v53.0, recorded from the real one by the
 * contract test (tests/real/hypervisorContract.test.ts), which both must pass.
 */
import { existsSync, readFileSync, writeSync } from "node:fs";
import { systemClock } from "#clock.ts";
import { PeerTerminal } from "./peerTerminal.ts";

type Script = {
  readonly version?: string;
  readonly buildVersion?: string;
  readonly hang?: readonly string[];
  readonly garbage?: readonly string[];
  readonly refuse?: readonly string[];
  readonly dieOn?: readonly string[];
  /** Ends at once with a message in the log, as for a bad argument. */
  readonly failAtStart?: string;
  /** Events written once booted, as they would be on the wire. */
  readonly afterBoot?: readonly { readonly source: string; readonly event: string; readonly properties?: object }[];
  /** What the guest prints once booted. */
  readonly prints?: string;
};
type State = "none" | "Created" | "Running" | "Paused";
type Refusal = { readonly status: number; readonly chain: readonly string[] };

const script: Script = existsSync("peer.json") ? JSON.parse(readFileSync("peer.json", "utf8")) : {};
const startNs = BigInt(systemClock.monotonicNs());
let state: State = "none";
// biome-ignore lint/suspicious/noExplicitAny: any JSON that a client sends
let config: any = null;
let serial: PeerTerminal | null = null;

const argumentAfter = (name: string): string => process.argv[process.argv.indexOf(name) + 1] ?? "";

function emit(source: string, event: string, properties: object | null = null): void {
  const nanos = Number(BigInt(systemClock.monotonicNs()) - startNs);
  const timestamp = { secs: Math.floor(nanos / 1e9), nanos: nanos % 1e9 };
  writeSync(3, `${JSON.stringify({ timestamp, source, event, properties }, null, 2)}\n\n`);
}

/** First message of the refusal of each call, and where it is not "VM is not running", the one for no VM at all. */
const messages: Readonly<Record<string, readonly [string, string?, number?]>> = {
  "vm.info": ["The VM info is not available", "VM is not created", 404],
  "vm.counters": ["The VM info is not available"],
  "vm.create": ["The VM could not be created"],
  "vm.boot": ["The VM could not boot", "VM config is missing", 404],
  "vm.pause": ["The VM could not be paused"],
  "vm.resume": ["The VM could not resume"],
  "vm.shutdown": ["The VM could not shutdown"],
  "vm.reboot": ["The VM could not reboot", "VM is not created", 404],
  "vm.power-button": ["Error triggering power button"],
  "vm.resize": ["The VM could not be resized", "VM is not created", 404],
  "vm.add-disk": ["The disk could not be added to the VM", "VM is not created", 404],
  "vm.add-net": ["The network device could not be added to the VM", "VM is not created", 404],
  "vm.remove-device": ["The device could not be removed from the VM", "VM is not created", 404],
  "vm.snapshot": ["The VM could not be snapshotted"],
  "vm.restore": ["The VM could not be restored"],
};

function refuse(call: string, last?: string, status = 500): Refusal {
  const [first, noVm, noVmStatus] = messages[call] ?? ["Error"];
  if (last !== undefined) return { status, chain: ["Error from API", first, last] };
  return { status: noVmStatus ?? 500, chain: ["Error from API", first, noVm ?? "VM is not running"] };
}

const booted = (): boolean => state === "Running" || state === "Paused";

const transition = (call: string, verb: string, to: string): Refusal => ({
  status: 500,
  chain: [
    "Error from API",
    messages[call]![0],
    `Cannot ${verb} VM`,
    `Failed to ${verb} migratable component`,
    `Invalid transition: InvalidStateTransition(${state}, ${to})`,
  ],
});

function boot(): void {
  emit("vm", "booting");
  openSerial();
  state = "Running";
  emit("vm", "booted");
  for (const { source, event, properties } of script.afterBoot ?? []) emit(source, event, properties ?? null);
}

function openSerial(): void {
  if (config?.serial?.mode !== "Pty") return;
  serial = new PeerTerminal();
  config.serial.file = serial.path;
  serial.print(script.prints ?? "A\nF\n.........\n");
}

function closeVm(): void {
  serial?.close();
  serial = null;
}

// biome-ignore lint/suspicious/noExplicitAny: any JSON that a client sends
type Act = (body: any) => Refusal | object | undefined;
const acts: Readonly<Record<string, Act>> = {
  "vmm.ping": () => ({
    build_version: script.buildVersion ?? "v53.0",
    version: script.version ?? "53.0.0",
    pid: process.pid,
    features: ["io_uring", "kvm"],
  }),
  "vmm.shutdown": () => end(),
  "vm.info": () =>
    state === "none" ? refuse("vm.info") : { config, state, memory_actual_size: config.memory.size, device_tree: null },
  "vm.counters": () => (booted() ? {} : refuse("vm.counters")),
  "vm.create": (body) => {
    if (state !== "none") return refuse("vm.create", "VM is already created");
    config = body;
    state = "Created";
    return undefined;
  },
  "vm.delete": () => remove(),
  "vm.boot": () => {
    if (state === "none") return refuse("vm.boot");
    if (state !== "Created") return refuse("vm.boot", "VM is already created");
    if (!existsSync(config.payload.kernel ?? config.payload.firmware ?? "")) {
      return refuse("vm.boot", "Cannot open the kernel image: No such file or directory (os error 2)");
    }
    boot();
    return undefined;
  },
  "vm.pause": () => {
    if (!booted()) return refuse("vm.pause");
    if (state === "Paused") return transition("vm.pause", "pause", "Paused");
    emit("vm", "pausing");
    state = "Paused";
    emit("vm", "paused");
    return undefined;
  },
  "vm.resume": () => {
    if (!booted()) return refuse("vm.resume");
    if (state === "Running") return transition("vm.resume", "resume", "Running");
    emit("vm", "resuming");
    state = "Running";
    emit("vm", "resumed");
    return undefined;
  },
  "vm.shutdown": () => {
    if (!booted()) return refuse("vm.shutdown");
    shutdown();
    return undefined;
  },
  "vm.reboot": () => {
    if (!booted()) return refuse("vm.reboot");
    emit("vm", "rebooting");
    closeVm();
    openSerial();
    state = "Running";
    emit("vm", "rebooted");
    return undefined;
  },
  "vm.power-button": () => (booted() ? undefined : refuse("vm.power-button")),
  "vm.resize": () => (state === "none" ? refuse("vm.resize") : undefined),
  "vm.add-disk": (body) => add("vm.add-disk", body.id ?? "_disk0"),
  "vm.add-net": (body) => add("vm.add-net", body.id ?? "_net0"),
  "vm.remove-device": (body) => {
    if (state === "none") return refuse("vm.remove-device");
    if (!booted()) return refuse("vm.remove-device", `No device with id "${body.id}" to remove`);
    const { status, chain } = refuse("vm.remove-device", "Error from device manager");
    return { status, chain: [...chain, `Failed to find device corresponding to the given identifier: ${body.id}`] };
  },
  "vm.snapshot": () => {
    if (!booted()) return refuse("vm.snapshot");
    const { status, chain } = refuse("vm.snapshot", "Cannot snapshot VM");
    const why = state === "Running" ? "Trying to snapshot while VM is running" : "Could not get vCPU state";
    return { status, chain: [...chain, "Failed to snapshot migratable component", why] };
  },
  "vm.restore": () => refuse("vm.restore", state === "none" ? "Cannot restore VM" : "VM is already created"),
};

const add = (call: string, id: string): Refusal | object | undefined =>
  state === "none" ? refuse(call) : booted() ? { id, bdf: "0000:00:02.0" } : undefined;

function shutdown(): void {
  closeVm();
  state = "Created";
  emit("vm", "shutdown");
}

function remove(): undefined {
  if (state === "none") return;
  if (booted()) shutdown();
  state = "none";
  config = null;
  emit("vm", "deleted");
}

function end(): undefined {
  remove();
  emit("vmm", "shutdown");
  // After the answer has gone out.
  server.stop(false).then(() => process.exit(0));
}

async function answer(request: Request): Promise<Response> {
  const call = new URL(request.url).pathname.replace("/api/v1/", "");
  const text = await request.text();
  if (script.dieOn?.includes(call)) process.kill(process.pid, "SIGKILL");
  if (script.hang?.includes(call)) return await new Promise<never>(() => {});
  if (script.garbage?.includes(call)) return new Response('{"version": ');
  const reply = (status: number, chain: readonly string[]): Response => Response.json(chain, { status });
  if (script.refuse?.includes(call)) return reply(500, ["Error from API", "As the script says"]);
  const act = acts[call];
  if (act === undefined) return reply(404, ["Not Found"]);
  try {
    const result = act(text === "" ? undefined : JSON.parse(text));
    if (result === undefined) return new Response(null, { status: call === "vmm.shutdown" ? 200 : 204 });
    if ("chain" in result && "status" in result) return reply(Number(result.status), result.chain as string[]);
    return Response.json(result);
  } catch {
    return reply(400, ["Failed to deserialize JSON", "EOF while parsing a value at line 1 column 5"]);
  }
}

if (script.failAtStart !== undefined) {
  console.error(`Error: Cloud Hypervisor exited with the following chain of errors:\n  0: ${script.failAtStart}`);
  process.exit(1);
}
emit("vmm", "starting");
const server = Bun.serve({ unix: argumentAfter("--api-socket").replace("path=", ""), fetch: answer });
process.on("SIGTERM", () => end());
