// SPDX-License-Identifier: Apache-2.0
/**
 * The two byte streams of a gdbserver connection with somebody between them who may ask and hide things.
 *
 * Gets the bytes of both ends; passes packets on unchanged and in order. Requests of its own go between those of the client,
 * their replies come to it alone. Stops are taken here, all of them: the owner hides a stop or offers it, and the client
 * is told of offered ones only, by the same exchange (`%Stop`, `vStopped`, `OK`) as if the stub told it.
 * Limits: non-stop mode; a client that asks `?` (one that takes over a stub) is not served. Source: GDB manual,
 * appendix E, "Notification Packets".
 */
import { assert } from "#errors.ts";
import { encodeNotification, encodePacket, FrameDecoder } from "#monitor/gdb/frame.ts";

export type RelayEnds = {
  toStub(text: string): void;
  toClient(text: string): void;
  /** One stop that the stub has told. */
  stopped(reply: string): void;
  /** A request of the client, before it is passed on. */
  asked(request: string): void;
};

/** Who a reply of the stub is for. `here`: a reply to the client that is known already and waits for its turn. */
type Expected =
  | { readonly kind: "client" }
  | { readonly kind: "drain" }
  | { readonly kind: "own"; readonly settle: (text: string) => void }
  | { readonly kind: "here"; readonly text: string };

const checksumCharacters = 3;

/** Cuts a stream into whole frames (`$…#xx`, `%…#xx`) and the single characters between them, all as they came. */
export class FrameSplitter {
  #rest = "";

  push(chunk: string): string[] {
    const text = this.#rest + chunk;
    const pieces: string[] = [];
    let at = 0;
    while (at < text.length) {
      const end = text[at] === "$" || text[at] === "%" ? endOfFrame(text, at) : at + 1;
      if (end === null) break;
      pieces.push(text.slice(at, end));
      at = end;
    }
    this.#rest = text.slice(at);
    return pieces;
  }
}

function endOfFrame(text: string, from: number): number | null {
  const hash = text.indexOf("#", from);
  return hash < 0 || hash + checksumCharacters > text.length ? null : hash + checksumCharacters;
}

export class RelayStream {
  readonly #fromStub = new FrameSplitter();
  readonly #fromClient = new FrameSplitter();
  readonly #expected: Expected[] = [];
  readonly #offered: string[] = [];
  #telling = false;
  /** The client's last choice of a thread: ours must not change what its next request acts on. */
  #selected: string | null = null;

  constructor(private readonly ends: RelayEnds) {}

  fromStub(chunk: string): void {
    for (const piece of this.#fromStub.push(chunk)) {
      if (piece[0] === "$") this.#reply(piece);
      else if (piece.startsWith("%Stop:")) {
        this.#takeStop(textOf(piece).slice("Stop:".length));
      } else this.ends.toClient(piece);
    }
  }

  fromClient(chunk: string): void {
    for (const piece of this.#fromClient.push(chunk)) {
      if (piece[0] !== "$") {
        this.ends.toStub(piece);
        continue;
      }
      const request = piece.slice(1, -checksumCharacters);
      if (request === "vStopped") {
        this.#answerHere(this.#nextOffer());
        continue;
      }
      if (request.startsWith("Hg")) this.#selected = request;
      this.ends.asked(request);
      this.#expected.push({ kind: "client" });
      this.ends.toStub(piece);
    }
  }

  /** Sends requests of our own in one write; gives their replies, run lengths expanded. */
  ask(requests: readonly string[]): Promise<string[]> {
    const selects = requests.some((request) => request.startsWith("Hg"));
    const restore = selects && this.#selected !== null ? [this.#selected] : [];
    const replies = requests.map(() => {
      const { promise, resolve } = Promise.withResolvers<string>();
      this.#expected.push({ kind: "own", settle: resolve });
      return promise;
    });
    for (const _ of restore) this.#expected.push({ kind: "own", settle: () => {} });
    this.ends.toStub([...requests, ...restore].map(encodePacket).join(""));
    return Promise.all(replies);
  }

  /** Tells the client of a stop. */
  offer(reply: string): void {
    if (this.#telling) {
      this.#offered.push(reply);
      return;
    }
    this.#telling = true;
    this.ends.toClient(encodeNotification(`Stop:${reply}`));
  }

  #nextOffer(): string {
    const offered = this.#offered.shift();
    this.#telling = offered !== undefined;
    return offered ?? "OK";
  }

  #takeStop(reply: string): void {
    this.#expected.push({ kind: "drain" });
    this.ends.toStub(encodePacket("vStopped"));
    this.ends.stopped(reply);
  }

  #answerHere(text: string): void {
    this.#expected.push({ kind: "here", text });
    this.#flush();
  }

  #reply(piece: string): void {
    const expected = this.#expected.shift();
    assert(expected !== undefined && expected.kind !== "here", "a reply that nobody asked for");
    if (expected.kind === "client") this.ends.toClient(piece);
    else if (expected.kind === "own") expected.settle(textOf(piece));
    else {
      const text = textOf(piece);
      if (text !== "OK") this.#takeStop(text);
    }
    this.#flush();
  }

  #flush(): void {
    for (let first = this.#expected[0]; first?.kind === "here"; first = this.#expected[0]) {
      this.#expected.shift();
      this.ends.toClient(encodePacket(first.text));
    }
  }
}

/** The text of one whole frame, run lengths expanded. */
function textOf(piece: string): string {
  const frame = new FrameDecoder().push(Buffer.from(piece, "latin1"))[0];
  assert(frame !== undefined && (frame.kind === "packet" || frame.kind === "notification"), "a broken frame", {
    piece: piece.slice(0, 80),
  });
  return frame.text;
}
