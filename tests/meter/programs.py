# SPDX-License-Identifier: GPL-2.0-or-later
"""Lists of operations for payload.S, and the same worked out in Python: an
account of every load and store, and caches that are written from their
description in docs/meter.md alone."""

import collections
import json
import pathlib
import struct
import subprocess
import sys
from typing import NamedTuple

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))

import guest                                                    # noqa: E402
from guest.image import run as run_tool                        # noqa: E402
from guest.machine import die_with_parent                       # noqa: E402

KiB, MiB = 1 << 10, 1 << 20
LINE, PAGE, WORD = 64, 4096, 4
LOAD_ADDRESS, LIST, TABLE = 0xf0000, 0xf0400, 0xf0300
LIST_OF_OTHER = 0xf0c00
SECONDS = 60

(END, MARK, STORE, LOAD, MODIFY, VECTOR, FILL, RANDOM, AGAIN, START_OTHER,
 ON_OTHER, BETWEEN) = range(12)

# The payload's page directory: two pages of 4 MiB that follow each other,
# {where they are seen: where they are}.
BIG_PAGE = 4 * MiB
MAPPED = {128 * MiB: 32 * MiB, 128 * MiB + BIG_PAGE: 16 * MiB}


class Op(NamedTuple):
    number: int
    base: int = 0
    stride: int = 0
    count: int = 0
    argument: int = 0

    def words(self):
        return struct.pack("<8I", *self, 0, 0, 0)


def mark(phase):
    return Op(MARK, count=phase)


