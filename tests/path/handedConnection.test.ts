// SPDX-License-Identifier: Apache-2.0
/**
 * Which forked processes are there for one connection: real sockets between real processes, in every shape that servers have.
 */
import { expect } from "bun:test";
import { servesOne } from "#monitor/handedConnection.ts";
import { need } from "#tests/skip.ts";

/** A listener that forks for its one client; `shape` names what differs. Says the child's process id, and stays. */
const forker = `
import os, socket, sys
shape = sys.argv[1]
family = socket.AF_UNIX if shape == "unix" else socket.AF_INET
listener = socket.socket(family)
listener.bind("\\0holdfast-" + str(os.getpid()) if shape == "unix" else ("127.0.0.1", 0))
listener.listen(4)
client = socket.create_connection(listener.getsockname()) if family == socket.AF_INET else socket.socket(family)
if shape == "unix": client.connect(listener.getsockname())
own, _ = listener.accept()
second = None
if shape == "two":
    extra = socket.create_connection(listener.getsockname())
    second, _ = listener.accept()
ready, tell = os.pipe()
child = os.fork()
if child == 0:
    if shape != "listens": listener.close()
    if shape != "client": client.close()
    if shape == "client": own.close()
    if shape == "standard":
        for fd in (0, 1): os.dup2(own.fileno(), fd)
    os.write(tell, b"x")
    sys.stdin.read() if shape != "standard" else own.recv(1)
    os._exit(0)
if shape != "shared": own.close()
if second is not None: second.close()
os.read(ready, 1)
print(child, flush=True)
sys.stdin.read()
os.kill(child, 9)
`;

const shapes: readonly [shape: string, isForOne: boolean][] = [
  ["tcp", true],
  ["unix", true],
  ["standard", true],
  ["listens", false],
  ["shared", false],
  ["two", false],
  ["client", false],
];

for (const [shape, isForOne] of shapes) {
  need("python3")(`${shape}: ${isForOne ? "for one connection" : "not for one connection alone"}`, async () => {
    const parent = Bun.spawn(["python3", "-c", forker, shape], { stdin: "pipe", stdout: "pipe", stderr: "inherit" });
    try {
      const { value } = await parent.stdout.getReader().read();
      expect(servesOne(Number(Buffer.from(value!).toString()))).toBe(isForOne);
      expect(servesOne(parent.pid)).toBe(false);
    } finally {
      parent.stdin.end();
      await parent.exited;
    }
  });
}
