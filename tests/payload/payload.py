# SPDX-License-Identifier: GPL-2.0-or-later
"""payload.s: how it is assembled, given its pattern, booted and watched."""

import os
import pathlib
import shutil
import string
import struct
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import guest                                                    # noqa: E402

PAGE = 4096
WORD = 4
FACTOR = 0x9e3779b1
LOAD_ADDRESS = 0xf0000      # where the PC shows the last 64 KiB of its ROM
PARAMETERS = 0x200          # offset of "step" in payload.s
RANGES_MAX = 5
ROUND_SECONDS = 20          # that a round takes at most
WINDOW_SECONDS = 120        # or a window
WINDOWS_MAX = 10            # full_window(): the last ones are 8 times as long

# The largest ring.  Where /dev/kvm is emulated in software, every write that is
# logged takes an entry, not just the first one to a page, and a vCPU is not
# stopped in time when its ring is full.  QEMU then reaps a whole ring of
# entries at once, and after that none: it and the kernel disagree on where the
# next one is, and the vCPU leaves KVM with "ring full" for ever (-trace
# 'kvm_dirty_ring*'), on ordinary RAM, too.  So the payload is to write less
# than a ring in the second after which QEMU empties it: WRITE_CYCLES of the TSC
# for each write are enough on processors of up to 6 GHz.
RING = 65536
WRITE_CYCLES = 100_000
ACCELS = {"tcg": ["-accel", "tcg"],
          "kvm": ["-accel", "kvm"],
          "kvm-ring": ["-accel", f"kvm,dirty-ring-size={RING}"]}


class Range(NamedTuple):
    """Pages that the payload writes each round, or only at the start."""
    base: int
    stride: int
    count: int
    hot: bool = True

    def pages(self):
        return range(self.base, self.base + self.stride * self.count,
                     self.stride)


