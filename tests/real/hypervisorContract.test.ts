// SPDX-License-Identifier: Apache-2.0
/**
 * One contract for the scripted peer and for the real Cloud Hypervisor: every call in every state answers alike, and the
 * lifecycle machine allows exactly what is accepted.
 */
import { afterAll, describe, expect } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import { HypervisorError } from "#errors.ts";
import { realGuest, tinyGuest } from "#tests/peers/tinyGuest.ts";
import { missing, type NeededTest, need } from "#tests/skip.ts";
import { findProcess } from "#vm/foundProcess.ts";
import { Hypervisor } from "#vm/hypervisor.ts";
import { illegal } from "#vm/lifecycle.ts";
import { type CallName, routes } from "#vm/restCalls.ts";
import { RestClient } from "#vm/restClient.ts";
import { RunDirectory } from "#vm/runDirectory.ts";
import type { VmConfig } from "#vm/vmConfig.ts";

const top = mkdtempSync(join(tmpdir(), "contract-"));
afterAll(() => {
  // What a failed test left behind.
  for (let round = 1; round <= rounds; round += 1) {
    const left = findProcess(new RunDirectory(join(top, `${round}`)));
    if (left !== null) process.kill(left.pid, "SIGKILL");
  }
  rmSync(top, { recursive: true, force: true });
});
let rounds = 0;
/** The scripted peer wants a file and does not read it. */
const kernel = realGuest.every((item) => missing(item) === null) ? tinyGuest() : import.meta.path;

const states = ["empty", "created", "running", "paused"] as const;
/** Calls that end in a refusal for reasons of the host, not of the state. */
const hostBound: readonly CallName[] = ["vm.snapshot", "vm.restore", "vm.remove-device"];
/** Not spoken by the scripted peer. */
const unscripted: readonly CallName[] = ["vm.add-device", "vm.add-vsock", "vm.send-migration", "vm.receive-migration"];

const configured: VmConfig = {
  payload: { kernel },
  cpus: { boot_vcpus: 1, max_vcpus: 1 },
  memory: { size: 128 << 20, shared: true, thp: false },
  serial: { mode: "Pty" },
  console: { mode: "Off" },
};

// biome-ignore lint/suspicious/noExplicitAny: one table for the bodies of all calls
const bodyOf = (call: CallName, directory: RunDirectory): any =>
  ({
    "vm.create": configured,
    "vm.resize": { desired_vcpus: 1 },
    "vm.add-disk": { path: join(directory.path, "disk.img"), id: "extra", image_type: "Raw" },
    "vm.add-net": { tap: "" },
    "vm.remove-device": { id: "nope" },
    "vm.snapshot": { destination_url: `file://${directory.path}` },
    "vm.restore": { source_url: `file://${directory.path}/none` },
  })[call as string];

/** The scripted peer needs none. */
const kvmFor = (program: string): string => (program === scripted ? "/dev/null" : "/dev/kvm");

async function reach(program: string, state: (typeof states)[number]): Promise<Hypervisor> {
  rounds += 1;
  const directory = new RunDirectory(join(top, `${rounds}`));
  const hypervisor = await Hypervisor.launch({ directory, clock: systemClock, program, kvm: kvmFor(program) });
  if (state !== "empty") await hypervisor.call("vm.create", configured);
  if (state === "running" || state === "paused") await hypervisor.call("vm.boot");
  if (state === "paused") await hypervisor.call("vm.pause");
  expect(hypervisor.state.kind).toBe(state);
  return hypervisor;
}

/** What a call did, in a form that two peers can be compared by. */
async function outcomeOf(program: string, state: (typeof states)[number], call: CallName): Promise<string> {
  await using hypervisor = await reach(program, state);
  await Bun.write(join(hypervisor.directory.path, "disk.img"), new Uint8Array(1 << 20));
  const rest = new RestClient(hypervisor.directory.apiSocket);
  const answer = await rest.call(call, bodyOf(call, hypervisor.directory)).then(
    () => "accepted",
    (error: HypervisorError) => `${error.code} ${error.context.status} ${error.chain.slice(0, 3).join(" < ")}`,
  );
  const accepted = answer === "accepted";
  // The machine must say what the peer does. Asking about a VM that is not there is legal, and refused.
  if (!hostBound.includes(call) && !(state === "empty" && call === "vm.info")) {
    expect(`${state} ${call} ${accepted}`).toBe(`${state} ${call} ${illegal({ kind: state }, call) === null}`);
  }
  const after = call === "vmm.shutdown" ? "gone" : (await hypervisor.look()).kind;
  await hypervisor.kill();
  return `${answer} -> ${after}`;
}

