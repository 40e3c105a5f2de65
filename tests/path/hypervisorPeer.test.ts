// SPDX-License-Identifier: Apache-2.0
/**
 * Trouble with the hypervisor, scripted: hanging and garbled answers, death in a call, refusals, wrong versions, sockets
 * in use, missing programs. Each is one typed error, and the client goes on.
 */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import { HypervisorError } from "#errors.ts";
import { Hypervisor } from "#vm/hypervisor.ts";
import { RestClient } from "#vm/restClient.ts";
import { RunDirectory } from "#vm/runDirectory.ts";
import { SerialConsole } from "#vm/serialConsole.ts";

const top = mkdtempSync(join(tmpdir(), "peer-"));
afterAll(() => rmSync(top, { recursive: true, force: true }));
const program = join(import.meta.dir, "../peers/hypervisorPeer.ts");
let rounds = 0;

async function launch(script: object, program_ = program, kvm = "/dev/null"): Promise<Hypervisor> {
  rounds += 1;
  const directory = new RunDirectory(join(top, `${rounds}`));
  mkdirSync(directory.path);
  writeFileSync(join(directory.path, "peer.json"), JSON.stringify(script));
  return await Hypervisor.launch({ directory, clock: systemClock, program: program_, kvm });
}

const create = (hypervisor: Hypervisor): Promise<void> =>
  hypervisor.call("vm.create", {
    payload: { kernel: import.meta.path },
    cpus: { boot_vcpus: 1, max_vcpus: 1 },
    memory: { size: 1 << 20 },
    serial: { mode: "Pty" },
    console: { mode: "Off" },
  });

const codeOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => "accepted",
    (error: unknown) => (error instanceof HypervisorError ? error.code : error),
  );

describe("trouble with the hypervisor", () => {
  test("an answer that never comes ends at its deadline, and the state is asked for", async () => {
    await using hypervisor = await launch({ hang: ["vm.pause"] });
    await create(hypervisor);
    await hypervisor.call("vm.boot");
    expect(await codeOf(hypervisor.call("vm.pause", undefined, { timeoutMs: 50 }))).toBe("hypervisor.timeout");
    expect((await hypervisor.look()).kind).toBe("running");
    await hypervisor.kill();
  });

  test("garbage, a refusal, and a death in the middle of a call", async () => {
    await using hypervisor = await launch({ garbage: ["vm.counters"], refuse: ["vm.resize"], dieOn: ["vm.reboot"] });
    await create(hypervisor);
    await hypervisor.call("vm.boot");
    expect(await codeOf(hypervisor.call("vm.counters"))).toBe("hypervisor.message");
    const refused = await hypervisor.call("vm.resize", { desired_vcpus: 2 }).catch((error: unknown) => error);
    expect((refused as HypervisorError).chain).toEqual(["Error from API", "As the script says"]);
    expect(await codeOf(hypervisor.call("vm.reboot"))).toBe("hypervisor.closed");
    expect((await hypervisor.gone).kind).toBe("killed");
    expect(hypervisor.state.kind).toBe("absent");
  });

  test("a failed boot wants a delete, and says why", async () => {
    await using hypervisor = await launch({});
    await hypervisor.call("vm.create", {
      payload: { kernel: "/nowhere/vmlinuz" },
      cpus: { boot_vcpus: 1, max_vcpus: 1 },
      memory: { size: 1 << 20 },
      serial: { mode: "Off" },
      console: { mode: "Off" },
    });
    const failed = (await hypervisor.call("vm.boot").catch((error: unknown) => error)) as HypervisorError;
    expect(failed.chain.at(-1)).toContain("No such file");
    expect((await hypervisor.look()).kind).toBe("created");
    await hypervisor.kill();
  });

  test("too old, unreadable and newer versions", async () => {
    expect(await codeOf(launch({ version: "48.0.0", buildVersion: "v48.0" }))).toBe("hypervisor.unsupported");
    expect(await codeOf(launch({ version: "unknown" }))).toBe("hypervisor.versionUnknown");
    await using old = await launch({ version: "52.0.0", buildVersion: "v52.0" });
    const receive = old.call("vm.receive-migration", { receiver_url: "unix:/x", memory_mode: "Postcopy" });
    expect(await codeOf(receive)).toBe("hypervisor.unsupported");
    await old.kill();
    await using later = await launch({ version: "54.0.0", buildVersion: "v54.0" });
    expect(later.version.kind).toBe("later");
    await later.kill();
  });

  test("what cannot start says what to do", async () => {
    expect(await codeOf(launch({}, "no-such-hypervisor"))).toBe("hypervisor.notFound");
    expect(await codeOf(launch({}, program, "/dev/no-such-kvm"))).toBe("hypervisor.kvm");
    const failed = (await launch({ failAtStart: "Bad argument" }).catch((error: unknown) => error)) as HypervisorError;
    expect(failed.code).toBe("hypervisor.start");
    expect(failed.message).toContain("Bad argument");
  });

  test("nobody at the socket is told from a slow one", async () => {
    const rest = new RestClient(join(top, "nobody.sock"));
    expect(await codeOf(rest.call("vmm.ping"))).toBe("hypervisor.closed");
  });

  test("the run directory is private, whatever the umask", async () => {
    const before = process.umask(0);
    try {
      await using hypervisor = await launch({});
      expect(statSync(hypervisor.directory.path).mode & 0o777).toBe(0o700);
      await hypervisor.kill();
    } finally {
      process.umask(before);
    }
  });

  test("the console is read, kept, typed into, and read again after a reboot", async () => {
    await using hypervisor = await launch({ prints: "one\r\ntwo\n" });
    const { directory } = hypervisor;
    await create(hypervisor);
    await using serial = new SerialConsole(() => hypervisor.terminal(), directory.console, systemClock);
    await hypervisor.call("vm.boot");
    const lines = serial.lines();
    expect((await lines.next()).value).toBe("one");
    expect((await lines.next()).value).toBe("two");
    expect(serial.write("key")).toBe(true);
    await hypervisor.call("vm.reboot");
    expect((await lines.next()).value).toBe("one");
    expect(await Bun.file(directory.console).text()).toStartWith("one\r\ntwo\none");
    await hypervisor.kill();
  });
});
