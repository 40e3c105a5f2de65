// SPDX-License-Identifier: Apache-2.0
/**
 * The demo's picture as lines of text: a moving plot of the bystanders' requests a second, and a row for each crash.
 *
 * Pure: gets a scene and the size of the terminal, gives lines that fit it, never more than `rows - 1`. Below 72 columns the
 * rows lose their less important columns.
 */
import { lastOutcome, type Scene, type Shot, sessionsCut, unharmed } from "./scene.ts";

export type Canvas = {
  readonly columns: number;
  readonly rows: number;
  readonly colour: boolean;
  readonly unicode: boolean;
};

const plotRows = 4;
const wideColumns = 72;
const columnsMin = 20;

export function drawScene(scene: Scene, canvas: Canvas): readonly string[] {
  const columns = Math.max(columnsMin, canvas.columns - 1);
  const head = [clip(scene.title, columns), ...plot(scene, canvas, columns), bystanderLine(scene, canvas, columns), ""];
  const room = Math.max(1, canvas.rows - 1 - head.length);
  return [...head, ...scene.shots.slice(-room).map((shot) => shotLine(shot, canvas, columns))].slice(
    0,
    canvas.rows - 1,
  );
}

function plot(scene: Scene, canvas: Canvas, columns: number): readonly string[] {
  const labelWidth = 9;
  const width = columns - labelWidth;
  const shown = scene.rates.slice(-width);
  const top = Math.max(1, ...shown);
  const levels = canvas.unicode ? " ▁▂▃▄▅▆▇█" : " .:-=+*#";
  const lines: string[] = [];
  for (let row = plotRows - 1; row >= 0; row -= 1) {
    const cells = shown.map((rate) => {
      const filled = (rate / top) * plotRows - row;
      return levels[Math.round(Math.min(1, Math.max(0, filled)) * (levels.length - 1))];
    });
    const label = row === plotRows - 1 ? whole(top) : row === 0 ? "0" : "";
    lines.push(`${label.padStart(labelWidth - 1)} ${paint(cells.join(""), "cyan", canvas)}`);
  }
  return [...lines, `${"crashes".padStart(labelWidth - 1)} ${crashMarks(scene, shown.length, canvas)}`];
}

function crashMarks(scene: Scene, shownCount: number, canvas: Canvas): string {
  const marks = new Array<string>(shownCount).fill(" ");
  for (const shot of scene.shots) {
    const at = shot.atSample - (scene.samples - shownCount);
    if (at >= 0 && at < shownCount) marks[at] = canvas.unicode ? "▲" : "^";
  }
  return paint(marks.join(""), "red", canvas);
}

function bystanderLine(scene: Scene, canvas: Canvas, columns: number): string {
  const { connections, right, wrong, missing, lost } = scene.bystanders;
  const rate = scene.rates.slice(-10);
  const perSecond = rate.reduce((sum, value) => sum + value, 0) / Math.max(1, rate.length);
  const text =
    columns >= wideColumns
      ? `${connections} bystanders: ${whole(perSecond)} requests/s, ${whole(right)} right, ${wrong} wrong, ${missing} missing, ${lost} cut`
      : `${whole(perSecond)}/s, ${wrong} wrong, ${missing} missing, ${lost} cut`;
  return paint(clip(text, columns), unharmed(scene.bystanders) ? "green" : "red", canvas);
}

export function shotLine(shot: Shot, canvas: Canvas, columns: number): string {
  const outcome = lastOutcome(shot);
  const signal = shot.faults[0]?.signal ?? "";
  const verdict = outcome?.verdict ?? { sent: "…", judged: "?", fixed: "fixed", lost: "lost" }[shot.state];
  const stop = outcome === null ? "" : `stopped ${milliseconds(outcome.stopUs)}`;
  const cells =
    columns >= wideColumns
      ? [shot.trigger.name.padEnd(20), signal.padEnd(8), (outcome?.rung ?? "").padEnd(10), verdict.padEnd(9)]
      : [shot.trigger.name.slice(0, 14).padEnd(14), verdict.padEnd(9)];
  const tail = columns >= wideColumns ? [stop.padEnd(17), cutWords(shot)] : [];
  const colour = { clean: "green", fixed: "green", degraded: "yellow", failed: "red", lost: "red" }[verdict];
  return paint(clip([...cells, ...tail].join(" ").trimEnd(), columns), colour ?? "plain", canvas);
}

const cutWords = (shot: Shot): string => {
  const cut = sessionsCut(shot);
  return cut === 0 ? "" : `${cut} ${cut === 1 ? "session" : "sessions"} cut`;
};

/** µs as milliseconds with one digit. */
export const milliseconds = (us: number): string => `${(us / 1_000).toFixed(1)} ms`;

/** A whole number with a comma between thousands. */
export const whole = (value: number): string => Math.round(value).toLocaleString("en-US");

type Colour = "cyan" | "green" | "yellow" | "red" | "plain";
const codes: Readonly<Record<Colour, string>> = { cyan: "36", green: "32", yellow: "33", red: "31", plain: "0" };

const paint = (text: string, colour: string, canvas: Canvas): string =>
  canvas.colour && text.trim() !== "" ? `\x1b[${codes[colour as Colour]}m${text}\x1b[0m` : text;

const clip = (text: string, columns: number): string => (text.length <= columns ? text : text.slice(0, columns));
