// SPDX-License-Identifier: Apache-2.0
/**
 * The steps of the scenario, in order. Each either holds or throws; later ones need earlier ones.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { ControlClient } from "#appliance/controlClient.ts";
import { systemClock } from "#clock.ts";
import { explain } from "#errors.ts";
import { countExits } from "./exitCounts.ts";
import { LabError } from "./labError.ts";
import { RedisClient, watchBystanders } from "./redisClient.ts";
import { type Notice, Supervisor } from "./supervisor.ts";

export type Step = {
  readonly step: string;
  readonly ok: boolean;
  readonly ms: number;
  readonly [fact: string]: unknown;
};
type Facts = Readonly<Record<string, unknown>>;

const state = "/tmp/holdfast";
const runDirectory = "/run/holdfast";
const configPath = "/tmp/holdfast.toml";
/** On XFS, so that it can be cloned together with the guest's memory. */
const guestDisk = "/run/guest/root.img";
const guestAddress = "192.168.77.2";
const page = "127.0.0.1:8443";
/** Everything under double emulation takes its time, above all beside other work on the same cores. */
const bootMs = 600_000;
/** Everything later may take this many times what the first boot and its protection took. */
const paceMargin = 4;
let patienceMs = bootMs;
const console_ = { x86_64: "ttyS0", arm64: "ttyAMA0" } as const;

const cmdlineFor = (architecture: string): string => `console=${console_[architecture as "x86_64"]} quiet panic=0`;

const configFor = (architecture: string): string => `
state = "${state}"
run = "${runDirectory}"

[status]
listen = "${page}"

[[guest]]
name = "debian"
kernel = "/lab/guest/vmlinuz"
initramfs = "/lab/guest/initrd"
cmdline = "${cmdlineFor(architecture)}"
memory = "512M"
disks = [{ path = "${guestDisk}" }]
net = [{ bridge = "br0" }]
probes = ["redis:${guestAddress}:6379"]
probeFailuresMax = 20
bootMs = ${bootMs}
stopMs = 240000
watchdog = false
restart = { attemptsMax = 10 }
checkpoint = { automatic = false, healthyMs = 20000, pauseMsMax = 60000 }

[[guest.program]]
name = "redis"
unit = "redis-server.service"

[[guest.program]]
name = "nginx"
process = "nginx: worker"
`;

/** The example that comes with Holdfast, with the files and addresses of this machine. */
function exampleFor(architecture: string): string {
  const changes: readonly (readonly [from: RegExp | string, to: string])[] = [
    ["/var/lib/guests/web/vmlinuz", "/lab/guest/vmlinuz"],
    ["/var/lib/guests/web/initrd.img", "/lab/guest/initrd"],
    ["/var/lib/guests/web/disk.img", guestDisk],
    [/^cmdline = "[^"]*"/m, `cmdline = "${cmdlineFor(architecture)}"`],
    ["192.168.100.10", guestAddress],
    ["bootMs = 120000", `bootMs = ${bootMs}`],
  ];
  const example = readFileSync("vm/examples/debian.toml", "utf8");
  return changes.reduce((text, [from, to]) => {
    const changed = text.replace(from, to);
    require_(changed !== text, `the example has no ${from}`);
    return changed;
  }, example);
}

type Context = { readonly architecture: string; supervisor: Supervisor; readonly control: ControlClient };
type StepBody = (context: Context) => Promise<Facts | undefined>;

const up = { event: "guest", phase: "up" };

