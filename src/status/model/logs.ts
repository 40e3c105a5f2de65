// SPDX-License-Identifier: Apache-2.0
/**
 * Lines of the init system's journal, by a child that reads them as JSON, within limits of rows, bytes and time; redacted.
 *
 * What is asked for is passed as words, never through a shell, and each word is checked first. Source: journalctl(1).
 */
import { limits } from "../settings.ts";
import { redact } from "./redact.ts";

export type LogFilter = {
  /** A unit, or "" for ours, or `kernelLog`. */
  readonly unit: string;
  /** 0 (emergency) to 7 (debug): this and worse. */
  readonly level: number;
  readonly text: string;
  /** From so long ago until so long ago. */
  readonly sinceMs: number;
  readonly untilMs: number;
};
export type LogLine = { readonly atMs: number; readonly unit: string; readonly level: number; readonly text: string };
export type Logs = { readonly known: boolean; readonly why: string | null; readonly lines: readonly LogLine[] };

const lineLength = 2_000;
/** Instead of a unit. */
export const kernelLog = "kernel";
const minuteMs = 60_000;
export const logLevels = ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"] as const;

/** What was asked for, in words that were checked; what is left out is the last hour of ours, down to info. */
export const logFilter = (asked: { unit?: string; level?: string; text?: string; since?: string; until?: string }) =>
  ({
    ...{ unit: asked.unit ?? "", level: Number(asked.level ?? "6"), text: asked.text ?? "" },
    sinceMs: Number(asked.since ?? "60") * minuteMs,
    untilMs: Number(asked.until ?? "0") * minuteMs,
  }) satisfies LogFilter;

/** As a file: oldest first, one line each, in UTC. */
export const logText = ({ lines }: Logs): string =>
  lines
    .toReversed()
    .map(
      ({ atMs, level, unit, text }) => `${new Date(atMs).toISOString()} ${logLevels[level] ?? level} ${unit} ${text}\n`,
    )
    .join("");

export async function readLogs(
  filter: LogFilter,
  nowMs: number,
  tool: string | null = Bun.which("journalctl"),
): Promise<Logs> {
  if (tool === null) return none("this machine has no journalctl: its init system keeps no journal that could be read");
  const at = (agoMs: number): string => `@${Math.floor((nowMs - agoMs) / 1_000)}`;
  const times = [`--since=${at(filter.sinceMs)}`, ...(filter.untilMs === 0 ? [] : [`--until=${at(filter.untilMs)}`])];
  const source = filter.unit === kernelLog ? "--dmesg" : `--unit=${filter.unit === "" ? "holdfast*" : filter.unit}`;
  const words = ["--output=json", "--no-pager", "--quiet", "--reverse", `--lines=${limits.logLinesMax}`];
  const child = Bun.spawn([tool, ...words, ...times, `--priority=${filter.level}`, source], {
    stdio: ["ignore", "pipe", "pipe"],
    timeout: limits.logMs,
    maxBuffer: limits.logBytesMax,
  });
  const [text, said, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  if (code !== 0 && text === "") return none(whyNone(said.trim().split("\n")[0] ?? "", filter.unit, code));
  const lines = text.split("\n").flatMap((line) => parseLine(line) ?? []);
  const wanted = filter.text.toLowerCase();
  return { known: true, why: null, lines: lines.filter((line) => line.text.toLowerCase().includes(wanted)) };
}

const whyNone = (said: string, unit: string, code: number): string =>
  said.startsWith("Failed to add filter")
    ? `the journal of this machine knows no unit ${unit === "" ? "of ours" : unit}`
    : said || `journalctl ended with code ${code}`;

const none = (why: string): Logs => ({ known: false, why, lines: [] });

/** null for what is no line, such as the end that a limit cut off. */
export function parseLine(line: string): LogLine | null {
  try {
    const row = JSON.parse(line) as Record<string, unknown>;
    const said = row.MESSAGE;
    // Bytes that are no text come as a list of numbers.
    const text = Array.isArray(said) ? Buffer.from(said as number[]).toString("utf8") : String(said ?? "");
    return {
      atMs: Math.floor(Number(row.__REALTIME_TIMESTAMP ?? 0) / 1_000),
      unit: String(row._SYSTEMD_UNIT ?? row.SYSLOG_IDENTIFIER ?? ""),
      level: Number(row.PRIORITY ?? 6),
      text: redact(text.slice(0, lineLength)),
    };
  } catch {
    return null;
  }
}
