# SPDX-License-Identifier: GPL-2.0-or-later
"""What is run: a cell is one workload, one share of DRAM, one way to manage."""

from typing import NamedTuple


class Workload(NamedTuple):
    """A program of tests/lab/workloads, with parameters of its own."""
    image: str
    params: str = ""
    memory: int = 0         # MiB; 0: what the program is meant for
    interval: int = 100     # ms that stand for a second; see scenarios.py
    kind: str = "skewed"    # skewed | even: what the goals ask of it
    moving: bool = False    # what is hot changes


# Programs that access nearly all pages in each window, with half their memory:
# a page found costs some thousand instructions here, and a window is short.
GUPS = "hm.buffer=88 hm.hot=3072 hm.ops=80000000 hm.first=2000000"
EVEN, EVEN_READ = "hm.buffer=88", "hm.buffer=88 hm.ops=16000000"
SMALL = 160

# Of each as much work as makes some seconds of the server's time, and windows
# so that a managed run has some 30 to 150 of them.
WORKLOADS = {
    "gups": Workload("gups", GUPS, SMALL),
    "gups-moving": Workload("gups", f"{GUPS} hm.move=2", SMALL, moving=True),
    "graph": Workload("graph", "hm.scale=19", 128, moving=True),
    "redis-a": Workload("ycsb", "hm.reads=50"),
    "redis-b": Workload("ycsb", "hm.reads=95"),
    "sqlite": Workload("sqlite"),
    "compile": Workload("compile", "hm.work=66", moving=True),
    "even": Workload("even", EVEN, SMALL, kind="even"),
    "even-read": Workload("even-read", EVEN_READ, SMALL, kind="even"),
}
SHARES = (10, 20)           # DRAM, percent of guest RAM

UNMANAGED, MODE = "unmanaged", "memory-mode"
LINUX, DAMON = "linux-tiering", "damon"
KERNELS = (LINUX, DAMON)    # the server's kernel manages, QEMU knows nothing
# The default of access-faults is meant for a guest of some GiB.  The log tells
# `benefit` most, and in guests as small as these a tenth places no worse;
# `temperature` needs all.
FEW_FAULTS = 2000

# Our engine's rows: policy, and parameters beside it.
ENGINE = {
    "cmq": ("cmq", ""),
    "temperature": ("temperature", ""),
    "benefit": ("benefit",
                f"model=cxl,objective=time,access-faults={FEW_FAULTS}"),
    "benefit-wear": ("benefit", "model=optane,objective=wear"),
}
READERS = ("temperature", "benefit")    # of these: reads are seen, too
MANAGED = (*KERNELS, *ENGINE)
RUNS = (UNMANAGED, *KERNELS, MODE, *ENGINE)

# Rows that need no run of their own.  Memory mode is simulated behind the
# caches: what passes these is the traffic of a machine with one kind of memory.
ALL_DRAM, ALL_NVM, OPTIMUM = "all-dram", "all-nvm", "optimum"
ROWS = (ALL_DRAM, ALL_NVM, UNMANAGED, *KERNELS, MODE, *ENGINE, OPTIMUM)


class Cell(NamedTuple):
    """A run of its own."""
    workload: str
    share: int
    row: str

    @property
    def name(self):
        """Also the name of its folder."""
        return f"{self.workload}-{self.share}-{self.row}"

    def sibling(self, row):
        """The same work on the same memory, managed otherwise."""
        return self._replace(row=row)


# HMM-V's own experiment: four guests at once on one server, each with an equal
# share of DRAM for its own where a manager has such.
FOUR, FOUR_SHARE = "four", 20
FOUR_GUESTS = {
    "redis": Workload("ycsb", "hm.reads=95 hm.work=20"),
    "graph": Workload("graph", "hm.work=20"),
    "gups": Workload("gups", "hm.work=20"),
    "sqlite": Workload("sqlite", "hm.work=20"),
}
FOUR_INTERVAL = 200     # ms: a guest has the CPU for a quarter of it
FOUR_RUNS = (UNMANAGED, LINUX, MODE, "benefit")
FOUR_CELLS = tuple(Cell(FOUR, FOUR_SHARE, r) for r in FOUR_RUNS)


def runs_of(share):
    """DAMON runs with the smaller one only: the time for all cells is
    limited."""
    return [r for r in RUNS if r != DAMON or share == SHARES[0]]


CELLS = (*(Cell(w, s, r) for w in WORKLOADS for s in SHARES
           for r in runs_of(s)), *FOUR_CELLS)

# A part that says something, in 20 minutes.
QUICK = tuple(c for c in CELLS if c.share == 10 and
              c.workload in ("gups", "even", "even-read") and
              (c.row != DAMON or c.workload == "gups"))
