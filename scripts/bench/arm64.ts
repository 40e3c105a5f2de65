// SPDX-License-Identifier: Apache-2.0
/**
 * Real AArch64 programs on another machine: unpacks Debian's arm64 packages and runs one in an emulator's stub.
 *
 * `arm64.ts DIRECTORY` fetches and unpacks into DIRECTORY/root, with an apt of its own: the machine's packages and lists are
 * not touched. Needs apt-get, dpkg-deb and the sources of this machine's own distribution. Limit: time to start.
 */
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { systemClock } from "#clock.ts";
import { ConfigError, ProgramError } from "#errors.ts";
import { type Emulated, type Sampled, type SampleOrder, sampleEmulated } from "./gdbSampler.ts";
import { loadCommand } from "./unwindLoad.ts";

const packages = (
  "redis-server redis-tools memcached mosquitto nginx mariadb-server-core libc6 libgcc-s1 libstdc++6 libatomic1 liblua5.1-0 " +
  "libjemalloc2 libssl3 libsystemd0 lua-cjson lua-bitop liblzf1 libcap2 libgcrypt20 libgpg-error0 liblz4-1 liblzma5 libzstd1"
).split(" ");
const startMsMax = 60_000;
const pollMs = 20;

/** Fetches and unpacks the packages. Gives the directory they are unpacked in. */
export async function unpackArm64(place: string): Promise<string> {
  const directory = resolve(place);
  const state = `${directory}/apt`;
  await Bun.$`mkdir -p ${state}/lists/partial ${state}/cache/archives/partial ${directory}/packages ${directory}/root`;
  await Bun.write(`${state}/status`, "");
  const settings = [
    `APT::Architecture "arm64";`,
    `APT::Architectures { "arm64"; };`,
    `APT::Sandbox::User "root";`,
    `Dir::State "${state}";`,
    `Dir::State::status "${state}/status";`,
    `Dir::Cache "${state}/cache";`,
  ];
  await Bun.write(`${state}/apt.conf`, `${settings.join("\n")}\n`);
  const env = { ...process.env, APT_CONFIG: `${state}/apt.conf` };
  await Bun.$`apt-get -qq update`.env(env).quiet();
  await Bun.$`apt-get -qq download ${packages}`.env(env).cwd(`${directory}/packages`).quiet();
  for await (const name of new Bun.Glob("*.deb").scan(`${directory}/packages`)) {
    await Bun.$`dpkg-deb -x ${directory}/packages/${name} ${directory}/root`;
  }
  return `${directory}/root`;
}

/** Waits until `path` exists. @throws ProgramError where it does not come. */
export async function whenThere(path: string): Promise<void> {
  const started = systemClock.monotonicNs();
  while (systemClock.monotonicNs() - started < startMsMax * 1e6) {
    if ((await Bun.$`test -S ${path}`.nothrow().quiet()).exitCode === 0) return;
    await systemClock.sleep(pollMs);
  }
  throw new ProgramError("program.gone", `${path} did not appear`);
}

/** Runs a command in the emulator, stopped at its first instruction, while `use` runs. */
export async function withEmulated<T>(
  root: string,
  directory: string,
  command: readonly string[],
  use: (emulated: Emulated) => Promise<T>,
): Promise<T> {
  const stub = `${directory}/stub`;
  const emulator = Bun.spawn(["qemu-aarch64-static", "-L", root, "-g", stub, ...command], {
    stdio: ["ignore", "ignore", "ignore"],
  });
  try {
    await whenThere(stub);
    return await use({ root, pid: emulator.pid, stub });
  } finally {
    emulator.kill("SIGKILL");
    await emulator.exited;
  }
}

/** Samples an emulated redis-server under load, from its first instruction on. */
export async function sampleArm64Redis(root: string, directory: string, order: SampleOrder): Promise<Sampled> {
  const executable = `${root}/usr/bin/redis-check-rdb`;
  const socket = `${directory}/socket`;
  const server = `${root}/usr/bin/redis-server`;
  const command = [server, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", directory];
  return withEmulated(root, directory, command, async (emulated) => {
    const sampling = sampleEmulated(executable, emulated, { ...order, mode: "places" });
    const load = whenThere(socket).then(() =>
      Bun.spawn([...loadCommand("redis", socket)], { stdio: ["ignore", "ignore", "ignore"] }),
    );
    try {
      return await sampling;
    } finally {
      (await load).kill("SIGKILL");
    }
  });
}

if (import.meta.main) {
  const { positionals } = parseArgs({ allowPositionals: true });
  const [directory] = positionals;
  if (directory === undefined) throw new ConfigError("config.argument", "arm64.ts DIRECTORY");
  process.stdout.write(`${await unpackArm64(directory)}\n`);
}
