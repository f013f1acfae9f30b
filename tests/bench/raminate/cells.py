# SPDX-License-Identifier: GPL-2.0-or-later
"""What is run: a cell is one workload, one share of DRAM, one policy."""

from typing import NamedTuple

WORKLOADS = ("compile", "redis", "hotset", "even")
SHARES = (1, 10)                    # DRAM, percent of guest RAM
UNMANAGED = "unmanaged"
POLICIES = ("cmq", "write-heat")
ROWS = (UNMANAGED, *POLICIES)


class Cell(NamedTuple):
    """A row of the table, and a run of its own."""
    workload: str
    share: int
    policy: str

    @property
    def name(self):
        """Also the name of its folder."""
        return f"{self.workload}-{self.share}-{self.policy}"

    @property
    def managed(self):
        """False: the engine is there, but switched off (enabled=off).  It
        neither samples nor logs, as for a user who does without it."""
        return self.policy != UNMANAGED

    def sibling(self, policy):
        """The same work on the same memory under another policy."""
        return self._replace(policy=policy)


CELLS = tuple(Cell(w, s, p) for w in WORKLOADS for s in SHARES for p in ROWS)
