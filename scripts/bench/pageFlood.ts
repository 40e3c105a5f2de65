// SPDX-License-Identifier: Apache-2.0
/**
 * A flood against the status page, as a process of its own: idle connections, half requests, and live readers that read
 * nothing. Words: PORT, TOKEN…; orders on standard input: `open N` and `close`; answers one line of JSON each.
 */
import { connect, type Socket } from "node:net";

const batch = 200;
const [port = "", ...tokens] = process.argv.slice(2);
let open: Socket[] = [];

const request = (token: string): string =>
  `GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${token}\r\n\r\n`;

/** Opens one connection, says `words`, and gives the status that it is answered; 0 where nothing is asked for. */
function dial(words: string, answered: boolean): Promise<number> {
  return new Promise((resolve) => {
    const socket = connect(Number(port), "127.0.0.1", () => {
      socket.write(words);
      if (!answered) resolve(0);
    });
    socket.once("data", (bytes) => {
      socket.pause();
      resolve(Number(/^HTTP\/1\.1 (\d+)/.exec(bytes.toString("latin1"))?.[1] ?? 0));
    });
    socket.once("error", () => resolve(-1));
    open.push(socket);
  });
}

async function flood(connections: number): Promise<unknown> {
  const readers = await Promise.all(
    Array.from({ length: 100 }, (_, index) => dial(request(tokens[index % tokens.length]!), true)),
  );
  let failed = 0;
  for (let made = 0; made < connections; made += batch) {
    const states = await Promise.all(
      Array.from({ length: batch }, (_, index) => dial(index % 2 === 0 ? "GET / HTTP/1.1\r\nHo" : "", false)),
    );
    failed += states.filter((state) => state < 0).length;
  }
  return {
    admitted: readers.filter((status) => status === 200).length,
    refused: readers.filter((status) => status === 503).length,
    connections,
    failed,
  };
}

for await (const line of console) {
  const [order, number = "0"] = line.split(" ");
  if (order === "open") console.log(JSON.stringify(await flood(Number(number))));
  if (order === "close") {
    for (const socket of open) socket.destroy();
    open = [];
    console.log("{}");
  }
}
