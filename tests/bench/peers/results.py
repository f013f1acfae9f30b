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

from .cells import (DAMON, FOUR, FOUR_GUESTS, LINUX, MODE, READERS,
                    UNMANAGED)

FORMAT = 1              # of these; another one: all runs again
RESULTS, PAGES = "results.json", "pages.tsv"
PHASE = "2"             # as the workloads mark what is measured
FIRST = 11              # phase of the first of several guests; others follow
LINE, PAGE = 64, 4096   # bytes
MiB = 1 << 20
COUNTS = ("loads", "stores", "fills", "writebacks")


class Result(NamedTuple):
    """A cell's results."""
    cell: object
    directory: pathlib.Path
    run: dict
    data: dict
    number: str = PHASE

    @property
    def phase(self):
        """The meter's counts of what is measured."""
        return self.data["meter"]["phases"][self.number]

    def of_guests(self):
        """{name: the same for that guest alone}; sizes are those of one
        guest anyhow."""
        return {name: self._replace(number=str(FIRST + n))
                for n, name in enumerate(FOUR_GUESTS)}

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


def other_work(found):
    """Words about cells whose guest did not say the same as another's that had
    the same to do: operations, and a checksum of what came of them."""
    said, wrong = {}, []
    for cell, result in found.items():
        for key in sorted(k for k in result.data if k.startswith("done")):
            done = result.data[key]
            first = said.setdefault((cell.workload, key), (cell, done))
            if done != first[1]:
                wrong.append(f"{cell.name}: {done!r}, but {first[0].name}: "
                             f"{first[1]!r}")
    return wrong


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


def check_placed(result, where):
    """By nodes of the server, when the count began."""
    said = result.data
    guests = len(FOUR_GUESTS) if result.cell.workload == FOUR else 1
    if abs(said["dram_before"] - guests * result.dram) > MiB or \
            said["dram_before"] + said["nvm_before"] != guests * result.memory:
        raise ResultError(f"{where}: the guest began with "
                          f"{said['dram_before'] / MiB:.1f} MiB of DRAM, and "
                          f"{said['nvm_before'] / MiB:.1f} of NVM")


def check_linux(result, where):
    """The kernel was told to, and the guest began where the others do."""
    said = result.data
    if (said["set_numa_balancing"], said["set_demotion_enabled"]) != \
            (2, "true"):
        raise ResultError(f"{where}: the kernel's tiering was off")
    check_placed(result, where)
    result.kernel("pgpromote_success")


def check_damon(result, where):
    """Two kdamonds were at work, and the guest began where others do."""
    said = result.data
    for number in (0, 1):
        if not said[f"set_kdamond_{number}"].startswith("state=on "):
            raise ResultError(f"{where}: kdamond {number} was off")
        if not said[f"scheme_{number}"]["nr_tried"]:
            raise ResultError(f"{where}: kdamond {number} tried nothing")
    check_placed(result, where)


def check_engine(result, where):
    """Unmanaged is unmanaged, and who needs accesses has seen some."""
    if result.cell.row == UNMANAGED:
        if result.counters["moves-done"]:
            raise ResultError(f"{where}: blocks moved in an unmanaged run")
        if not (result.directory / PAGES).exists():
            raise ResultError(f"{result.directory / PAGES}: is missing")
    elif result.cell.row in READERS and \
            not result.data["engine"]["accesses"]["windows"]:
        raise ResultError(f"{where}: accesses were not watched: "
                          f"{result.data['engine']['accesses']}")


CHECKS = {LINUX: check_linux, DAMON: check_damon}


def check_engines(result, where):
    """Of each guest."""
    for name in FOUR_GUESTS:
        engine = result.data[f"engine-{name}"]
        moves = engine["counters"]["moves-done"]
        if result.cell.row == UNMANAGED and moves:
            raise ResultError(f"{where}: {name}: blocks moved in an unmanaged "
                              "run")
        if result.cell.row != UNMANAGED and \
                not engine["accesses"]["windows"]:
            raise ResultError(f"{where}: {name}: accesses were not watched")


def check_counts(result, where):
    """Of what is measured, or of each guest."""
    parts = result.of_guests() if result.cell.workload == FOUR else \
        {"": result}
    for part in parts.values():
        check_ranges(part, where)
        if result.cell.row == MODE:
            check_mode(part, where)


def check_rows(result, where):
    """What a row has besides."""
    several = result.cell.workload == FOUR
    if result.cell.row in CHECKS:
        CHECKS[result.cell.row](result, where)
    elif result.cell.row != MODE:
        (check_engines if several else check_engine)(result, where)


def load(cell, directory, run=None):
    """See runner.Lab."""
    directory = pathlib.Path(directory)
    path = directory / RESULTS
    run = run or read_json(directory / RUN)
    result = Result(cell, directory, run, read_json(path))
    try:
        check_counts(result, path)
        check_rows(result, path)
        if not 0 < result.dram < result.memory:
            raise ResultError(f"{directory / RUN}: no sizes")
    except (AttributeError, KeyError, TypeError) as error:
        raise ResultError(f"{path}: it is not as it should be "
                          f"({error!r})") from error
    return result