def run_tool(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise guest.GuestError(f"{command[0]}: {done.stderr.strip()}")


def assemble(directory):
    """The ROM, not yet patched."""
    directory = pathlib.Path(directory)
    for tool in ("as", "ld"):
        if not shutil.which(tool):
            raise guest.GuestError(f"{tool} is missing: install binutils")
    run_tool(["as", "--32", "-o", directory / "payload.o", HERE / "payload.s"])
    run_tool(["ld", "-m", "elf_i386", "--oformat", "binary", "-e", "start",
              "-Ttext", hex(LOAD_ADDRESS), "-o", directory / "payload.bin",
              directory / "payload.o"])
    return (directory / "payload.bin").read_bytes()


def pace(accel, ranges, words):
    """Cycles of the TSC that a round takes at least."""
    if accel != "kvm-ring":
        return 0
    cycles = WRITE_CYCLES * words * sum(r.count for r in ranges if r.hot)
    if cycles >= 2**31:
        raise ValueError("too many pages for a dirty ring")
    return cycles


def patch(rom, ranges, words, cycles):
    """`words` of each page are written and checked; a power of two.  A round
    takes `cycles` of the TSC at least."""
    if len(ranges) > RANGES_MAX:
        raise ValueError("too many ranges")
    data = struct.pack("<II", PAGE // words, cycles)
    for r in ranges:
        data += struct.pack("<4I", r.base, r.stride, r.count, r.hot)
    end = PARAMETERS + len(data)
    return rom[:PARAMETERS] + data + rom[end:]


def kvm_refusal(binary, accel):
    """Why QEMU cannot start with such an accelerator, or None."""
    if accel == "tcg":
        return None
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "/dev/kvm cannot be opened"
    done = subprocess.run(
        [binary, *ACCELS[accel], "-nodefaults", "-display", "none",
         "-machine", "none", "-monitor", "stdio"],
        input="quit\n", capture_output=True, text=True, check=False,
        timeout=30)
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    return None


class Payload:
    """A machine that runs the payload on hybrid memory.  Use as a context
    manager."""

    def __init__(self, binary, accel, rom, directory, *, dram, nvm,
                 ranges, words=1, name="payload", extra=(), memory=None,
                 **engine):
        """`memory`: the options for its RAM, in place of a container `hm` of
        `dram` and `nvm` bytes."""
        self.accel = accel
        self.ranges = ranges
        self.before = ""            # what it said before it came here
        self.scratch = tempfile.TemporaryDirectory(dir=directory)
        path = pathlib.Path(self.scratch.name) / "rom"
        path.write_bytes(patch(rom, ranges, words,
                               pace(accel, ranges, words)))
        memory = memory or [
            *guest.memory_args(dram, nvm, "memfd", **engine),
            "-machine", "memory-backend=hm"]
        args = [*ACCELS[accel], "-machine", "pc", "-nodefaults",
                "-display", "none", "-no-shutdown", *memory,
                "-bios", path, *extra]
        try:
            self.vm = guest.Machine(binary, args, f"{name}-{accel}")
        except BaseException:
            self.scratch.cleanup()
            raise
        self.qmp = self.vm.qmp

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.vm.close()
        self.scratch.cleanup()

    # --- what the payload says ---

    def said(self):
        return self.before + self.vm.serial.read_text(errors="replace")

    def check(self):
        """Rounds since it last started; their letters must follow one
        another."""
        text = self.said()
        if "!" in text:
            raise guest.GuestError("the payload found a difference: " +
                                   text[text.index("!"):].strip())
        status = self.qmp("query-status")["status"]
        if status == "internal-error":
            raise guest.GuestError("KVM stops with an internal error")
        rounds = text.rpartition("<")[2]
        alphabet = string.ascii_lowercase
        wanted = alphabet * (len(rounds) // len(alphabet) + 1)
        if not wanted.startswith(rounds):
            good = len(os.path.commonprefix([wanted, rounds]))
            raise guest.GuestError(
                "rounds were lost or done twice: "
                f"{rounds[max(0, good - 5):good]}, then {rounds[good:][:5]}")
        return len(rounds)

    def starts(self):
        return self.said().count("<")

    def wait(self, done, timeout, what):
        """Polls done() and the payload's checks."""
        deadline = time.monotonic() + timeout
        while True:
            self.check()
            result = done()
            if result:
                return result
            if time.monotonic() > deadline:
                raise guest.GuestError(f"{what}: not within {timeout} s")
            time.sleep(0.05)

    def wait_rounds(self, more, timeout=120):
        goal = self.check() + more
        self.wait(lambda: self.check() >= goal, timeout, f"{more} rounds")

    # --- what its memory and its engine say ---

    def generations(self, ranges=None):
        """Rounds by page, read from guest memory by QEMU."""
        found = {}
        path = pathlib.Path(self.scratch.name) / "memory"
        for r in ranges or self.ranges:
            size = r.stride * (r.count - 1) + PAGE
            self.qmp("pmemsave", val=r.base, size=size, filename=str(path))
            data = path.read_bytes()
            path.unlink()
            for page in r.pages():
                word = struct.unpack_from("<I", data, page - r.base)[0]
                found[page] = (word - page * FACTOR) % 2**32
        return found

    def info(self):
        return self.qmp("query-hybridmem")[0]

    def counters(self):
        return self.info()["counters"]

    def set(self, **parameters):
        self.qmp("hybridmem-set", **parameters)

    def full_window(self):
        """query-hybridmem before and after the next sampling window that is
        seen to hold a whole round.  Windows are made longer where the machine
        is too slow for that."""
        for seen in range(1, WINDOWS_MAX + 1):
            before, after, rounds = self.watch_window()
            if rounds >= 1:
                return before, after
            if seen % 3 == 0:
                self.set(interval=2 * after["parameters"]["interval"],
                         window=2 * after["parameters"]["window"])
        raise guest.GuestError(f"{WINDOWS_MAX} windows, and none with a whole"
                               " round of the payload")

    def watch_window(self):
        """What query-hybridmem says before the start and after the end of a
        sampling window, and the rounds known to lie wholly in it.  That a
        window starts is seen by the time spent on the log."""
        before = self.end_of_window(self.info())
        started = None
        rounds = 0

        def watch(now, letters):
            nonlocal started, rounds
            spent = now["counters"]["sample-ns"]
            if started and started[0] == spent:
                # The round that was going on then may have begun before.
                rounds = letters - started[1] - 1
            elif not started and spent > before["counters"]["sample-ns"]:
                started = spent, self.check()
        after = self.end_of_window(before, watch)
        if after["counters"]["windows"] > before["counters"]["windows"] + 1:
            rounds = 0
        return before, after, rounds

    def end_of_window(self, info, watch=None):
        """The first query-hybridmem after the end of the window that `info`
        is of; watch(query-hybridmem, rounds before it) until then."""
        heard, rounds, began = 0, -1, time.monotonic()
        while True:
            letters = self.check()
            now = self.info()
            if now["counters"]["windows"] > info["counters"]["windows"]:
                return now
            if watch:
                watch(now, letters)
            if letters > rounds:
                heard, rounds = time.monotonic(), letters
            if time.monotonic() > min(heard + ROUND_SECONDS,
                                      began + WINDOW_SECONDS):
                raise guest.GuestError(
                    f"{time.monotonic() - began:.0f} s without a sampling"
                    f" window, {time.monotonic() - heard:.0f} s without a"
                    " round of the payload")
            time.sleep(0.01)