def sweep(number, base, size, stride=LINE):
    return Op(number, base, stride, size // stride)


def again(index, times):
    """Goes back to the operation at `index` of the list."""
    return Op(AGAIN, LIST + 32 * index, count=times)


# --- Running them ---

def assemble(directory):
    directory = pathlib.Path(directory)
    run_tool("cc", "-m32", "-c", "-I", REPO / "include", "-o",
                    directory / "payload.o", HERE / "payload.S")
    run_tool("ld", "-m", "elf_i386", "--oformat", "binary", "-e",
                    "start", "-Ttext", hex(LOAD_ADDRESS), "-o",
                    directory / "payload.bin", directory / "payload.o")
    return (directory / "payload.bin").read_bytes()


def rom_of(rom, ops, others=()):
    for at, part in ((LIST, ops), (LIST_OF_OTHER, others)):
        data = b"".join(op.words() for op in [*part, Op(END)])
        at -= LOAD_ADDRESS
        rom = rom[:at] + data + rom[at + len(data):]
    return rom


def command(binary, rom, plugins, cpus=1, icount=True):
    args = [str(binary), "-machine", "pc", "-m", "96M", "-nodefaults",
            "-display", "none", "-smp", str(cpus), "-bios", str(rom),
            "-accel", "tcg,thread=" + ("single" if icount else "multi"),
            "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]
    if icount:
        args += ["-icount", "shift=0,sleep=off", "-rtc", "clock=vm"]
    for plugin in plugins:
        args += ["-plugin", str(plugin)]
    return args


def run(args, directory):
    """What QEMU prints; it ends with 1, as isa-debug-exit makes it."""
    done = subprocess.run(args, capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL, timeout=SECONDS,
                          cwd=directory, preexec_fn=die_with_parent)
    if done.returncode != 1 or "hybridmem-meter" in done.stderr:
        raise guest.GuestError(f"QEMU ended with {done.returncode}: "
                               f"{done.stderr.strip()}")
    return done.stderr


class Result:
    """The meter's JSON."""

    def __init__(self, path):
        self.text = path.read_text()
        self.json = json.loads(self.text)

    def phase(self, number):
        return next(p for p in self.json["phases"] if p["phase"] == number)

    def range(self, phase, name):
        counts = self.phase(phase) if phase else self.json["total"]
        return next(r for r in counts["ranges"] if r["range"] == name)


# --- Working them out ---

def accesses(ops):
    """(phase, address, bytes, store) of each access of one vCPU."""
    phase, at, rounds = 0, 0, 0
    while at < len(ops):
        op = ops[at]
        here = LIST + 32 * at
        for word in range(5):
            yield phase, here + 4 * word, WORD, False
        yield phase, TABLE + 4 * op.number, WORD, False
        at += 1
        if op.number == MARK:
            phase = op.count
        elif op.number == AGAIN:
            rounds = (rounds or op.count + 1) - 1
            if rounds:
                at = (op.base - LIST) // 32
        else:
            for access in work(op):
                yield phase, *access


def work(op):
    if op.number == RANDOM:
        seed = op.stride
        for _ in range(op.count):
            seed = (seed * 1664525 + 1013904223) % 2**32
            yield op.base + (seed >> 8 & op.argument), WORD, bool(seed >> 31)
        return
    stride = WORD if op.number == FILL else op.stride
    for i in range(op.count):
        address = op.base + i * stride
        if op.number in (LOAD, MODIFY):
            yield address, WORD, False
        if op.number in (STORE, MODIFY, FILL):
            yield address, WORD, True


class Level:
    """Lines by set, the least recently used first; the value: is it dirty?"""

    def __init__(self, size, ways):
        self.sets = [collections.OrderedDict()
                     for _ in range(size // LINE // ways)]
        self.ways = ways

    def use(self, line, dirty):
        lines = self.sets[line % len(self.sets)]
        if line not in lines:
            return False
        lines[line] |= dirty
        lines.move_to_end(line)
        return True

    def insert(self, line, dirty):
        """The line that must go, and whether it is dirty."""
        lines = self.sets[line % len(self.sets)]
        gone = lines.popitem(last=False) if len(lines) == self.ways else \
            (None, False)
        lines[line] = dirty
        return gone

    def dirty(self):
        return {line for lines in self.sets for line, d in lines.items() if d}


class Caches:
    """Of one vCPU, the nearest first."""

    def __init__(self, sizes, fill, writeback):
        self.levels = [Level(*s) for s in sizes]
        self.fill, self.writeback = fill, writeback

    def put_dirty(self, line, start):
        for level in self.levels[start:]:
            if level.use(line, True):
                return
            line, dirty = level.insert(line, True)
            if not dirty:
                return
        self.writeback(line)

    def access(self, line, store):
        for hit, level in enumerate(self.levels):
            if level.use(line, store and hit == 0):
                break
        else:
            hit = len(self.levels)
            self.fill(line)
        for i in reversed(range(hit)):
            gone, dirty = self.levels[i].insert(line, store and i == 0)
            if dirty:
                self.put_dirty(gone, i + 1)

    def dirty(self):
        return set().union(*(level.dirty() for level in self.levels))


class DramCache:
    """Memory mode.  {place: (line, dirty)}; count(event, line) hears of all
    that happens to lines."""

    def __init__(self, size, count):
        self.places = size // LINE
        self.held = {}
        self.count = count

    def access(self, line, writeback):
        kind = "writeback" if writeback else "fill"
        old, dirty = self.held.get(line % self.places, (None, False))
        self.count("dram-reads", line)
        if old == line:
            self.count(f"{kind}-hits", line)
        else:
            if dirty:
                self.count("nvm-writes", old)
            for event in f"{kind}-misses", "nvm-reads", "dram-writes":
                self.count(event, line)
            dirty = False
        if writeback:
            self.count("dram-writes", line)
        self.held[line % self.places] = line, dirty or writeback

    def dirty(self):
        return [line for line, dirty in self.held.values() if dirty]


def work_out(ops, ranges, sizes=(), modes=()):
    """{(phase, range): counters} as the meter must find them; `ranges`:
    {name: (start, size)}; `modes`: (names of ranges, size) of DRAM caches.
    Their counters are {(phase, range, "memory-mode"): ...}."""
    found = collections.defaultdict(collections.Counter)
    now = 0

    def name(address):
        return next((n for n, (start, size) in ranges.items()
                     if start <= address < start + size), "other")

    def count(event, line, *part):
        found[now, name(line * LINE), *part][event] += 1

    def in_mode(event, line):
        count(event, line, "memory-mode")

    behind = {}
    for names, size in modes:
        behind |= dict.fromkeys(names, DramCache(size, in_mode))

    def passing(event, writeback):
        def passes(line):
            count(event, line)
            if name(line * LINE) in behind:
                behind[name(line * LINE)].access(line, writeback)
        return passes

    caches = Caches(sizes, passing("fills", False), passing("writebacks", True))

    def end_phase():
        for line in caches.dirty():
            count("dirty-lines-left", line)
        for cache in set(behind.values()):
            for line in cache.dirty():
                in_mode("dirty-lines-left", line)

    for phase, address, size, store in accesses(ops):
        if phase != now:
            end_phase()
            now = phase
        what = "store" if store else "load"
        found[now, name(address)][what + "s"] += 1
        while size:
            part = min(size, LINE - address % LINE)
            found[now, name(address)][what + "-bytes"] += part
            if sizes:
                caches.access(address // LINE, store)
            address, size = address + part, size - part
    end_phase()
    return found
