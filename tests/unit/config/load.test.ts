// SPDX-License-Identifier: Apache-2.0
/**
 * The configuration: what a minimal one means, and for every kind of mistake the code, the line and the advice.
 */
import { describe, expect, test } from "bun:test";
import { describeProblem, readConfig } from "#config/load.ts";
import { suggest } from "#config/suggest.ts";

function problemsOf(text: string): string[] {
  const reading = readConfig(text);
  return reading.kind === "problems"
    ? reading.problems.map((problem) => `${problem.code} ${describeProblem(problem)}`)
    : [];
}

const guest = (...lines: string[]): string =>
  ["[[guest]]", 'name = "web"', 'kernel = "/boot/vmlinuz"', ...lines].join("\n");

describe("configuration", () => {
  test("an empty one, and the least guest and program", () => {
    expect(readConfig("")).toMatchObject({ kind: "config", config: { guests: [], programs: [] } });
    const reading = readConfig(`${guest()}\n[[program]]\nname = "cache"\ncommand = ["redis-server"]\n`);
    expect(reading).toMatchObject({
      kind: "config",
      config: {
        guests: [
          { name: "web", machine: { cpus: 1, memory: { bytes: 512 << 20, shared: false }, vsock: 3, landlock: true } },
        ],
        programs: [{ name: "cache", command: ["redis-server"], restart: { policy: "onFailure", attemptsMax: 5 } }],
      },
    });
  });

  test("sizes, cards, disks and vsock", () => {
    const reading = readConfig(
      guest(
        'memory = "2G"',
        'net = [{ bridge = "br0", mac = "02:00:00:00:00:01" }]',
        'disks = [{ path = "/d" }]',
        "vsock = 9",
      ),
    );
    expect(reading).toMatchObject({
      config: {
        guests: [
          {
            machine: {
              memory: { bytes: 2 ** 31 },
              net: [{ kind: "bridge", bridge: "br0", mac: "02:00:00:00:00:01" }],
              disks: [{ path: "/d", readonly: false, format: "raw" }],
              vsock: 9,
            },
          },
        ],
      },
    });
  });

  test("hangs and budgets of a program: as usual, set in part, or off", () => {
    const treated = (...lines: string[]) => {
      const reading = readConfig(["[[program]]", 'name = "x"', 'command = ["x"]', ...lines].join("\n"));
      if (reading.kind === "problems") return reading.problems.map(describeProblem).join();
      const { hang, budget } = reading.config.programs[0]!;
      return { hang, budget };
    };
    const budget = { siteActsMax: 15_000, programActsMax: 20_000, windowMs: 60_000, neutralisedMax: 8 };
    expect(treated()).toEqual({ hang: { waitedMs: 10_000, unwaitedMs: 300_000 }, budget });
    expect(treated("hang = { waitedMs = 2000 }", "budget = { siteActsMax = 9 }")).toEqual({
      hang: { waitedMs: 2_000, unwaitedMs: 300_000 },
      budget: { ...budget, siteActsMax: 9 },
    });
    expect(treated('hang = "off"')).toMatchObject({ hang: "off" });
    expect(treated('hang = "never"')).toContain("off");
    expect(treated("hang = { waited = 5 }")).toContain("waited");
    expect(treated("budget = { siteActsMax = 0 }")).toContain("siteActsMax");
  });

  test("unknown keys come with their line and the nearest setting", () => {
    expect(problemsOf(guest('memroy = "1G"'))).toEqual([
      "config.unknownKey 4: guest[0].memroy: is no setting here; did you mean memory?",
    ]);
    expect(problemsOf(guest("disks = [", '  { path = "/a" },', '  { path = "/b", read_only = true },', "]"))).toEqual([
      "config.unknownKey 6: guest[0].disks[1].read_only: is no setting here; did you mean readonly?",
    ]);
    expect(problemsOf("[hypervisr]\n")).toEqual([
      "config.unknownKey 1: hypervisr: is no setting here; did you mean hypervisor?",
    ]);
    expect(problemsOf(guest("zzzzzz = 1"))).toEqual(["config.unknownKey 4: guest[0].zzzzzz: is no setting here"]);
  });

  test("wrong values say what is wanted and what is there", () => {
    expect(problemsOf(guest("cpus = 0"))).toEqual([
      "config.value 4: guest[0].cpus: wants a whole number from 1 to 255; it is 0",
    ]);
    expect(problemsOf(guest('memory = "lots"'))[0]).toContain("wants a size of at least 16M, such as 512M or 2G");
    expect(problemsOf(guest('memory = "1M"'))[0]).toContain("wants a size of at least 16M");
    expect(problemsOf(guest("initramfs = 3"))[0]).toContain("wants an absolute path; it is 3");
    expect(problemsOf(guest('probes = ["http:x"]'))[0]).toContain("4: guest[0].probes[0]: wants tcp:PORT");
    expect(problemsOf('[[guest]]\nkernel = "/k"\n')).toEqual(["config.value 1: guest[0]: name is missing"]);
  });

  test("things that exclude or need one another", () => {
    expect(problemsOf('[[guest]]\nname = "a"\n')).toEqual([
      "config.value 1: guest[0]: a guest needs kernel or firmware",
    ]);
    expect(problemsOf(guest('firmware = "/f"'))[0]).toContain(
      "4: guest[0].firmware: give kernel or firmware, not both",
    );
    expect(problemsOf(guest('net = [{ tap = "a", bridge = "b" }]'))[0]).toContain("needs tap or bridge");
    expect(problemsOf(guest("vsock = false", "[[guest.program]]", 'name = "p"', 'process = "p"'))).toEqual([
      "config.value 5: guest[0].program[0]: guarding a program in a guest needs vsock",
    ]);
    expect(problemsOf(`${guest()}\n${guest()}`)).toEqual([
      'config.value 5: guest[1].name: there is another workload called "web"',
    ]);
    expect(problemsOf('[[program]]\nname = "a"\n')[0]).toContain("needs command or unit");
  });

  test("start order: unknown names and circles", () => {
    const two = (first: string, second: string): string =>
      `[[guest]]\nname = "one"\nkernel = "/k"\nafter = [${first}]\n[[guest]]\nname = "two"\nkernel = "/k"\nafter = [${second}]\n`;
    expect(problemsOf(two('"two"', ""))).toEqual([]);
    expect(problemsOf(two('"tow"', ""))[0]).toContain(
      '4: guest[0].after[0]: there is no workload called "tow"; did you mean "two"?',
    );
    expect(problemsOf(two('"two"', '"one"'))).toHaveLength(2);
  });

  test("a syntax error has the line of the statement that is wrong", () => {
    expect(problemsOf("a = 1\n\n[[guest]]\nname = /x\ncpus = 2\n")).toEqual([
      "config.syntax 4: Expected a value but found '/'",
    ]);
    expect(problemsOf('[[guest]]\nname = "x\n')[0]).toStartWith("config.syntax 2: ");
    expect(problemsOf("[guest\n")[0]).toStartWith("config.syntax 1: ");
  });
});

describe("suggestions", () => {
  test("swapped, missing and doubled letters; nothing for another word", () => {
    const known = ["memory", "kernel", "initramfs", "cmdline"];
    expect(suggest("memroy", known)).toBe("memory");
    expect(suggest("kernl", known)).toBe("kernel");
    expect(suggest("init_ramfs", known)).toBe("initramfs");
    expect(suggest("cmd-line", known)).toBe("cmdline");
    expect(suggest("banana", known)).toBeNull();
    expect(suggest("x", [])).toBeNull();
  });
});
