# SPDX-License-Identifier: Apache-2.0
"""Samples stacks of a running program from inside gdb: registers, raw stack and gdb's own backtrace, one JSON line a stack.

Started by scripts/bench/gdbSampler.ts. Settings come by environment: SAMPLE_MODE, SAMPLE_OUT, SAMPLE_STACKS, SAMPLE_SEED,
SAMPLE_GAP_MS, and SAMPLE_REMOTE, SAMPLE_PID for an emulated program. In mode `random` it interrupts by SIGSTOP, which no
program can block and which gdb does not pass on.
"""
import json
import os
import random
import signal
import threading
import time

import gdb

FRAMES_MAX = 2000
# The socket of an emulator's stub, where the program does not run by itself.
REMOTE = os.environ.get("SAMPLE_REMOTE")
VIRTUAL = (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME)
STACK_BYTES_MAX = 1024 * 1024
PAGE_BYTES = 4096
RED_ZONE_BYTES = 128
# Read above each stack pointer, and left out between two of them at most.
BEYOND_BYTES = 4096
GAP_BYTES_MAX = 65536
# Read above that where gdb lost its way, so that another unwinder can go on.
LOST_BYTES = 12288
# An idle program gives few stacks: sampling ends after this many stops for each stack that was wanted.
STOPS_MAX_FACTOR = 3
# Breakpoints at a time, stops with them, and steps behind each.
PLACES = 60
STOPS_FOR_PLACES = 20
STEPS_MAX = 30
SETTINGS = (
    "set pagination off",
    "set confirm off",
    "set breakpoint pending on",
    "set backtrace past-main on",
    "set backtrace past-entry on",
    "handle SIGSTOP nopass stop print",
)
NAMES = {
    "x86_64": "rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip".split(),
    "aarch64": ["x%d" % number for number in range(31)] + ["sp", "pc"],
}
SAVED = {
    "x86_64": "rbx rbp r12 r13 r14 r15".split(),
    "aarch64": ["x%d" % number for number in range(19, 30)],
}


def word(value):
    return "%x" % (int(value) & 0xFFFFFFFFFFFFFFFF)


def saved_registers(frame, names):
    values = {}
    for name in names:
        try:
            value = frame.read_register(name)
            if not value.is_optimized_out:
                values[name] = word(value)
        except (gdb.error, gdb.MemoryError):
            pass
    return values


def walk(architecture):
    frames = []
    frame = gdb.newest_frame()
    reason = "limit"
    while frame is not None and len(frames) < FRAMES_MAX:
        stack = int(frame.read_register("sp")) & 0xFFFFFFFFFFFFFFFF
        kind = "signal" if frame.type() == gdb.SIGTRAMP_FRAME else "normal"
        if frame.type() not in VIRTUAL:
            frames.append(
            {"pc": word(frame.pc()), "sp": "%x" % stack, "type": kind, "saved": saved_registers(frame, SAVED[architecture])}
            )
        try:
            older = frame.older()
        except gdb.error as error:
            reason = str(error)
            break
        if older is None:
            reason = gdb.frame_stop_reason_string(frame.unwind_stop_reason())
            break
        frame = older
    return frames, reason


def read_stacks(inferior, pointers, more):
    """The bytes around every stack pointer, as few ranges: a signal handler can run on a stack of its own."""
    ranges = []
    for pointer in sorted(pointers):
        first, last = pointer - RED_ZONE_BYTES, pointer + BEYOND_BYTES + more
        if ranges and first - ranges[-1][1] < GAP_BYTES_MAX and last - ranges[-1][0] < STACK_BYTES_MAX:
            ranges[-1][1] = last
        else:
            ranges.append([first, last])
    return [content for content in (read_range(inferior, *each) for each in ranges) if content is not None]


def has_run_on(registers, names):
    """An emulator stops one thread at once and the others a little later, so their bytes can be newer than their frames."""
    gdb.execute("maintenance flush register-cache", to_string=True)
    frame = gdb.newest_frame()
    return [word(frame.read_register(name)) for name in names] != registers


