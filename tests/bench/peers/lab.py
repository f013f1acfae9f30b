# SPDX-License-Identifier: GPL-2.0-or-later
"""A cell's run in the lab."""

import json

from cells import lab
from cells.runner import Lab

from . import four, results, scenarios
from .cells import FOUR, FOUR_GUESTS, UNMANAGED, WORKLOADS


def text_of(cell):
    """The cell's scenario file."""
    return (four if cell.workload == FOUR else scenarios).text_of(cell)


def words_of(cell):
    """What that is made of."""
    return (four if cell.workload == FOUR else scenarios).words_of(cell)


def images_of(cell):
    """Of its guests."""
    if cell.workload == FOUR:
        return [w.image for w in FOUR_GUESTS.values()]
    return [WORKLOADS[cell.workload].image]


def inputs_key(cell):
    """See runner.Lab."""
    return lab.inputs(text_of(cell), *images_of(cell))


def run_cell(cell, directory):
    """See runner.Lab.  Leaves RESULTS, and PAGES of an unmanaged cell with one
    guest."""
    folder, found, facts = lab.run(cell.name, text_of(cell), directory)
    if cell.row == UNMANAGED and cell.workload != FOUR:
        (folder / "pages-0").rename(directory / results.PAGES)
    (directory / results.RESULTS).write_text(json.dumps(found, indent=1) +
                                             "\n")
    words = words_of(cell)
    return {**{k: words[k] for k in ("memory", "dram", "interval")},
            "versions": facts["versions"], "images": facts["images"]}


LAB = Lab("bench-peers", results.FORMAT, inputs_key, run_cell, results.load)
