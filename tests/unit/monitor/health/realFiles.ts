// SPDX-License-Identifier: Apache-2.0
/**
 * Files as real kernels wrote them: Linux 6.18 in a virtual machine (processors, memory, pressure, network, a process), a
 * systemd service's control group on Debian 12, and the sysfs files of a board with eMMC in the form of their ABI documents.
 */

export const statText = `cpu  1187302 74024 559509 915651 34154 0 57538 4915 43 0
cpu0 594211 32821 272792 476980 10573 0 26195 2436 21 0
cpu1 593091 41203 286717 438671 23581 0 31343 2479 21 0
ctxt 169321037
btime 1795397128
processes 1433276
procs_running 17
procs_blocked 0`;

export const memoryText = `MemTotal:       24684084 kB
MemFree:        15248340 kB
MemAvailable:   21323292 kB
Buffers:           80020 kB
Cached:          6007788 kB
SwapCached:            0 kB
SwapTotal:       1048572 kB
SwapFree:        1040000 kB`;

export const pressureText = `some avg10=2.27 avg60=3.53 avg300=4.54 total=672991004
full avg10=0.00 avg60=0.15 avg300=0.13 total=213214647`;

export const networkText = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 54007149475 159945448    0    0    0     0          0         0 54007149475 159945448    0    0    0     0       0          0
  eth0: 5206964856  124842    2    3    0     0          0         0  8217673   74225    1    4    0     0       0          0`;

export const processText =
  "11635 (a) R (b) S 11630 11630 23999 0 -1 4194304 101 0 7 0 250 50 0 0 20 0 4 0 1338931 3133440 413 18446744073709551615 94261448036352 94261448056233 140728077123488 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 94261448072240 94261448073856 94261803868160 140728077130435 140728077130455 140728077130455 140728077131755 0";

export const ioText = `rchar: 6976
wchar: 24
syscr: 10
syscw: 1
read_bytes: 0
write_bytes: 0
cancelled_write_bytes: 0`;

export const limitsText = `Limit                     Soft Limit           Hard Limit           Units
Max cpu time              unlimited            unlimited            seconds
Max open files            1024                 524288               files
Max locked memory         8388608              8388608              bytes`;

export const boardFiles: Readonly<Record<string, string>> = {
  "/proc/stat": statText,
  "/proc/meminfo": memoryText,
  "/proc/pressure/cpu": pressureText,
  "/proc/pressure/memory": pressureText,
  "/proc/pressure/io": pressureText,
  "/proc/net/dev": networkText,
  "/sys/class/net/eth0/operstate": "up",
  "/sys/class/net/eth0/speed": "1000",
  "/sys/class/thermal/thermal_zone0/type": "soc-thermal",
  "/sys/class/thermal/thermal_zone0/temp": "47222",
  "/sys/class/thermal/thermal_zone0/trip_point_0_type": "passive",
  "/sys/class/thermal/thermal_zone0/trip_point_0_temp": "85000",
  "/sys/class/thermal/thermal_zone0/trip_point_1_type": "critical",
  "/sys/class/thermal/thermal_zone0/trip_point_1_temp": "115000",
  "/sys/class/thermal/thermal_zone1/type": "soc-thermal",
  "/sys/class/thermal/thermal_zone1/temp": "45300",
  "/sys/class/thermal/cooling_device0/cur_state": "3",
  "/sys/class/thermal/cooling_device0/max_state": "8",
  "/sys/class/thermal/cooling_device1/cur_state": "0",
  "/sys/class/thermal/cooling_device1/max_state": "1",
  "/sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "5",
  "/sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "2",
  "/sys/block/mmcblk0/device/life_time": "0x02 0x03",
  "/sys/block/mmcblk0/device/pre_eol_info": "0x01",
};

export const serviceFiles: Readonly<Record<string, string>> = {
  "/proc/self/mounts": "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime 0 0",
  "/proc/77/cgroup": "0::/system.slice/shop.service",
  "/sys/fs/cgroup/system.slice/shop.service/cpu.stat":
    "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\nnr_periods 0\nnr_throttled 0\nthrottled_usec 125000",
  "/sys/fs/cgroup/system.slice/shop.service/memory.current": "104857600",
  "/sys/fs/cgroup/system.slice/shop.service/memory.max": "max",
  "/sys/fs/cgroup/system.slice/shop.service/memory.events": "low 0\nhigh 0\nmax 0\noom 1\noom_kill 1\noom_group_kill 0",
  "/sys/fs/cgroup/system.slice/shop.service/pids.current": "7",
  "/sys/fs/cgroup/system.slice/shop.service/memory.pressure": pressureText,
};