const steps: Readonly<Record<string, StepBody>> = {
  "the guest boots and its redis answers": async ({ supervisor }) => {
    await supervisor.next(up, patienceMs);
    return { answer: await redis("PING") };
  },
  "its redis is guarded through the guest kit": async ({ supervisor }) => {
    const { pid, threads, serving } = await supervisor.next({ event: "guarding", workload: "redis" }, patienceMs);
    return { pid, threads, serving };
  },
  "its nginx is guarded too": async ({ supervisor }) => {
    const { pid, serving } = await supervisor.next({ event: "guarding", workload: "nginx" }, patienceMs);
    return { pid, serving, answer: (await (await fetch(`http://${guestAddress}/`)).text()).trim() };
  },
  "exits of its virtual processor are counted, by reason too": () => countExits(page, "debian"),
  "its redis takes the development faults and goes on": crashRedis,
  "the connection that kills it is closed, and no other": async ({ supervisor }) => {
    const idle = await Promise.all(Array.from({ length: bystanders }, () => RedisClient.connect(guestAddress)));
    for (const client of idle) await client.ask("PING");
    // Within the kernel's ticks nobody can tell who was answered.
    await systemClock.sleep(consequenceMs);
    using killer = await RedisClient.connect(guestAddress);
    const closing = killer.ask(crashes[0]!).catch(() => {});
    const { id, stopUs } = await supervisor.next({ event: "fault", workload: "redis" }, patienceMs);
    const { rung, session, verdict } = await supervisor.next({ event: "outcome", id }, patienceMs);
    const answers = await Promise.all(idle.map((client) => client.ask("PING")));
    await Promise.race([closing, systemClock.sleep(typeAgainMs)]);
    for (const client of idle) client[Symbol.dispose]();
    require_(rung === "quarantine" && killer.closed, `it was not closed: ${JSON.stringify({ rung, session })}`);
    require_(
      answers.every((answer) => answer === "+PONG"),
      `bystanders: ${answers}`,
    );
    return { session, verdict, stopUs };
  },
  "a new supervisor takes the guest over": async (context) => {
    const before = await context.control.show("debian");
    await context.supervisor.end("SIGKILL");
    const answer = await redis("PING");
    context.supervisor = new Supervisor(configPath);
    const found = await context.supervisor.next({ event: "guest", phase: "found running" }, patienceMs);
    await context.supervisor.next(up, patienceMs);
    require_(found.pid === before.pid, `process ${before.pid} became ${found.pid}`);
    await context.supervisor.next({ event: "guarding", workload: "redis" }, patienceMs);
    return { pid: found.pid, answer };
  },
  "a kernel panic is reset": async (context) => {
    const { supervisor, control } = context;
    await inGuest(context, "echo ready");
    const { pid } = await control.show("debian");
    await control.type("debian", "\necho c > /proc/sysrq-trigger\n");
    const fault = await supervisor.next({ event: "guestFault", kind: "panic" }, patienceMs);
    const outcome = await supervisor.next({ event: "guestOutcome", rung: "reset" }, patienceMs);
    await supervisor.next(up, patienceMs);
    require_((await control.show("debian")).pid === pid, "its process has changed");
    return { why: fault.why, verdict: outcome.verdict, downMs: outcome.downMs };
  },
  "it runs out of memory, and what is left goes on": async (context) => {
    const { supervisor, control } = context;
    await inGuest(context, "echo ready");
    await control.type("debian", "\ntail /dev/zero\n");
    const fault = await supervisor.next({ event: "guestFault", kind: "outOfMemory" }, patienceMs);
    return { why: fault.why, act: fault.act, answer: await redis("PING") };
  },
  "a guest that hangs is reset": async (context) => {
    const { supervisor, control } = context;
    await inGuest(context, "echo ready");
    // Everything but its kernel, its init and this shell. A program that spins is stopped by the kernel now and then.
    await control.type("debian", "\nkill -STOP -1\n");
    const fault = await nudged(context, supervisor.next({ event: "guestFault", kind: "hang" }, patienceMs));
    const outcome = await supervisor.next({ event: "guestOutcome", rung: "reset" }, patienceMs);
    await supervisor.next(up, patienceMs);
    return { why: fault.why, verdict: outcome.verdict, downMs: outcome.downMs, answer: await redis("PING") };
  },
  "a killed Cloud Hypervisor is booted cold": async ({ supervisor, control }) => {
    process.kill((await control.show("debian")).pid!, "SIGKILL");
    const outcome = await supervisor.next({ event: "guestOutcome", rung: "coldboot" }, patienceMs);
    await supervisor.next(up, patienceMs);
    return { verdict: outcome.verdict, downMs: outcome.downMs };
  },
  "a checkpoint is taken while its redis serves": takeCheckpoint,
  "a lost guest comes back from it, memory and disk of the same moment": comeBack,
  "its redis is guarded after the restore": async ({ supervisor }) => {
    const { pid, serving } = await supervisor.next({ event: "guarding", workload: "redis" }, patienceMs);
    return { pid, serving };
  },
  "it powers off in order when it is stopped": async ({ control }) => {
    const log = `${runDirectory}/guests/debian/console.log`;
    const before = readFileSync(log, "utf8").length;
    const stopped = await control.command("debian", "stop");
    require_(stopped.phase === "down", `it is ${stopped.phase}`);
    const last = /^.*power down.*$/im.exec(readFileSync(log, "utf8").slice(before))?.[0];
    require_(last !== undefined, "its kernel did not say that it powers off");
    return { phase: stopped.phase, last: last!.trim() };
  },
  "the example configuration boots": async (context) => {
    await context.supervisor.end("SIGTERM");
    const top = `state = "${state}-example"\nrun = "${runDirectory}-example"\n`;
    writeFileSync(configPath, top + exampleFor(context.architecture));
    context.supervisor = new Supervisor(configPath);
    await context.supervisor.next({ ...up, workload: "web" }, patienceMs);
    const answer = await redisSoon("PING");
    const stopped = await new ControlClient(`${runDirectory}-example`).command("web", "stop");
    return { answer, phase: stopped.phase };
  },
};

