// SPDX-License-Identifier: Apache-2.0
/**
 * The sample configurations of scripts/fleet, as far as the programs are at hand: Mosquitto with TLS, access rules and
 * persistence as shipped; the alert rules by promtool; the Telegraf script by Python; names in the dashboard by the catalogue.
 */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { systemClock } from "#clock.ts";
import { metricNames } from "#metrics.ts";
import { starlarkPath, starlarkScript } from "#scripts/fleet/starlarkLabels.ts";
import { samples } from "#scripts/fleet/vectorValues.ts";
import { Link } from "#telemetry/link.ts";
import { decodePack, encodePacks } from "#telemetry/senml.ts";
import { boxFacts, openBox, testBroker } from "#tests/peers/box.ts";
import { Authority, type Certificate } from "#tests/peers/certificates.ts";
import { Mosquitto } from "#tests/peers/mosquitto.ts";
import { Observer } from "#tests/peers/observer.ts";
import { need, programPath } from "#tests/skip.ts";

const fleet = join(import.meta.dir, "../../scripts/fleet");
const shipped = (path: string): Promise<string> => Bun.file(join(fleet, path)).text();

describe("Mosquitto as shipped", () => {
  /** The shipped file with our certificates, paths and port in place of those of a real machine. */
  async function start(authority: Authority, rules: string): Promise<Mosquitto> {
    const server = authority.issue("server");
    const lines = (await shipped("mosquitto/mosquitto.conf"))
      .replace("/etc/mosquitto/certs/ca.crt", authority.file)
      .replace("/etc/mosquitto/certs/server.crt", server.certificateFile)
      .replace("/etc/mosquitto/certs/server.key", server.keyFile)
      .replace("/etc/mosquitto/holdfast.acl", rules)
      .split("\n")
      .filter(
        (line) =>
          !/^(per_listener_settings|listener|persistence|persistence_location|autosave_interval|log_|connection_messages)/.test(
            line,
          ),
      );
    return Mosquitto.start({
      persistence: true,
      listener: lines.filter((line) => ofListener.test(line)),
      global: lines.filter((line) => line !== "" && !line.startsWith("#") && !ofListener.test(line)),
    });
  }

  const ofListener = /^(cafile|certfile|keyfile|require_certificate|use_identity_as_username|tls_version)/;
  const build = "c0ffee00112233445566778899aabbccddeeff00";
  /** Who may publish where. */
  const rights: readonly [string, string, boolean][] = [
    ["box-b", "holdfast/1/box-b/e/fault", true],
    ["box-b", "holdfast/1/_rsp/x", true],
    ["box-b", `holdfast/1/_fleet/rescue/${build}/s`, true],
    ["box-b", "holdfast/1/box-a/state", false],
    ["box-b", "holdfast/1/box-a/cmd/wipe", false],
    ["box-b", "holdfast/1/_all/cmd/ping", false],
    ["box-b", "holdfast/1/_fleet/deny", false],
    ["operator", "holdfast/1/box-b/cmd/ping", true],
    ["operator", "holdfast/1/_all/cmd/ping", true],
    ["operator", "holdfast/1/box-b/state", false],
    ["operator", "holdfast/1/box-b/job/x", false],
    ["operator", "holdfast/1/_fleet/deny", false],
    ["admin", "holdfast/1/_fleet/deny", true],
    ["reader", "holdfast/1/box-b/cmd/ping", false],
    ["reader", "holdfast/1/box-b/e/fault", false],
  ];
  const settings = (authority: Authority, { certificate, privateKey }: Certificate) => ({
    authority: authority.authority,
    certificate,
    privateKey,
  });

  function open(url: string, authority: Authority, name: string, heard: (topic: string) => void): Promise<Link> {
    const broker = { ...testBroker, url, ...settings(authority, authority.issue(name)) };
    const receive = async ({ topic }: { topic: string }): Promise<void> => heard(topic);
    const { signal } = new AbortController();
    const clientId = `${name}-1`;
    return Link.open({
      broker,
      protocol: 5,
      clientId,
      will: null,
      session: false,
      receive,
      clock: systemClock,
      signal,
    });
  }

  /** Whether the broker takes a message; a refusal must say "not authorized". */
  const may = async (link: Link, topic: string): Promise<boolean> =>
    link.publish({ topic, payload: new Uint8Array([0xa0]), qos: 1, retain: false }).then(
      () => true,
      ({ context }) => {
        expect(context.code).toBe(135);
        return false;
      },
    );

  need("mosquitto", "openssl")(
    "a box works; nobody does what is another's",
    async () => {
      using authority = new Authority();
      await using broker = await start(authority, join(fleet, "mosquitto/holdfast.acl"));
      const url = `mqtts://127.0.0.1:${broker.port}`;
      const { certificate: cert, privateKey: key } = authority.issue("reader");
      const filters = ["holdfast/1/+/state", "holdfast/1/+/e/+"];
      await using reader = await Observer.open(url, filters, { ca: authority.authority, cert, key });
      await using box = openBox(url, { device: "box-a", broker: settings(authority, authority.issue("box-a")) });
      box.telemetry.birth(boxFacts);
      box.feed.fault("redis");
      await reader.until("the event", (seen) => seen.find(({ topic }) => topic === "holdfast/1/box-a/e/suppress"));
      await using links = new AsyncDisposableStack();
      const byName = new Map<string, Link>();
      const heard: string[] = [];
      const own = Promise.withResolvers<void>();
      for (const name of new Set(rights.map(([who]) => who))) {
        const hear = (topic: string): void => {
          heard.push(topic);
          if (topic === "holdfast/1/box-b/cmd/restart") own.resolve();
        };
        byName.set(name, links.use(await open(url, authority, name, hear)));
      }
      for (const [who, topic, allowed] of rights) {
        expect(`${who} ${topic} ${await may(byName.get(who)!, topic)}`).toBe(`${who} ${topic} ${allowed}`);
      }
      // A subscription too wide is granted and gives only what may be read.
      await byName.get("box-b")!.subscribe(["holdfast/1/#"]);
      for (const device of ["box-a", "box-b"]) await may(byName.get("operator")!, `holdfast/1/${device}/cmd/restart`);
      await own.promise;
      expect(heard.filter((topic) => topic.startsWith("holdfast/1/box-a/"))).toEqual([]);
    },
    30_000,
  );
});

