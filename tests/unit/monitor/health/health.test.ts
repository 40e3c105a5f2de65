// SPDX-License-Identifier: Apache-2.0
/** Health of the box and of a process, from the files of real kernels; and from this machine, where every part must answer. */
import { describe, expect, test } from "bun:test";
import { statSync } from "node:fs";
import fc from "fast-check";
import { systemBox } from "#board/box.ts";
import { readKernelClock } from "#board/native/clockState.ts";
import { decodeNvmeHealth } from "#board/native/nvmeLife.ts";
import { seenOr, type WorkloadHealth } from "#health.ts";
import { parseLifeTime } from "#monitor/health/boardHealth.ts";
import { readControlGroup } from "#monitor/health/controlGroup.ts";
import { hostSamples, workloadSamples } from "#monitor/health/healthSamples.ts";
import { type HostSources, readHostHealth } from "#monitor/health/hostHealth.ts";
import { parsePressure } from "#monitor/health/pressure.ts";
import { readProcessHealth } from "#monitor/health/processHealth.ts";
import {
  parseIoBytes,
  parseLinks,
  parseMemory,
  parseOpenFilesMax,
  parseProcessorTimes,
  parseProcessStat,
  parseSwitches,
  ticksPerSecond,
} from "#monitor/health/procFiles.ts";
import { openMetricsText } from "#status/openMetrics.ts";
import { fixtureBox } from "#tests/peers/fixtureBox.ts";
import {
  boardFiles,
  ioText,
  limitsText,
  memoryText,
  networkText,
  pressureText,
  processText,
  serviceFiles,
  statText,
} from "./realFiles.ts";

const sourcesOf = (files: Readonly<Record<string, string>>): HostSources => ({
  box: fixtureBox(files, { space: () => ({ totalBytes: 1000, freeBytes: 400, inMemory: false }) }),
  readClock: () => ({ synced: true, offsetSeconds: -0.002, errorSecondsMax: 0.1 }),
  readNvmeLife: () => [],
  places: ["/", "/var/lib/holdfast"],
});

test("each file by itself", () => {
  expect(parsePressure(pressureText)).toEqual({
    some: { over10s: 0.0227, over60s: 0.0353, over300s: 0.0454, stalledSeconds: 672.991004 },
    full: { over10s: 0, over60s: 0.0015, over300s: 0.0013, stalledSeconds: 213.214647 },
  });
  expect(parseMemory(memoryText)).toMatchObject({ totalBytes: 24684084 * 1024, swapFreeBytes: 1040000 * 1024 });
  expect(parseProcessorTimes(statText)).toEqual({ processors: 2, processorSeconds: 28330.93, busySeconds: 18832.88 });
  expect(parseLinks(networkText)[1]).toEqual({
    name: "eth0",
    receivedBytes: 5206964856,
    sentBytes: 8217673,
    errors: 3,
    dropped: 7,
  });
  expect(parseProcessStat(processText)).toEqual({
    ...{ name: "a) R (b", state: "S", minorFaults: 101, majorFaults: 7, cpuSeconds: 3, threads: 4 },
    ...{ startTicks: 1338931, residentPages: 413 },
  });
  expect(parseIoBytes(ioText)).toBe(7000);
  expect(parseOpenFilesMax(limitsText)).toBe(1024);
  expect(parseSwitches("x\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3")).toEqual({
    voluntary: 12,
    forced: 3,
  });
});

test("texts cut anywhere give null or a value, never an exception", () => {
  const parsers = [
    parsePressure,
    parseMemory,
    parseProcessorTimes,
    parseLinks,
    parseProcessStat,
    parseIoBytes,
    parseOpenFilesMax,
    parseSwitches,
  ];
  const texts = [pressureText, memoryText, statText, networkText, processText, ioText, limitsText];
  fc.assert(
    fc.property(fc.constantFrom(...parsers), fc.constantFrom(...texts), fc.nat(), (parse, text, length) => {
      const value = parse(text.slice(0, length % text.length));
      expect(JSON.stringify(value)).not.toContain("NaN");
    }),
  );
});

test("a board: heat, throttling, flash, links, disks once for each file system", () => {
  const host = readHostHealth(sourcesOf(boardFiles), 5);
  expect(host.temperatures).toEqual({
    kind: "seen",
    value: [
      { zone: "soc-thermal", celsius: 47.222, criticalCelsius: 115 },
      { zone: "soc-thermal-2", celsius: 45.3, criticalCelsius: null },
    ],
  });
  expect(seenOr(host.throttling, null)).toEqual({
    times: 7,
    cooling: [{ device: "cooling_device0", state: 3, stateMax: 8 }],
  });
  expect(seenOr(host.flash, null)).toEqual([{ device: "mmcblk0", kind: "emmc", usedRatio: 0.3, spare: "normal" }]);
  expect(host.links).toEqual([
    {
      name: "eth0",
      up: true,
      megabitsPerSecond: 1000,
      receivedBytes: 5206964856,
      sentBytes: 8217673,
      errors: 3,
      dropped: 7,
    },
  ]);
  expect(host.disks).toEqual([{ mount: "/", totalBytes: 1000, freeBytes: 400 }]);
  const text = openMetricsText(hostSamples(host));
  expect(text).toContain('holdfast_host_temperature_celsius{zone="soc-thermal-2"} 45.3');
  expect(text).toContain("holdfast_host_emmc_life_ratio 0.3");
  expect(text).toContain('holdfast_host_pressure_ratio{resource="io"} 0.0227');
});