const crashes = ["DEBUG SEGFAULT", "DEBUG ASSERT", "DEBUG PANIC"];
const crashRounds = 3;
const bystanders = 5;
const consequenceMs = 1_000;

/** Seen from outside the guest: the same process, every bystander's every answer right. */
async function crashRedis({ supervisor }: Context): Promise<Facts> {
  const processId = async (): Promise<string> => /process_id:(\d+)/.exec(await redis("INFO server"))![1]!;
  const before = await processId();
  const ended = new AbortController();
  const watching = watchBystanders(guestAddress, bystanders, ended.signal);
  const stopsUs: number[] = [];
  const [verdicts, rungs]: [unknown[], unknown[]] = [[], []];
  for (let round = 0; round < crashRounds; round += 1) {
    for (const command of crashes) {
      using killer = await RedisClient.connect(guestAddress);
      void killer.ask(command).catch(() => {});
      const fault = await supervisor.next({ event: "fault", workload: "redis" }, patienceMs);
      for (let next: Notice | undefined = fault; next !== undefined; next = supervisor.taken({ event: "fault" })) {
        stopsUs.push(next.stopUs as number);
        const { verdict, rung } = await supervisor.next({ event: "outcome", id: next.id }, patienceMs);
        verdicts.push(verdict);
        rungs.push(rung);
        // One crash may lead to another: redis tests all its memory after a failed assertion.
        await systemClock.sleep(consequenceMs);
      }
    }
  }
  ended.abort();
  const report = await watching;
  const after = await processId();
  require_(before === after, `process ${before} became ${after}`);
  require_(report.wrong === 0 && report.lost === 0, `bystanders: ${JSON.stringify(report)}`);
  require_(!verdicts.includes("failed"), `verdicts: ${verdicts.join(" ")}`);
  const medianStopUs = [...stopsUs].sort((a, b) => a - b)[stopsUs.length >> 1];
  return {
    pid: after,
    faults: stopsUs.length,
    verdicts: verdicts.join(" "),
    rungs: rungs.join(" "),
    medianStopUs,
    stopsUs,
    ...report,
  };
}

const typeAgainMs = 20_000;

const runId = async (): Promise<string> => /run_id:(\w+)/.exec(await redis("INFO server"))![1]!;

/** Cloud Hypervisor's PL011 may keep what was typed to itself until more is typed (v53.0, seen now and then). */
async function nudged<Found>({ control }: Context, awaited: Promise<Found>): Promise<Found> {
  let isOver = false;
  const over = awaited.finally(() => {
    isOver = true;
  });
  for (;;) {
    await Promise.race([over, systemClock.sleep(typeAgainMs)]);
    if (isOver) return await over;
    await control.type("debian", "\n").catch(() => {});
  }
}

/** Types a command into the guest's shell, until it prints something between two marks: a boot forgets what came too early. */
async function inGuest({ control }: Context, command: string): Promise<string> {
  const mark = `M${Math.trunc(systemClock.monotonicNs() / 1e6)}`;
  const log = `${runDirectory}/guests/debian/console.log`;
  for (const limitNs = systemClock.monotonicNs() + patienceMs * 1e6; systemClock.monotonicNs() < limitNs; ) {
    await control.type("debian", `\necho "${mark}" "<$(${command})>"\n`).catch(() => {});
    for (const againNs = systemClock.monotonicNs() + typeAgainMs * 1e6; systemClock.monotonicNs() < againNs; ) {
      const found = new RegExp(`${mark} <(.*)>`).exec(readFileSync(log, "utf8"));
      if (found !== null) return found[1]!;
      await systemClock.sleep(200);
    }
  }
  throw new LabError("lab.machine", `the guest's shell did not answer ${command}`);
}

