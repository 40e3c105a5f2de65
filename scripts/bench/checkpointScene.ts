// SPDX-License-Identifier: Apache-2.0
/**
 * What the benchmarks of checkpoints and restores share: a guest of known content on the real Cloud Hypervisor, its serial
 * line, checkpoints of it, and the times that Cloud Hypervisor itself tells.
 *
 * The hypervisor is `--seccomp log` with the answer of tests/peers/nestedState.c, so that it runs on hosts with nested KVM.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import { assert } from "#errors.ts";
import type { CheckpointMethod } from "#restoration/checkpointHead.ts";
import { Checkpoints } from "#restoration/checkpoints.ts";
import type { Held, Sealed } from "#restoration/takeCheckpoint.ts";
import { snapshotHypervisor } from "#tests/peers/snapshotHypervisor.ts";
import { Hypervisor } from "#vm/hypervisor.ts";
import { MonitorFrames } from "#vm/monitorEvent.ts";
import { pageBytes } from "#vm/offload/guestRam.ts";
import { RunDirectory } from "#vm/runDirectory.ts";
import { SerialConsole } from "#vm/serialConsole.ts";
import type { VmConfig } from "#vm/vmConfig.ts";

export const mebibyte = 1 << 20;
const fillFrom = 16 * mebibyte;

export type GuestShape = {
  readonly memoryMiB: number;
  readonly fillMiB: number;
  readonly dirtyMiB: number;
  readonly workPages: number;
  readonly shared: boolean;
  /** A file for what it says: it then looks at its work pages all the time, and cannot be asked. */
  readonly tells?: string;
};

/** Builds the guest's program with these numbers in it. */
export function buildGuest(directory: string, { fillMiB, dirtyMiB, workPages, tells }: GuestShape): string {
  const [object, file] = [join(directory, "guest.o"), join(directory, `guest-${fillMiB}-${dirtyMiB}.elf`)];
  writeFileSync(join(directory, "fill.bin"), fillOf(fillMiB * 256));
  const defines = {
    FILL_PAGES: fillMiB * 256,
    DIRTY_PAGES: dirtyMiB * 256,
    WORK_PAGES: workPages,
    TELLS: tells ? 1 : 0,
  };
  const words = Object.entries(defines).map(([name, value]) => `-Wa,--defsym,${name}=${value}`);
  run("gcc", "-c", ...words, `-I${directory}`, join(import.meta.dir, "checkpointGuest.S"), "-o", object);
  run("ld", "-n", "--no-warn-rwx-segments", "-T", join(import.meta.dir, "checkpointGuest.ld"), object, "-o", file);
  return file;
}

/** Half of each page is noise, so that it packs about as well as the memory of programs. */
function fillOf(pages: number): Uint8Array {
  const bytes = new Uint8Array(pages * pageBytes);
  const view = new DataView(bytes.buffer);
  const noise = new Uint32Array(pageBytes / 8);
  for (let page = 0; page < pages; page += 1) {
    crypto.getRandomValues(noise);
    bytes.set(new Uint8Array(noise.buffer), page * pageBytes);
    view.setUint32(page * pageBytes, fillFrom + page * pageBytes, true);
  }
  return bytes;
}

function run(...command: string[]): void {
  const { exitCode, stderr } = Bun.spawnSync(command);
  assert(exitCode === 0, `${command[0]} failed: ${stderr}`);
}

export const configOf = (kernel: string, { memoryMiB, shared, tells }: GuestShape): VmConfig => ({
  payload: { kernel },
  cpus: { boot_vcpus: 1, max_vcpus: 1 },
  memory: { size: memoryMiB * mebibyte, shared, thp: false },
  serial: tells === undefined ? { mode: "Pty" } : { mode: "File", file: tells },
  console: { mode: "Off" },
});

/** One process of Cloud Hypervisor with a serial line to its guest. */
export class Machine implements AsyncDisposable {
  readonly #lines: AsyncGenerator<string>;
  readonly #serial: SerialConsole;

  private constructor(
    readonly hypervisor: Hypervisor,
    readonly directory: RunDirectory,
  ) {
    this.#serial = new SerialConsole(() => hypervisor.terminal(), directory.console, systemClock);
    this.#lines = this.#serial.lines();
  }

