// SPDX-License-Identifier: Apache-2.0
/**
 * A stand-in for `holdfast guard --json -- redis-server …`: prints the contract's lines and survives by never being hit.
 *
 * Runs the real server on another port and relays to it, swallowing the crash commands; for each it reports a fault and an
 * outcome. FAKE_GUARD picks a misbehaviour: `failed` (every verdict fails and the server ends), `cut` (a crash cuts one
 * other client), `wrong` (a crash spoils one answer of another client), `mute` (never guards), `garbage` (bad lines),
 * `newer` (a newer package: the upstream faults are fixed).
 */
import { systemClock } from "#clock.ts";

const crashes = /DEBUG\r\n|resetchannels\r\n$|GETKEYSANDFLAGS/;
const misbehaviour = process.env.FAKE_GUARD ?? "";
const command = process.argv.slice(process.argv.indexOf("--") + 1);
const portAt = command.indexOf("--port") + 1;
const port = Number(command[portAt]);

const hidden = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
const innerPort = hidden.port;
hidden.stop(true);
const server = Bun.spawn(command.with(portAt, String(innerPort)), { stdout: "ignore", stderr: "ignore" });
process.once("SIGTERM", () => server.kill());

const print = (event: object): void => console.log(JSON.stringify(event));
const clients = new Set<Bun.Socket<Relayed>>();
type Relayed = { inner: Bun.Socket | null; early: Buffer[]; guilty: boolean };
let faults = 0;

function fault(guilty: Bun.Socket<Relayed>): void {
  faults += 1;
  guilty.data.guilty = true;
  const id = `F${faults}`;
  const frames = [{ pc: "0x55d0", module: "/usr/bin/redis-server", offset: "0x10" }];
  print({ event: "fault", id, signal: "SIGSEGV", thread: server.pid, site: "aa+0x10", frames });
  const verdict = misbehaviour === "failed" ? "failed" : "clean";
  print({ event: "outcome", id, rung: "abandon", verdict, stopUs: 1_000 + faults, session: null });
  if (misbehaviour === "failed") server.kill("SIGKILL");
  const other = [...clients].find((client) => client !== guilty && !client.data.guilty);
  if (misbehaviour === "cut") other?.end();
  if (misbehaviour === "wrong") other?.write("+SPOILT\r\n");
}

async function connectInner(client: Bun.Socket<Relayed>): Promise<void> {
  const inner = await Bun.connect({
    hostname: "127.0.0.1",
    port: innerPort,
    socket: {
      data(_, bytes) {
        client.write(bytes);
      },
      close() {
        client.end();
      },
      error() {
        client.end();
      },
    },
  });
  for (const bytes of client.data.early) inner.write(bytes);
  client.data.inner = inner;
}

for (let tries = 0; tries < 500 && server.exitCode === null; tries += 1) {
  const answered = await Bun.connect({ hostname: "127.0.0.1", port: innerPort, socket: { data() {} } }).catch(
    () => null,
  );
  answered?.end();
  if (answered !== null) break;
  await systemClock.sleep(10);
}
Bun.listen<Relayed>({
  hostname: "127.0.0.1",
  port,
  socket: {
    open(client) {
      client.data = { inner: null, early: [], guilty: false };
      clients.add(client);
      connectInner(client).catch(() => client.end());
    },
    data(client, bytes) {
      const said = bytes.toString("latin1");
      if (crashes.test(said) && misbehaviour === "newer" && !said.includes("DEBUG")) {
        client.write("+OK\r\n");
        client.end();
      } else if (crashes.test(said)) fault(client);
      else if (client.data.inner === null) client.data.early.push(Buffer.from(bytes));
      else client.data.inner.write(bytes);
    },
    close(client) {
      clients.delete(client);
      client.data.inner?.end();
    },
  },
});
if (misbehaviour === "garbage") console.log('{"event":"outcome","id":7}\nnot json');
if (misbehaviour !== "mute") print({ event: "guarding", workload: "demo", pid: server.pid, threads: 4 });
await server.exited;
print({ event: "exit", workload: "demo", code: server.exitCode, signal: server.signalCode });
process.exit(server.exitCode ?? 1);
