// SPDX-License-Identifier: Apache-2.0
/**
 * The real Telegraf with the configuration as shipped, between a box and its database: what a box says over TLS comes out as
 * points of the names that dashboard and rules ask for. Only paths, the broker's address and the output are replaced.
 */
import { afterAll, beforeAll } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deadline, systemClock } from "#clock.ts";
import { samples } from "#scripts/fleet/vectorValues.ts";
import { boxFacts, openBox } from "#tests/peers/box.ts";
import { Authority } from "#tests/peers/certificates.ts";
import { Mosquitto } from "#tests/peers/mosquitto.ts";
import { need, programPath } from "#tests/skip.ts";

const shipped = join(import.meta.dir, "../../scripts/fleet/telegraf");
const waitMs = 30_000;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "holdfast-telegraf-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function configuration(broker: Mosquitto, authority: Authority): Promise<string> {
  const reader = authority.issue("reader");
  const text = (await Bun.file(join(shipped, "telegraf.conf")).text())
    .replaceAll("ssl://broker.example:8883", `ssl://127.0.0.1:${broker.port}`)
    .replaceAll("/etc/telegraf/ca.crt", authority.file)
    .replaceAll("/etc/telegraf/reader.crt", reader.certificateFile)
    .replaceAll("/etc/telegraf/reader.key", reader.keyFile)
    .replaceAll("/etc/telegraf/holdfast.star", join(shipped, "holdfast.star"))
    .replace('flush_interval = "10s"', 'flush_interval = "1s"')
    .replace(/\[\[outputs\.influxdb\]\][\s\S]*$/, '[[outputs.file]]\n  files = ["stdout"]\n  data_format = "influx"\n');
  const file = join(folder, "telegraf.conf");
  await Bun.write(file, text);
  return file;
}

/** Reads on until each pattern was seen in a line. @throws RangeError with what came instead */
async function linesWith(output: ReadableStream<Uint8Array>, wanted: readonly RegExp[]): Promise<void> {
  let text = "";
  const missing = (): RegExp[] => wanted.filter((pattern) => !pattern.test(text));
  const decoder = new TextDecoder();
  const reader = output.getReader();
  using patience = deadline(waitMs, () => new RangeError(`never: ${missing()} in\n${text.slice(-6_000)}`));
  const late = new Promise<never>((_, reject) => {
    patience.signal.addEventListener("abort", () => reject(patience.signal.reason), { once: true });
  });
  while (missing().length > 0) {
    const { value, done } = await Promise.race([reader.read(), late]);
    if (done) throw new RangeError(`Telegraf ended; never: ${missing()} in\n${text}`);
    text += decoder.decode(value, { stream: true });
  }
  reader.releaseLock();
}

need("telegraf", "mosquitto", "openssl")(
  "metrics, states and alarms of a box come out as points with their labels",
  async () => {
    using authority = new Authority();
    const server = authority.issue("server");
    const files = [`cafile ${authority.file}`, `certfile ${server.certificateFile}`, `keyfile ${server.keyFile}`];
    const listener = [...files, "require_certificate true", "use_identity_as_username true"];
    await using broker = await Mosquitto.start({ listener });
    const child = Bun.spawn([programPath("telegraf")!, "--config", await configuration(broker, authority)], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    try {
      const { certificate, privateKey } = authority.issue("box-a");
      await using box = openBox(`mqtts://127.0.0.1:${broker.port}`, {
        device: "box-a",
        broker: { authority: authority.authority, certificate, privateKey },
      });
      box.telemetry.birth(boxFacts);
      box.telemetry.raise("disk", { sev: 3, cause: "the disk is full", effect: "less is kept", fix: "make room" });
      const telling = systemClock.wallMs();
      const tell = async (signal: AbortSignal): Promise<void> => {
        for (let second = 0; !signal.aborted; second += 1) {
          box.telemetry.metrics({ group: "workload", atMs: telling + 1_000 * second, samples });
          await systemClock.sleep(1_000, signal).catch(() => {});
        }
      };
      const stop = new AbortController();
      const told = tell(stop.signal);
      await linesWith(child.stdout, [
        /^holdfast,.*box=box-a.*signal=SIGSEGV.*workload=redis.* faults_total=12 \d{19}$/m,
        /^holdfast,.*box=box-a.*le=0\.001.* stop_seconds_bucket=9 /m,
        // Fields come in any order.
        /^holdfast,.*box=box-a.* .*box_online=1/m,
        /^holdfast,.*box=box-a.* .*box_lost=0/m,
        /^holdfast,.*box=box-a.* .*box_session=1/m,
        /^holdfast,.*alarm=disk.*box=box-a.* alarm_severity=3 /m,
      ]).finally(() => stop.abort());
      await told;
    } finally {
      child.kill();
      await child.exited;
    }
  },
  90_000,
);