def read_range(inferior, first, last):
    # Either end can lie in an unmapped page: behind the stack, or in the guard page below an exhausted one.
    for begin in (first, -(-first // PAGE_BYTES) * PAGE_BYTES):
        end = last
        while end > begin:
            try:
                return {"from": "%x" % begin, "bytes": bytes(inferior.read_memory(begin, end - begin)).hex()}
            except (gdb.MemoryError, ValueError, OverflowError):
                end = (end - 1) // PAGE_BYTES * PAGE_BYTES
    return None


def sample(inferior, thread, seen):
    """One stack, or None where the thread has not moved since its last sample."""
    thread.switch()
    frame = gdb.newest_frame()
    name = frame.architecture().name()
    architecture = "aarch64" if name.startswith("aarch64") else "x86_64"
    registers = [word(frame.read_register(register)) for register in NAMES[architecture]]
    if seen.get(thread.ptid) == registers:
        return None
    seen[thread.ptid] = registers
    frames, reason = walk(architecture)
    stacks = [int(entry["sp"], 16) for entry in frames]
    memory = read_stacks(inferior, stacks, LOST_BYTES if reason not in ("outermost", "limit") else 0)
    if REMOTE and has_run_on(registers, NAMES[architecture]):
        return None
    return {
        "thread": thread.ptid[1],
        "registers": registers,
        "frames": frames,
        "reason": reason,
        "memory": memory,
    }


def interrupt_after(delay, pid):
    time.sleep(delay)
    os.kill(pid, signal.SIGSTOP)


def at_random(out, wanted):
    """Attached to a server: stops at random moments, every thread that has moved."""
    chance = random.Random(int(os.environ["SAMPLE_SEED"]))
    gap = float(os.environ["SAMPLE_GAP_MS"]) / 1000
    inferior = gdb.selected_inferior()
    taken = 0
    stops = 0
    seen = {}
    while taken < wanted and stops < STOPS_MAX_FACTOR * wanted:
        stops += 1
        timer = threading.Thread(target=interrupt_after, args=(chance.uniform(0.1, 1.9) * gap, inferior.pid))
        timer.start()
        gdb.execute("continue", to_string=True)
        timer.join()
        for thread in inferior.threads():
            found = sample(inferior, thread, seen)
            if found is not None:
                out.write(json.dumps(found) + "\n")
                taken += 1
    write_maps(inferior)
    gdb.execute("detach")


def at_places(out, wanted):
    """An emulated server, which gdb cannot interrupt in batch mode: stops at random functions, and some steps behind."""
    chance = random.Random(int(os.environ["SAMPLE_SEED"]))
    with open(os.environ["SAMPLE_OUT"] + ".places", encoding="ascii") as listed:
        offsets = json.load(listed)
    inferior = gdb.selected_inferior()
    gdb.execute("break epoll_pwait", to_string=True)
    gdb.execute("continue", to_string=True)
    write_maps(inferior)
    base = load_address(gdb.current_progspace().filename)
    taken = 0
    seen = {}
    while taken < wanted:
        chosen = [gdb.Breakpoint("*%d" % (base + offset)) for offset in chance.sample(offsets, PLACES)]
        for _ in range(STOPS_FOR_PLACES):
            gdb.execute("continue", to_string=True)
            gdb.execute("stepi %d" % chance.randint(1, STEPS_MAX), to_string=True)
            for thread in inferior.threads():
                found = sample(inferior, thread, seen)
                if found is not None:
                    out.write(json.dumps(found) + "\n")
                    taken += 1
        for breakpoint in chosen:
            breakpoint.delete()
    gdb.execute("kill")


def load_address(path):
    with open(os.environ["SAMPLE_OUT"] + ".maps", encoding="utf8") as maps:
        for line in maps:
            if line.rstrip().endswith(path):
                return int(line.split("-")[0], 16)
    raise gdb.GdbError("the program is not mapped: " + path)


def write_maps(inferior):
    pid = int(os.environ["SAMPLE_PID"]) if REMOTE else inferior.pid
    with open("/proc/%d/maps" % pid, encoding="utf8") as maps:
        content = maps.read()
    with open(os.environ["SAMPLE_OUT"] + ".maps", "w", encoding="utf8") as copy:
        copy.write(content)
    if REMOTE:
        with open(os.environ["SAMPLE_OUT"] + ".pages", "w", encoding="ascii") as out:
            out.write(json.dumps(single_pages(inferior, content)))


def single_pages(inferior, maps):
    """Anonymous mappings of one page: the emulator keeps its signal trampoline in one."""
    pages = []
    for line in maps.splitlines():
        fields = line.split()
        first, last = (int(bound, 16) for bound in fields[0].split("-"))
        if len(fields) == 5 and last - first == PAGE_BYTES:
            pages.append(read_range(inferior, first, last))
    return [page for page in pages if page is not None]


def at_fault(out):
    """Runs the program to its first fatal signal."""
    gdb.execute("handle SIGUSR1 SIGUSR2 nostop noprint pass")
    gdb.execute("continue" if REMOTE else "run", to_string=True)
    inferior = gdb.selected_inferior()
    write_maps(inferior)
    out.write(json.dumps(sample(inferior, gdb.selected_thread(), {})) + "\n")
    gdb.execute("kill")


def at_steps(out, wanted):
    """Steps by instruction from main on."""
    gdb.execute("handle SIGUSR1 SIGUSR2 nostop noprint pass")
    gdb.execute("tbreak main")
    gdb.execute("continue" if REMOTE else "run", to_string=True)
    inferior = gdb.selected_inferior()
    write_maps(inferior)
    for _ in range(wanted):
        out.write(json.dumps(sample(inferior, gdb.selected_thread(), {})) + "\n")
        text = gdb.execute("stepi", to_string=True)
        if "SIGSEGV" in text:
            break
    gdb.execute("kill")


def main():
    wanted = int(os.environ["SAMPLE_STACKS"])
    mode = os.environ["SAMPLE_MODE"]
    for setting in SETTINGS:
        gdb.execute(setting)
    if REMOTE:
        gdb.execute("target remote " + REMOTE, to_string=True)
    with open(os.environ["SAMPLE_OUT"], "w", encoding="ascii") as out:
        if mode == "random":
            at_random(out, wanted)
        elif mode == "fault":
            at_fault(out)
        elif mode == "places":
            at_places(out, wanted)
        else:
            at_steps(out, wanted)


main()