const scripted = join(import.meta.dir, "../peers/hypervisorPeer.ts");

function contractOf(name: string, program: string, test: NeededTest): void {
  describe(`${name}`, () => {
    test("starts, is found again, ends in order", async () => {
      const first = await reach(program, "running");
      const { directory, pid } = first;
      await first[Symbol.asyncDispose]();
      await using again = await Hypervisor.adopt(directory, systemClock);
      expect(again?.pid).toBe(pid);
      expect(again?.state.kind).toBe("running");
      expect((await again!.end()).kind).toBe("ordered");
      expect(await Hypervisor.adopt(directory, systemClock)).toBeNull();
    });

    test("events tell what calls did, in order", async () => {
      await using hypervisor = await reach(program, "paused");
      await hypervisor.call("vm.resume");
      await hypervisor.call("vm.reboot");
      await hypervisor.call("vm.delete");
      const kinds: string[] = [];
      for await (const event of hypervisor.events()) {
        if (event.kind.startsWith("vm")) kinds.push(event.kind);
        if (event.kind === "vm.deleted") break;
      }
      const expected = "starting booting booted pausing paused resuming resumed rebooting rebooted shutdown deleted";
      expect(kinds.map((kind) => kind.split(".")[1]).join(" ")).toBe(expected);
      await hypervisor.kill();
    });

    test("one process a directory", async () => {
      await using hypervisor = await reach(program, "empty");
      const second = Hypervisor.launch({
        directory: hypervisor.directory,
        clock: systemClock,
        program,
        kvm: kvmFor(program),
      });
      await expect(second).rejects.toMatchObject({ code: "hypervisor.socket" });
      expect((await hypervisor.look()).kind).toBe("empty");
      await hypervisor.kill();
    });

    test("a killed process is explained", async () => {
      await using hypervisor = await reach(program, "running");
      process.kill(hypervisor.pid, "SIGKILL");
      expect((await hypervisor.gone).kind).toBe("killed");
      expect(hypervisor.state.kind).toBe("absent");
      await expect(hypervisor.call("vm.pause")).rejects.toMatchObject({ code: "hypervisor.state" });
    });
  });
}

contractOf("scripted peer", scripted, need());
contractOf("real Cloud Hypervisor", "cloud-hypervisor", need(...realGuest));

describe("every call in every state", () => {
  for (const state of states) {
    need(...realGuest)(
      `${state}: the scripted peer answers as the real one`,
      async () => {
        for (const call of (Object.keys(routes) as CallName[]).filter((name) => !unscripted.includes(name))) {
          const real = await outcomeOf("cloud-hypervisor", state, call);
          const fake = await outcomeOf(scripted, state, call);
          expect(`${call}: ${fake}`).toBe(`${call}: ${real}`);
        }
      },
      120_000,
    );
  }

  need(...realGuest)(
    "the calls that the scripted peer does not speak are refused with the real one's reason",
    async () => {
      await using hypervisor = await reach("cloud-hypervisor", "running");
      const receive = hypervisor.call("vm.receive-migration", { receiver_url: "unix:/nowhere" });
      await expect(receive).rejects.toMatchObject({ code: "hypervisor.state" });
      const add = await hypervisor.call("vm.add-device", { path: "/sys/bus/pci/devices/none" }).catch((error) => error);
      expect((add as HypervisorError).chain[1]).toBe("The device could not be added to the VM");
      await hypervisor.look();
      const added = await hypervisor.call("vm.add-vsock", { cid: 5, socket: hypervisor.directory.vsockSocket });
      expect(added?.id).toStartWith("_vsock");
      // Nobody listens: the migration fails and the guest runs on.
      await hypervisor.call("vm.send-migration", { destination_url: `unix:${hypervisor.directory.path}/none` });
      for await (const event of hypervisor.events()) if (event.kind === "vm.migration-failed") break;
      expect((await hypervisor.look()).kind).toBe("running");
      await hypervisor.kill();
    },
  );

  need(...realGuest)("an empty process receives, and can be told to stop waiting", async () => {
    await using hypervisor = await reach("cloud-hypervisor", "empty");
    const socket = join(hypervisor.directory.path, "in.sock");
    mkdirSync(hypervisor.directory.path, { recursive: true });
    const stop = new AbortController();
    const receive = hypervisor.call(
      "vm.receive-migration",
      { receiver_url: `unix:${socket}` },
      { signal: stop.signal },
    );
    expect(hypervisor.state.kind).toBe("receiving");
    stop.abort(new HypervisorError("hypervisor.timeout", "enough"));
    await expect(receive).rejects.toMatchObject({ code: "hypervisor.timeout" });
    await hypervisor.kill();
  });
});