need("promtool")("the alert rules fire when they should", async () => {
  for (const words of [
    ["check", "rules", "holdfast.yml"],
    ["test", "rules", "holdfast.test.yml"],
  ]) {
    const child = Bun.spawn([programPath("promtool")!, ...words], {
      cwd: join(fleet, "alerts"),
      stdout: "pipe",
      stderr: "pipe",
    });
    const said = (await new Response(child.stdout).text()) + (await new Response(child.stderr).text());
    expect(`${await child.exited} ${said}`).toStartWith("0 ");
  }
});

need("promtool")("each question of the dashboard is one that Prometheus understands", async () => {
  type Panel = { readonly title: string; readonly targets: readonly { readonly expr: string }[] };
  const { panels } = JSON.parse(await shipped("grafana/holdfast.json")) as { panels: readonly Panel[] };
  const asked = panels.flatMap(({ targets }) => targets.map(({ expr }) => expr.replaceAll("$box", ".*")));
  const rules = asked.map((expr, index) => ({ record: `dashboard:${index}`, expr }));
  // YAML holds JSON.
  const file = new Blob([JSON.stringify({ groups: [{ name: "dashboard", rules }] })]);
  const child = Bun.spawn([programPath("promtool")!, "check", "rules", "/dev/stdin"], {
    stdio: [file, "pipe", "pipe"],
  });
  const said = (await child.stdout.text()) + (await child.stderr.text());
  expect([await child.exited, said]).toEqual([0, expect.stringContaining(`${asked.length} rules found`)]);
  expect(asked.length).toBeGreaterThan(panels.length);
});

describe("Telegraf", () => {
  test("the configuration is TOML, and its script is that of the catalogue", async () => {
    const parsed = Bun.TOML.parse(await shipped("telegraf/telegraf.conf")) as { inputs: { mqtt_consumer: unknown[] } };
    expect(parsed.inputs.mqtt_consumer.length).toBe(3);
    expect(await Bun.file(starlarkPath).text()).toBe(starlarkScript());
  });

  need("python3")("the script gives each point its name and labels", async () => {
    const points = encodePacks("box-17", 0, samples).flatMap((pack) => decodePack(pack));
    const names = points.map(({ name, value }) => [name.slice("box-17/".length), value]);
    const harness = `
import json, sys
exec(open(sys.argv[1]).read())
class Metric:
    def __init__(self, name, value):
        self.tags = {"prefix": "box-17/", "name": name}
        self.fields = {"value": value}
out = []
for name, value in json.loads(sys.argv[2]):
    metric = apply(Metric(name, value))
    out.append([metric.tags, metric.fields])
print(json.dumps(out))`;
    const child = Bun.spawnSync(["python3", "-c", harness, starlarkPath, JSON.stringify(names)]);
    const metrics = JSON.parse(child.stdout.toString()) as [Record<string, string>, Record<string, number>][];
    expect(metrics[0]).toEqual([{ box: "box-17", workload: "redis", signal: "SIGSEGV" }, { faults_total: 12 }]);
    expect(metrics).toContainEqual([{ box: "box-17", workload: "redis", le: "0.001" }, { stop_seconds_bucket: 9 }]);
    expect(metrics).toContainEqual([{ box: "box-17", mount: "/var/lib" }, { host_disk_free_bytes: 12_884_901_888 }]);
    expect(metrics.length).toBe(points.length);
  });
});

test("the dashboard and the rules ask for names that exist", async () => {
  const known = new Set<string>([...metricNames, "box_lost", "box_online", "box_session", "alarm_severity"]);
  JSON.parse(await shipped("grafana/holdfast.json"));
  for (const path of ["grafana/holdfast.json", "alerts/holdfast.yml", "alerts/holdfast.test.yml"]) {
    const names = [...(await shipped(path)).matchAll(/holdfast_([a-z_]+)/g)].map(([, name]) =>
      name!.replace(/_(bucket|count|sum)$/, ""),
    );
    expect(names.filter((name) => !known.has(name))).toEqual([]);
  }
});
