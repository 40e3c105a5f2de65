// SPDX-License-Identifier: Apache-2.0
/**
 * The topics of the contract, version 1. Gets a root and a device name; gives topic names, and reads a received name back
 * into what it means. A name that is not one of ours reads as null.
 */
import { TelemetryError } from "#errors.ts";
import type { MetricGroup } from "#metrics.ts";

/** The `1` in every topic: a major change of this contract gets another tree. */
export const contractMajor = 1;
export const eventClasses = [
  "fault",
  "suppress",
  "restore",
  "lifecycle",
  "update",
  "auth",
  "audit",
  "health",
  "herd",
] as const;
export type EventClass = (typeof eventClasses)[number];

const deviceName = /^[a-z0-9][a-z0-9-]{0,62}$/;
const rootName = /^[A-Za-z0-9_-]{1,64}(\/[A-Za-z0-9_-]{1,64}){0,3}$/;
/** `<module>.<offset>-<module>.<offset>` or `<module>.<offset>-none`, as in `siteName`. */
const sitePattern = /^[0-9a-f]{8}\.[0-9a-f]{1,16}-(none|[0-9a-f]{8}\.[0-9a-f]{1,16})$/;
const buildPattern = /^([0-9a-f]{2}){8,64}$/;
const namePart = /^[a-z0-9._-]{1,64}$/;

export const isDeviceName = (text: string): boolean => deviceName.test(text);
export const isSiteName = (text: string): boolean => sitePattern.test(text);
export const isBuildId = (text: string): boolean => buildPattern.test(text);

/** Topics of a whole fleet. */
export class FleetTopics {
  readonly tree: string;

  /** @throws TelemetryError telemetry.settings */
  constructor(readonly root: string) {
    if (!rootName.test(root)) {
      throw new TelemetryError("telemetry.settings", `"${root}" cannot be the root of our topics`, { root });
    }
    this.tree = `${root}/${contractMajor}`;
  }

  get deny(): string {
    return `${this.tree}/_fleet/deny`;
  }
  get answers(): string {
    return `${this.tree}/_rsp`;
  }
  commandToAll(verb: string): string {
    return `${this.tree}/_all/cmd/${verb}`;
  }
  rescue(build: string, site: string): string {
    return `${this.tree}/_fleet/rescue/${build}/${site}`;
  }
  rescueOf(build: string): string {
    return `${this.tree}/_fleet/rescue/${build}/+`;
  }
  /** True for a v5 response topic that we may answer on. */
  isAnswer(topic: string): boolean {
    return topic.startsWith(`${this.answers}/`) && topic.length <= 256 && !/[+#\0]/.test(topic);
  }
}

/** Topics of one box. */
export class BoxTopics extends FleetTopics {
  readonly box: string;

  /** @throws TelemetryError telemetry.settings */
  constructor(
    root: string,
    readonly device: string,
  ) {
    super(root);
    if (!isDeviceName(device)) {
      throw new TelemetryError(
        "telemetry.settings",
        `"${device}" cannot be the name of a box: a-z, 0-9 and -, 63 at most`,
      );
    }
    this.box = `${this.tree}/${device}`;
  }

  get state(): string {
    return `${this.box}/state`;
  }
  get birth(): string {
    return `${this.box}/birth`;
  }
  get config(): string {
    return `${this.box}/config`;
  }
  get response(): string {
    return `${this.box}/rsp`;
  }
  get commands(): string {
    return `${this.box}/cmd/+`;
  }
  get commandsToAll(): string {
    return this.commandToAll("+");
  }
  /** Home Assistant looks here, outside our tree. */
  get discovery(): string {
    return `homeassistant/device/${this.device}/config`;
  }
  live(group: MetricGroup): string {
    return `${this.box}/m/${group}`;
  }
  backfill(group: MetricGroup): string {
    return `${this.box}/h/${group}`;
  }
  event(name: EventClass): string {
    return `${this.box}/e/${name}`;
  }
  alarm(name: string): string {
    return `${this.box}/a/${checkedPart(name)}`;
  }
  job(id: string): string {
    return `${this.box}/job/${checkedPart(id)}`;
  }
  command(verb: string): string {
    return `${this.box}/cmd/${verb}`;
  }
  /** The same message for readers without CBOR: `P/json/…`. */
  mirror(topic: string): string {
    return `${this.box}/json${topic.slice(this.box.length)}`;
  }
}

/** What a received topic is for this box. */
export type Received =
  | { readonly kind: "state" }
  | { readonly kind: "command"; readonly verb: string; readonly to: "box" | "all" }
  | { readonly kind: "rescue"; readonly build: string; readonly site: string }
  | { readonly kind: "deny" };

export function readTopic(topics: BoxTopics, topic: string): Received | null {
  if (topic === topics.state) return { kind: "state" };
  if (topic === topics.deny) return { kind: "deny" };
  const own = after(topic, `${topics.box}/cmd/`);
  if (own !== null) return { kind: "command", verb: own, to: "box" };
  const all = after(topic, `${topics.tree}/_all/cmd/`);
  if (all !== null) return { kind: "command", verb: all, to: "all" };
  const [build, site, ...rest] = after(topic, `${topics.tree}/_fleet/rescue/`)?.split("/") ?? [];
  if (build === undefined || site === undefined || rest.length > 0) return null;
  return isBuildId(build) && isSiteName(site) ? { kind: "rescue", build, site } : null;
}

const after = (text: string, prefix: string): string | null =>
  text.startsWith(prefix) ? text.slice(prefix.length) : null;

function checkedPart(name: string): string {
  if (namePart.test(name)) return name;
  throw new TelemetryError(
    "telemetry.topic",
    `"${name.slice(0, 80)}" cannot be part of a topic: a-z, 0-9, ".", "_", "-"`,
  );
}
