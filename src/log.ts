// SPDX-License-Identifier: Apache-2.0
/**
 * One line an event: time, level, workload, event, key=value. Gets facts; gives text on standard error.
 *
 * Values with spaces, quotes or control characters are quoted as JSON, so hostile names cannot forge a line.
 */
import type { Clock } from "./clock.ts";

export type LogLevel = "error" | "warn" | "info" | "debug";
export type LogFacts = Readonly<Record<string, string | number | bigint | boolean | null | undefined>>;
export type Log = (level: LogLevel, event: string, facts?: LogFacts) => void;

const order: readonly LogLevel[] = ["error", "warn", "info", "debug"];

/** A log for one workload (or part), writing lines up to and including `level`. */
export function openLog(part: string, level: LogLevel, clock: Clock, write: (line: string) => void): Log {
  return (lineLevel, event, facts = {}) => {
    if (order.indexOf(lineLevel) > order.indexOf(level)) return;
    write(formatLine(clock.wallMs(), lineLevel, part, event, facts));
  };
}

export const silentLog: Log = () => {};

export function formatLine(atMs: number, level: LogLevel, part: string, event: string, facts: LogFacts): string {
  const pairs = Object.entries(facts)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key}=${quote(String(value))}`);
  return [new Date(atMs).toISOString(), level, quote(part), event, ...pairs].join(" ");
}

const plain = /^[\w./:@+,%#~[\]-]+$/;
const quote = (text: string): string => (plain.test(text) ? text : JSON.stringify(text));
