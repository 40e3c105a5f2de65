// SPDX-License-Identifier: Apache-2.0
/**
 * Holdfast's own systemd service, as text. Gets the command that runs us and the configuration; gives the unit file. Pure.
 *
 * What it must hold: guarded programs, guests and stubs outlive us (`KillMode=process`), and so does our run directory with
 * their pipes; we are back within a second, however often we fall; the kernel takes anybody else's memory first. On a
 * restart stubs go on holding their programs (SIGHUP), on a stop they let go (SIGTERM). Source: systemd.service(5),
 * systemd.exec(5), systemd.kill(5).
 */
export const unitFileName = "holdfast.service";

export type UnitFileOptions = {
  /** The words that run us, absolute. */
  readonly command: readonly string[];
  readonly config: string;
};

/** A service that does not answer for so long is started again by systemd. */
const watchdogSec = 30;
const startSec = 120;
const stopSec = 30;

export function unitFile({ command, config }: UnitFileOptions): string {
  const start = [...command, "run", "--config", config].map(quoted).join(" ");
  return `# Written by holdfast install; holdfast uninstall removes it. Changes of yours belong into a drop-in:
# systemctl edit ${unitFileName}
[Unit]
Description=Holdfast keeps server programs running through their own crashes
After=network.target local-fs.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
WatchdogSec=${watchdogSec}
TimeoutStartSec=${startSec}
TimeoutStopSec=${stopSec}
ExecStart=${start}
# A restart keeps programs held, so that a fault meanwhile waits; a stop lets go of them.
ExecStop=-/bin/sh -c 'systemctl list-jobs --no-legend ${unitFileName} | grep -qw restart && kill -HUP $MAINPID || true'
Restart=always
RestartSec=1
KillMode=process
OOMScoreAdjust=-900
RuntimeDirectory=holdfast
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
StateDirectory=holdfast
StateDirectoryMode=0700
ConfigurationDirectory=holdfast
LimitNOFILE=65536
LimitMEMLOCK=infinity
TasksMax=infinity

[Install]
WantedBy=multi-user.target
`;
}

export const emptyConfig = `# What Holdfast looks after: see README.md. Check changes with: holdfast validate
# [[program]]
# name = "cache"
# command = ["redis-server", "--port", "7000"]
# user = "redis"
# probes = ["tcp:7000"]
`;

/** systemd's own quoting: percent signs and dollars stand for something else there. */
function quoted(word: string): string {
  const plain = word.replaceAll("%", "%%").replaceAll("$", "$$$$");
  return /^[\w@%+=:,./$-]+$/.test(plain) ? plain : `"${plain.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}
