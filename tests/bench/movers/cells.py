# SPDX-License-Identifier: GPL-2.0-or-later
"""What is run: a cell is one question, asked of one way to move blocks."""

from typing import NamedTuple

UNMANAGED = "unmanaged"

# traffic  what a workload makes of memory, and what that costs
# speed    what a move costs
# rest     what the engine costs where nothing needs to move
# settled  the same, when it has found so and samples less often
PARTS = ("traffic", "speed", "rest", "settled")


class Form(NamedTuple):
    """How guest RAM is made, and who moves it."""
    mover: str
    container: bool         # of two memfd, bound to a node each; else ordinary
    huge: bool              # transparent huge pages, blocks of 2 MiB


FORMS = {
    UNMANAGED: Form("remap", True, False),
    "remap": Form("remap", True, False),
    "numa-container": Form("numa", True, False),
    "numa": Form("numa", False, False),
    "numa-thp": Form("numa", False, True),
}


class Cell(NamedTuple):
    """A run of its own."""
    part: str
    form: str

    @property
    def name(self):
        """Also the name of its folder."""
        return f"{self.part}-{self.form}"


MANAGED = tuple(f for f in FORMS if f != UNMANAGED)

CELLS = (*(Cell("traffic", f) for f in FORMS),
         *(Cell("speed", f) for f in MANAGED),
         *(Cell(part, f) for part in ("rest", "settled")
           for f in ("remap", "numa", "numa-thp")))
