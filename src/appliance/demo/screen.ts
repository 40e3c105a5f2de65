// SPDX-License-Identifier: Apache-2.0
/**
 * Where the demo shows itself: a live picture on a terminal, plain lines elsewhere, or JSON lines.
 *
 * Gets the process's output and environment; gives one of three displays. A live picture redraws in place, hides the cursor
 * and shows it again when it ends. Honours NO_COLOR (no-color.org), TERM=dumb and the locale's character set.
 */
import { drawScene, milliseconds, shotLine, whole } from "./picture.ts";
import type { Scene, Shot } from "./scene.ts";

export interface Display {
  /** A sentence for people. */
  say(text: string): void;
  /** A line of the guard, as it came. */
  guardLine(line: string): void;
  /** Something of our own, for machines. */
  event(name: string, facts: Readonly<Record<string, unknown>>): void;
  /** Time has passed. */
  draw(scene: Scene): void;
  shotSent(shot: Shot): void;
  shotJudged(shot: Shot): void;
  /** No more pictures: what follows is text. */
  finish(): void;
}

export type DisplayOptions = {
  readonly write: (text: string) => void;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly isTerminal: boolean;
  readonly size: () => { readonly columns: number; readonly rows: number };
};

const plainColumns = 100;
/** One line about the rate for each of this many samples where there is no picture. */
const samplesBetweenLines = 20;

export function openDisplay(json: boolean, options: DisplayOptions): Display {
  if (json) return jsonDisplay(options.write);
  const live = options.isTerminal && options.environment.TERM !== "dumb";
  return live ? new LivePicture(options) : plainDisplay(options.write);
}

function jsonDisplay(write: (text: string) => void): Display {
  const nothing = (): void => {};
  return {
    say: nothing,
    guardLine: (line) => write(`${line}\n`),
    event: (name, facts) => write(`${JSON.stringify({ event: name, ...facts })}\n`),
    draw: nothing,
    shotSent: nothing,
    shotJudged: nothing,
    finish: nothing,
  };
}

function plainDisplay(write: (text: string) => void): Display {
  const canvas = { columns: plainColumns, rows: 0, colour: false, unicode: false };
  return {
    say: (text) => write(`${text}\n`),
    guardLine: () => {},
    event: () => {},
    draw: (scene) => {
      if (scene.samples % samplesBetweenLines !== 0) return;
      const recent = scene.rates.slice(-samplesBetweenLines);
      const perSecond = recent.reduce((sum, rate) => sum + rate, 0) / recent.length;
      const { right, wrong, missing, lost } = scene.bystanders;
      write(
        `  ${whole(perSecond)} requests/s, ${whole(right)} right, ${wrong} wrong, ${missing} missing, ${lost} cut\n`,
      );
    },
    shotSent: (shot) => write(`send ${shot.trigger.name} (${shot.trigger.upstream}): ${shot.trigger.what}\n`),
    shotJudged: (shot) => write(`  ${shotLine(shot, canvas, plainColumns)}\n`),
    finish: () => {},
  };
}

class LivePicture implements Display {
  #drawn = 0;

  constructor(private readonly options: DisplayOptions) {}

  say(text: string): void {
    this.options.write(`${text}\n`);
    this.#drawn = 0;
  }

  guardLine(): void {}
  event(): void {}
  shotSent(): void {}
  shotJudged(): void {}

  draw(scene: Scene): void {
    const { environment, size, write } = this.options;
    const locale = environment.LC_ALL || environment.LC_CTYPE || environment.LANG || "";
    const colour = (environment.NO_COLOR ?? "") === "";
    const lines = drawScene(scene, { ...size(), colour, unicode: /utf-?8/i.test(locale) });
    const back = this.#drawn === 0 ? "\x1b[?25l" : `\x1b[${this.#drawn}A\r`;
    write(`${back}${lines.map((line) => `${line}\x1b[K\n`).join("")}\x1b[J`);
    this.#drawn = lines.length;
  }

  finish(): void {
    if (this.#drawn > 0) this.options.write("\x1b[?25h");
    this.#drawn = 0;
  }
}

/** Stop times in words, for the summary. */
export function stopWords(stopsUs: readonly number[]): string {
  if (stopsUs.length === 0) return "no stop";
  const sorted = [...stopsUs].sort((a, b) => a - b);
  return `median ${milliseconds(sorted[Math.floor(sorted.length / 2)]!)}, longest ${milliseconds(sorted.at(-1)!)}`;
}
