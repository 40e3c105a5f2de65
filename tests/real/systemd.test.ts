// SPDX-License-Identifier: Apache-2.0
/**
 * Real systemd as the first process of namespaces of its own: a unit is guarded through its restarts, and our own service is
 * installed, restarted with its programs held, killed, stopped and removed. The machine's own services take no part: unit
 * folders, /run and /var/log are empty file systems in there.
 */
import { afterAll, beforeAll, expect } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "#tests/peers/guardRun.ts";
import { file, need, root } from "#tests/skip.ts";

const testMs = 120_000;
const systemd = "/usr/lib/systemd/systemd";
const folder = mkdtempSync(join(tmpdir(), "holdfast-systemd-"));
const main = join(import.meta.dir, "../../src/cli/main.ts");
const boot = `
mount --make-rprivate / && mount -t proc proc /proc
for d in /run /etc/systemd/system /var/log; do mount -t tmpfs tmpfs $d; done
for d in /usr/lib/systemd/system/*.wants /usr/lib/systemd/system-generators; do mount -t tmpfs tmpfs $d; done
mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit 3
printf '[Unit]\\nDescription=lab\\n' > /etc/systemd/system/lab.target
printf '[Service]\\nExecStart=/bin/sleep 600\\nRestart=always\\nRestartSec=100ms\\n' > /etc/systemd/system/web.service
export container=lab
exec ${systemd} --system --unit=lab.target --log-target=null --show-status=no
`;
/** Steps in there; each prints one line. */
const steps = `
holdfast() { ${process.execPath} ${main} "$@"; }
tracer() { awk '/TracerPid/ { print $2 }' /proc/$1/status; }
unit_pid() { systemctl show --property=MainPID --value $1; }
wait_for() { for i in $(seq 400); do eval "$1" && return 0; sleep 0.05; done; return 1; }
guarded() { p=$(unit_pid web) && [ "$p" != 0 ] && [ "$p" != "$1" ] && [ "$(tracer $p)" != 0 ]; }
systemctl start web
(exec ${process.execPath} ${main} guard --unit web --state ${folder}/guard >/dev/null 2>&1) & guard=$!
wait_for 'guarded 0' && echo "unit guarded"
before=$(unit_pid web); systemctl restart web
wait_for "guarded $before" && echo "unit guarded after a restart"
before=$(unit_pid web); kill -SEGV $before
wait_for "guarded $before" && echo "unit guarded after its crash"
kill $guard; wait $guard; [ "$(tracer $(unit_pid web))" = 0 ] && echo "unit let go"
holdfast install --config ${folder}/holdfast.toml >/dev/null && echo "installed"
idle() { holdfast program show idle --json | sed 's/.*"pid":\\([0-9]*\\).*/\\1/'; }
wait_for 'holdfast program list | grep -q "idle .*running *yes"'; idle=$(idle); stub=$(tracer $idle)
wait_for 'guarded 0' && echo "service guards a command and a unit"
holdfast install --config ${folder}/holdfast.toml >/dev/null; [ "$(tracer $idle)" = $stub ] && echo "held through a restart"
wait_for 'holdfast program list | grep -q "idle .*running *yes"'; [ "$(idle)" = $idle ] && echo "the same process after it"
kill -9 $(unit_pid holdfast); [ "$(tracer $idle)" = $stub ] && echo "held when killed"
wait_for 'holdfast program list | grep -q "idle .*running *yes"'; [ "$(idle)" = $idle ] && echo "the same process after that"
holdfast uninstall --config ${folder}/holdfast.toml >/dev/null; [ "$(tracer $idle)" = 0 ] && echo "let go when removed"
kill $idle; echo "done"
`;

let machine: Bun.Subprocess | null = null;
let init = 0;
const children = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").trim().split(" ").filter(Boolean).map(Number);

beforeAll(() => {
  writeFileSync(join(folder, "boot"), boot);
  writeFileSync(join(folder, "steps"), steps);
  const programs =
    '[[program]]\nname = "idle"\ncommand = ["sleep", "600"]\n[[program]]\nname = "web"\nunit = "web.service"\n';
  writeFileSync(join(folder, "holdfast.toml"), `state = "${folder}/state"\n${programs}`);
});
afterAll(async () => {
  if (init > 0) process.kill(init, "SIGKILL");
  await machine?.exited;
  rmSync(folder, { recursive: true, force: true });
});

need(
  "gdbserver",
  "unshare",
  "nsenter",
  "systemctl",
  file(systemd, "apt-get install systemd"),
  root,
)(
  "a unit and our own service under a real systemd",
  async () => {
    const spaces = ["--mount", "--pid", "--fork", "--cgroup", "--uts", "--ipc"];
    machine = Bun.spawn(["unshare", ...spaces, "sh", join(folder, "boot")], { stdio: ["ignore", "ignore", "ignore"] });
    const { pid } = machine;
    await until(() => children(pid).length === 1, "the first process");
    init = children(pid)[0]!;
    const inside = ["nsenter", "-t", String(init), "-m", "-p", "-C", "-u", "-i"];
    await until(
      () =>
        Bun.spawnSync([...inside, "systemctl", "is-system-running"])
          .stdout.toString()
          .trim() === "running",
    );
    const done = Bun.spawn([...inside, "sh", join(folder, "steps")], { stdio: ["ignore", "pipe", "ignore"] });
    expect((await done.stdout.text()).trim().split("\n")).toEqual([
      "unit guarded",
      "unit guarded after a restart",
      "unit guarded after its crash",
      "unit let go",
      "installed",
      "service guards a command and a unit",
      "held through a restart",
      "the same process after it",
      "held when killed",
      "the same process after that",
      "let go when removed",
      "done",
    ]);
  },
  testMs,
);