/** Seen from outside: every answer right; what was written before is in the checkpoint, what is written after is not. */
async function takeCheckpoint(context: Context): Promise<Facts> {
  const { supervisor, control } = context;
  await redis("SET when before");
  await inGuest(context, "echo before > /marker; sync; echo done");
  const ended = new AbortController();
  const watching = watchBystanders(guestAddress, bystanders, ended.signal);
  await control.checkpoint("debian", "create");
  const first = await supervisor.next({ event: "checkpoint" }, patienceMs);
  await control.checkpoint("debian", "create");
  const second = await supervisor.next({ event: "checkpoint" }, patienceMs);
  ended.abort();
  const report = await watching;
  require_(report.wrong === 0 && report.lost === 0, `bystanders: ${JSON.stringify(report)}`);
  for (let look = 0; look < 600 && (await control.checkpoints())[0]?.state !== "good"; look += 1) {
    await systemClock.sleep(500);
  }
  await redis("SET when after");
  await inGuest(context, "echo after > /marker; sync; echo done");
  const added = [first.addedBytes, second.addedBytes];
  return {
    stillMs: [first.stillMs, second.stillMs],
    addedBytes: added,
    state: (await control.checkpoints())[0]?.state,
    ...report,
  };
}

async function comeBack(context: Context): Promise<Facts> {
  const { supervisor, control } = context;
  const before = await runId();
  process.kill((await control.show("debian")).pid!, "SIGKILL");
  const restore = await supervisor.next({ event: "restore" }, patienceMs);
  const fromNs = systemClock.monotonicNs();
  const when = await redisSoon("GET when");
  const firstAnswerMs = Math.round((systemClock.monotonicNs() - fromNs) / 1e6);
  const outcome = await supervisor.next({ event: "guestOutcome", rung: "restore" }, patienceMs);
  const marker = await inGuest(context, "echo 3 > /proc/sys/vm/drop_caches; cat /marker");
  const progress = await supervisor.next({ event: "restored" }, patienceMs);
  require_((await runId()) === before, "redis was started anew: it was a boot");
  require_(when === "before" && marker === "before", `memory is of ${when}, disk of ${marker}`);
  return {
    mode: restore.mode,
    firstAnswerMs,
    verdict: outcome.verdict,
    downMs: outcome.downMs,
    when,
    marker,
    progress,
  };
}

/** True where every step held. */
export async function run(
  architecture: string,
  wanted: readonly string[],
  tell: (step: Step) => void,
): Promise<boolean> {
  mkdirSync(state, { recursive: true });
  writeFileSync(configPath, configFor(architecture));
  const context: Context = {
    architecture,
    supervisor: new Supervisor(configPath),
    control: new ControlClient(runDirectory),
  };
  let passed = true;
  for (const [step, body] of Object.entries(steps)) {
    if (wanted.length > 0 && !wanted.some((part) => step.includes(part.replaceAll("-", " ")))) continue;
    const fromNs = systemClock.monotonicNs();
    const elapsedMs = (): number => Math.round((systemClock.monotonicNs() - fromNs) / 1e6);
    try {
      const facts = await body(context);
      // The first steps tell how slow this machine is now.
      patienceMs = Math.max(patienceMs, elapsedMs() * paceMargin);
      tell({ step, ok: true, ms: elapsedMs(), ...facts });
    } catch (error) {
      tell({ step, ok: false, ms: elapsedMs(), why: explain(error) });
      await showConsole(context.control);
      passed = false;
      break;
    }
  }
  await context.supervisor.end("SIGTERM");
  return passed;
}

function require_(holds: boolean, why: string): void {
  if (!holds) throw new LabError("lab.machine", why);
}

/** The end of what the guest printed: most failures are explained there. */
async function showConsole(control: ControlClient): Promise<void> {
  try {
    await control.type("debian", "\nsystemctl --no-pager -l status 'holdfast-*'; journalctl --no-pager -n 25\n");
    await systemClock.sleep(20_000);
    const text = readFileSync(`${runDirectory}/guests/debian/console.log`, "utf8");
    for (const line of text.split("\n").slice(-70)) console.log(`  | ${line.trimEnd()}`);
  } catch {
    console.log("  | (the guest has printed nothing)");
  }
}

/** A guest that has just come back needs a moment to be found on its network. */
async function redisSoon(command: string): Promise<string> {
  const limitNs = systemClock.monotonicNs() + patienceMs * 1e6;
  for (;;) {
    try {
      return await redis(command);
    } catch (error) {
      if (systemClock.monotonicNs() > limitNs) throw error;
      await systemClock.sleep(100);
    }
  }
}

async function redis(command: string): Promise<string> {
  using client = await RedisClient.connect(guestAddress);
  return await client.ask(command);
}
