// SPDX-License-Identifier: Apache-2.0
/**
 * Heat and flash of the board, from sysfs. Gets a box; gives temperatures, throttling and wear, or why there is nothing.
 *
 * Source: Documentation/ABI/testing/sysfs-class-thermal; sysfs-devices-system-cpu (thermal_throttle, x86 only); mmc-dev-attrs
 * (life_time in tenths, pre_eol_info 1 to 3; JEDEC JESD84-B51). NVMe wear needs a command to the device: see nvmeLife.ts.
 */
import type { Box } from "#board/box.ts";
import { absent, type FlashLife, type Seen, seen, type Throttling, type ZoneTemperature } from "#health.ts";

const thermal = "/sys/class/thermal";
const processorsFolder = "/sys/devices/system/cpu";

export function readTemperatures(box: Box): Seen<readonly ZoneTemperature[]> {
  const zones = box.names(thermal).filter((name) => name.startsWith("thermal_zone"));
  const read = zones.flatMap((name) => {
    const at = `${thermal}/${name}`;
    const celsius = milli(box.text(`${at}/temp`));
    if (celsius === null) return [];
    const critical = [0, 1, 2, 3, 4, 5, 6, 7].find((trip) => box.text(`${at}/trip_point_${trip}_type`) === "critical");
    const criticalCelsius = critical === undefined ? null : milli(box.text(`${at}/trip_point_${critical}_temp`));
    return [{ zone: box.text(`${at}/type`) ?? name, celsius, criticalCelsius }];
  });
  return read.length > 0
    ? seen(numbered(read))
    : absent("this machine has no thermal zone (a virtual machine has none)");
}

export function readThrottling(box: Box): Seen<Throttling> {
  const processors = box.names(processorsFolder).filter((name) => /^cpu\d+$/.test(name));
  const counts = processors.map((name) =>
    whole(box.text(`${processorsFolder}/${name}/thermal_throttle/core_throttle_count`)),
  );
  const known = counts.filter((count) => count !== null);
  const devices = box.names(thermal).filter((name) => name.startsWith("cooling_device"));
  if (known.length === 0 && devices.length === 0)
    return absent("this machine counts no throttling and has no cooling devices");
  const cooling = devices.flatMap((device) => {
    const [state, stateMax] = ["cur_state", "max_state"].map((file) => whole(box.text(`${thermal}/${device}/${file}`)));
    return state == null || stateMax == null || state === 0 ? [] : [{ device, state, stateMax }];
  });
  return seen({ times: known.length === 0 ? null : known.reduce((sum, count) => sum + count, 0), cooling });
}

/** eMMC devices only. */
export function readEmmcLife(box: Box): FlashLife[] {
  return box
    .names("/sys/block")
    .filter((name) => /^mmcblk\d+$/.test(name))
    .flatMap((device) => {
      const life = parseLifeTime(box.text(`/sys/block/${device}/device/life_time`) ?? "");
      const spare = (["unknown", "normal", "warning", "urgent"] as const)[
        Number(box.text(`/sys/block/${device}/device/pre_eol_info`) ?? 0)
      ];
      return life === null ? [] : [{ device, kind: "emmc" as const, usedRatio: life, spare: spare ?? "unknown" }];
    });
}

/** `0x01 0x02`: tenths of the life of two kinds of cells, each rounded up; 11 is past the end, 0 is not told. */
export function parseLifeTime(text: string): number | null {
  const found = /^0x([0-9a-f]{2}) 0x([0-9a-f]{2})$/i.exec(text.trim());
  const worst = found === null ? 0 : Math.max(Number.parseInt(found[1]!, 16), Number.parseInt(found[2]!, 16));
  return worst === 0 || worst > 11 ? null : worst / 10;
}

/** Zones of one name get a number, so that each is a series of its own. */
function numbered(zones: readonly ZoneTemperature[]): ZoneTemperature[] {
  const times = new Map<string, number>();
  return zones.map((each) => {
    const nth = (times.get(each.zone) ?? 0) + 1;
    times.set(each.zone, nth);
    return nth === 1 ? each : { ...each, zone: `${each.zone}-${nth}` };
  });
}

const whole = (text: string | null): number | null => (text !== null && /^-?\d+$/.test(text) ? Number(text) : null);
const milli = (text: string | null): number | null => {
  const value = whole(text);
  return value === null ? null : value / 1000;
};
