// SPDX-License-Identifier: Apache-2.0
/**
 * The relay of the injection bench as a pure machine: bytes pass unchanged in any pieces, own requests are hidden, and the
 * client is told of offered stops only.
 */
import { expect, test } from "bun:test";
import { encodeNotification, encodePacket } from "#monitor/gdb/frame.ts";
import { FrameSplitter, RelayStream } from "#scripts/bench/inject/relayStream.ts";

function open() {
  const stub: string[] = [];
  const client: string[] = [];
  const stops: string[] = [];
  const stream = new RelayStream({
    toStub: (text) => stub.push(text),
    toClient: (text) => client.push(text),
    stopped: (reply) => stops.push(reply),
    asked: () => {},
  });
  return { stream, stub, client, stops };
}

const stop = "T0b10:0000000000000000;thread:p1.2;core:0;";

test("frames come out whole, whatever the split", () => {
  const text = "+$OK#9a%Stop:T05#00+$m55,8#ff";
  for (let at = 0; at <= text.length; at += 1) {
    const splitter = new FrameSplitter();
    const pieces = [...splitter.push(text.slice(0, at)), ...splitter.push(text.slice(at))];
    expect(pieces).toEqual(["+", "$OK#9a", "%Stop:T05#00", "+", "$m55,8#ff"]);
  }
});

test("requests and replies pass as they came, run lengths too", () => {
  const { stream, stub, client } = open();
  stream.fromClient("$g#67");
  stream.fromStub("$0*,#86");
  expect(stub).toEqual(["$g#67"]);
  expect(client).toEqual(["$0*,#86"]);
});

test("a request of our own goes between, its reply to us alone, and the client's choice of a thread is put back", async () => {
  const { stream, stub, client } = open();
  stream.fromClient(encodePacket("Hgp1.1"));
  stream.fromStub("$OK#9a");
  const asked = stream.ask(["Hgp1.2", "g"]);
  stream.fromClient("$m10,8#00");
  stream.fromStub('$OK#9a$0*"#7c' + "$OK#9a$abcd#8a");
  expect(stub.join("")).toBe(
    [encodePacket("Hgp1.1"), encodePacket("Hgp1.2"), encodePacket("g"), encodePacket("Hgp1.1"), "$m10,8#00"].join(""),
  );
  expect(client).toEqual(["$OK#9a", "$abcd#8a"]);
  expect(await asked).toEqual(["OK", "000000"]);
});

test("stops are drained here; the client is told of offered ones by the same exchange", () => {
  const { stream, stub, client, stops } = open();
  const other = stop.replace("p1.2", "p1.3");
  stream.fromStub(encodeNotification(`Stop:${stop}`));
  stream.fromStub(encodePacket(other));
  stream.fromStub(encodePacket("OK"));
  expect(stub).toEqual([encodePacket("vStopped"), encodePacket("vStopped")]);
  expect(stops).toEqual([stop, other]);
  expect(client).toEqual([]);
  stream.offer(stop);
  stream.offer(other);
  expect(client).toEqual([encodeNotification(`Stop:${stop}`)]);
  stream.fromClient(encodePacket("vStopped"));
  stream.fromClient(encodePacket("vStopped"));
  expect(client.slice(1)).toEqual([encodePacket(other), encodePacket("OK")]);
  stream.offer(stop);
  expect(client.at(-1)).toBe(encodeNotification(`Stop:${stop}`));
});

test("an answer that is known here waits for the replies before it", () => {
  const { stream, client } = open();
  stream.offer(stop);
  stream.fromClient(`${encodePacket("g")}${encodePacket("vStopped")}`);
  expect(client).toHaveLength(1);
  stream.fromStub(encodePacket("aa"));
  expect(client.slice(1)).toEqual([encodePacket("aa"), encodePacket("OK")]);
});