test("what a machine lacks is said with its reason, and gives no sample", () => {
  const host = readHostHealth({ ...sourcesOf({}), readClock: () => null }, 5);
  for (const part of [host.pressure, host.memory, host.temperatures, host.throttling, host.flash, host.clock]) {
    expect(part.kind).toBe("absent");
    expect(part.kind === "absent" && part.why.length > 10).toBe(true);
  }
  const names = hostSamples(host).flatMap((sample) =>
    sample.kind === "value" && !Number.isNaN(sample.value) ? sample.name : [],
  );
  expect([...new Set(names)]).toEqual(["host_cpu_seconds_total", "host_disk_bytes", "host_disk_free_bytes"]);
});

test("flash: tenths of its life, percent of its life", () => {
  expect(["0x00 0x00", "0x01 0x00", "0x02 0x0b", "0x0c 0x01", "x"].map(parseLifeTime)).toEqual([
    null,
    0.1,
    1.1,
    null,
    null,
  ]);
  expect(decodeNvmeHealth(new Uint8Array([0, 0, 0, 9, 10, 104]))).toEqual({ usedRatio: 1.04, spareLow: true });
  expect(decodeNvmeHealth(new Uint8Array(5))).toBeNull();
});

describe("a process", () => {
  const files = { ...serviceFiles, "/proc/77/stat": processText, "/proc/77/limits": limitsText, "/proc/77/io": ioText };
  test("and its control group", () => {
    const process = readProcessHealth({ box: fixtureBox(files), pageBytes: 4096, sizeOf: () => 9 }, 77);
    expect(seenOr(process, null)).toMatchObject({
      residentBytes: 413 * 4096,
      openFiles: 9,
      openFilesMax: 1024,
      ioBytes: 7000,
    });
    const controlGroup = readControlGroup(fixtureBox(files), 77);
    expect(seenOr(controlGroup, null)).toMatchObject({
      ...{ path: "/system.slice/shop.service", memoryBytes: 104857600, memoryBytesMax: null, oomKills: 1 },
      ...{ cpuSeconds: 2.5, throttledSeconds: 0.125, tasks: 7 },
    });
    const health: WorkloadHealth = {
      ...{ workload: "shop", kind: "program", atMs: 1, process, controlGroup, probes: [] },
      leak: { kind: "seen", value: { perHour: 3600, perHourMin: 1, perHourMax: 7200, points: 30 } },
    };
    const text = openMetricsText(workloadSamples(health));
    expect(text).toContain('holdfast_workload_pressure_ratio{workload="shop",resource="memory"} 0.0227');
    expect(text).toContain('holdfast_workload_leak_bytes_per_second{workload="shop"} 1');
  });
  test("that is gone, in the root group, without version 2", () => {
    const absentOf = (own: Record<string, string>): string => {
      const group = readControlGroup(fixtureBox(own), 77);
      return group.kind === "absent" ? `${group.why}; ${group.advice}` : "seen";
    };
    expect(absentOf({})).toContain("not mounted; boot with");
    expect(absentOf({ ...serviceFiles, "/proc/77/cgroup": "0::/" })).toContain("root group");
    expect(absentOf({ ...serviceFiles, "/proc/77/cgroup": "" })).toContain("gone");
    expect(readProcessHealth({ box: fixtureBox({}), pageBytes: 4096, sizeOf: () => null }, 77).kind).toBe("absent");
  });
});

test("this machine: its memory, its pressure or why not, ourselves, its clock, its constants", () => {
  const host = readHostHealth({ box: systemBox, readClock: readKernelClock, readNvmeLife: () => [], places: ["/"] }, 1);
  expect(seenOr(host.memory, null)!.totalBytes).toBeGreaterThan(1 << 20);
  expect(host.processors).toBeGreaterThan(0);
  expect(host.clock.kind).toBe("seen");
  expect(host.disks.length).toBe(1);
  const own = readProcessHealth(
    { box: systemBox, pageBytes: 4096, sizeOf: (path) => statSync(path).size },
    process.pid,
  );
  expect(seenOr(own, null)!.openFiles).toBeGreaterThan(2);
  expect(seenOr(own, null)!.residentBytes).toBeGreaterThan(1 << 20);
  const constant = (name: string): number => Number(Bun.spawnSync(["getconf", name]).stdout.toString());
  expect(constant("CLK_TCK")).toBe(ticksPerSecond);
});
