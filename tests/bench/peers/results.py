# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads what a run left in its folder, and refuses what is not whole.

    results.json   what the scenario's script told, and the meter's counts
    pages.tsv      the meter's counts per page and epoch; of unmanaged cells
    run.json       what produced them; it is written last
"""

import pathlib
from typing import NamedTuple

from cells.files import ResultError, read_json
from cells.runner import RUN

from .cells import LINUX, MODE, UNMANAGED

FORMAT = 1              # of these; another one: all runs again
RESULTS, PAGES = "results.json", "pages.tsv"
PHASE = "2"             # as the workloads mark what is measured
LINE, PAGE = 64, 4096   # bytes
MiB = 1 << 20
COUNTS = ("loads", "stores", "fills", "writebacks")


class Result(NamedTuple):
    """A cell's results."""
    cell: object
    directory: pathlib.Path
    run: dict
    data: dict

    @property
    def phase(self):
        """The meter's counts of what is measured."""
        return self.data["meter"]["phases"][PHASE]

    @property
    def ranges(self):
        """Of it, by name: nvm, other, and dram but in memory mode."""
        return self.phase["ranges"]

    @property
    def instructions(self):
        """Of all: guest, QEMU, kernel."""
        return self.phase["instructions"]

    @property
    def memory(self):
        """Bytes of guest RAM."""
        return self.run["facts"]["memory"] * MiB

    @property
    def dram(self):
        """Those of them that are DRAM."""
        return self.run["facts"]["dram"] * MiB

    @property
    def counters(self):
        """The engine's."""
        return self.data["engine"]["counters"]

    def kernel(self, name):
        """By how much a counter of /proc/vmstat has grown."""
        return self.data["vmstat_after"].get(name, 0) - \
            self.data["vmstat_before"].get(name, 0)


def check_ranges(result, where):
    """That all was counted."""
    tiers = ("nvm", "other") if result.cell.row == MODE else \
        ("dram", "nvm", "other")
    for tier in tiers:
        for name in COUNTS:
            if not isinstance(result.ranges[tier].get(name), int):
                raise ResultError(f"{where}: no count {name} of {tier}")
    if result.instructions <= 0:
        raise ResultError(f"{where}: nothing was executed")


def check_mode(result, where):
    """Each access of the caches went through DRAM once."""
    nvm = result.ranges["nvm"]
    mode = nvm["memory-mode"]
    for kind, count in (("fill", "fills"), ("writeback", "writebacks")):
        if mode[f"{kind}-hits"] + mode[f"{kind}-misses"] != nvm[count]:
            raise ResultError(f"{where}: memory-mode is not all of {count}")


def check_linux(result, where):
    """The kernel was told to, and the guest began where the others do."""
    said = result.data
    if (said["set_numa_balancing"], said["set_demotion_enabled"]) != \
            (2, "true"):
        raise ResultError(f"{where}: the kernel's tiering was off")
    if abs(said["dram_before"] - result.dram) > MiB or \
            said["dram_before"] + said["nvm_before"] != result.memory:
        raise ResultError(f"{where}: the guest began with "
                          f"{said['dram_before'] / MiB:.1f} MiB of DRAM, and "
                          f"{said['nvm_before'] / MiB:.1f} of NVM")
    result.kernel("pgpromote_success")


def check_engine(result, where):
    """Unmanaged is unmanaged, and who needs accesses has seen some."""
    if result.cell.row == UNMANAGED:
        if result.counters["moves-done"]:
            raise ResultError(f"{where}: blocks moved in an unmanaged run")
        if not (result.directory / PAGES).exists():
            raise ResultError(f"{result.directory / PAGES}: is missing")
    elif result.cell.row != "cmq" and \
            not result.data["engine"]["accesses"]["windows"]:
        raise ResultError(f"{where}: accesses were not watched: "
                          f"{result.data['engine']['accesses']}")


CHECKS = {MODE: check_mode, LINUX: check_linux}


def load(cell, directory, run=None):
    """See runner.Lab."""
    directory = pathlib.Path(directory)
    path = directory / RESULTS
    run = run or read_json(directory / RUN)
    result = Result(cell, directory, run, read_json(path))
    try:
        check_ranges(result, path)
        CHECKS.get(cell.row, check_engine)(result, path)
        if not 0 < result.dram < result.memory:
            raise ResultError(f"{directory / RUN}: no sizes")
    except (AttributeError, KeyError, TypeError) as error:
        raise ResultError(f"{path}: it is not as it should be "
                          f"({error!r})") from error
    return result
