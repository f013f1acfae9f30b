# SPDX-License-Identifier: GPL-2.0-or-later
"""How far two sets of results are apart: all counts, not times, of which each
result is made, and rows of the pages of unmanaged runs."""

from raminate import compare as base

from . import results
from .cells import FOUR, UNMANAGED

LIMIT = base.LIMIT


def counts(result):
    """All of a cell, but those of pages."""
    return base.numbers(
        {k: v["counters"] if k.partition("-")[0] == "engine" else v
         for k, v in result.data.items()})


def compare_cell(one, other):
    """(Difference, rows of pages that differ)."""
    differ = 0
    if one.cell.row == UNMANAGED and one.cell.workload != FOUR:
        rows = [base.page_rows(r.directory / results.PAGES)
                for r in (one, other)]
        differ = sum(rows[0].get(k) != rows[1].get(k)
                     for k in {*rows[0], *rows[1]})
    return base.largest(counts(one), counts(other)), differ


def compare(lab, cells, root, other, say=print):
    """See raminate.compare."""
    return base.compare(lab, cells, root, other, say, compare_cell)