  static async launch(place: string): Promise<Machine> {
    const directory = new RunDirectory(place);
    const hypervisor = await Hypervisor.launch({ directory, clock: systemClock, program: snapshotHypervisor() });
    return new Machine(hypervisor, directory);
  }

  /** Resolves once it prints this line. */
  async hear(line: string): Promise<void> {
    for (;;) {
      const { value, done } = await this.#lines.next();
      assert(done !== true, `the guest ended before it said ${line}`);
      assert(value !== "X", "the guest saw a wrong page");
      if (value === line) return;
    }
  }

  /** Types a key, again and again until the line is open; resolves once it is answered. */
  async ask(key: string, answer: string): Promise<void> {
    while (!this.#serial.write(key)) await systemClock.sleep(1);
    await this.hear(answer);
  }

  /** Its guest waits for keys by asking for them all the time: one that is not measured now must stand still. */
  async during<Value>(act: () => Promise<Value>): Promise<Value> {
    if (this.hypervisor.state.kind === "paused") await this.hypervisor.call("vm.resume");
    try {
      return await act();
    } finally {
      await this.hypervisor.call("vm.pause");
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.hypervisor.kill();
    await this.#serial[Symbol.asyncDispose]();
    await this.hypervisor[Symbol.asyncDispose]();
  }
}

export class Scene implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), "bench-checkpoint-"));
  readonly checkpoints: Checkpoints;
  #count = 0;

  constructor() {
    const state = join(this.path, "state");
    mkdirSync(state);
    this.checkpoints = new Checkpoints(state, systemClock);
  }

  place(name: string): string {
    this.#count += 1;
    return join(this.path, `${name}${this.#count}`);
  }

  async boot(shape: GuestShape): Promise<Machine> {
    const machine = await Machine.launch(this.place("m"));
    await machine.hypervisor.call("vm.create", configOf(buildGuest(this.path, shape), shape));
    await machine.hypervisor.call("vm.boot");
    if (shape.tells === undefined) await machine.hear("ready");
    else await told(shape.tells);
    return machine;
  }

  async take(machine: Machine, method: CheckpointMethod, guest = "bench", downtimeMs = 5): Promise<Held & Sealed> {
    const { hypervisor, directory } = machine;
    const out = join(directory.path, "out.sock");
    const id = this.checkpoints.newId(guest);
    const order = { id, guest, atMs: systemClock.wallMs(), build: hypervisor.version.name, method, socket: out };
    const rest = { hypervisorPid: hypervisor.pid, owner: null, disks: [], cloneDirectory: "", heldMsMax: 10_000 };
    const how =
      method === "memoryFile"
        ? { local: true }
        : { downtime_ms: downtimeMs, timeout_s: 30, timeout_strategy: "Cancel" as const };
    return await this.checkpoints.take(
      { ...order, ...rest },
      async () => void (await hypervisor.call("vm.send-migration", { destination_url: "unix:out.sock", ...how })),
      async () => {
        while ((await hypervisor.look()).kind !== "running") await systemClock.sleep(2);
      },
    );
  }

  [Symbol.dispose](): void {
    this.checkpoints[Symbol.dispose]();
    rmSync(this.path, { recursive: true, force: true });
  }
}

/**
 * Resolves once a guest that tells has looked at all its work pages. The file is made anew by whoever starts it; a terminal
 * would not do, for Cloud Hypervisor looks only every 500 ms whether somebody listens there.
 */
export async function told(file: string): Promise<void> {
  // The first may end a look that began before the checkpoint.
  for (let text = ""; text.split("A\n").length < 3; text = readFileSync(file, "latin1")) {
    assert(!text.includes("X"), "the guest saw a wrong page");
    await systemClock.sleep(1);
  }
}

/** How long the guest stood still the last time, by Cloud Hypervisor's own clock, ms. */
export async function lastPauseMs({ directory }: Machine): Promise<number> {
  const text = await Bun.file(directory.events).text();
  const events = new MonitorFrames().push(Buffer.from(text));
  const resumed = events.findLast(({ kind }) => kind === "vm.resumed");
  const pausing = events.findLast(({ kind }) => kind === "vm.pausing");
  assert(resumed !== undefined && pausing !== undefined, "no pause was told");
  return resumed.sinceStartMs - pausing.sinceStartMs;
}
