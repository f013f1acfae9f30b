# SPDX-License-Identifier: GPL-2.0-or-later
"""How far two sets of results are apart.

Compared are all counts of meter.json and engine.json, and for each phase,
range and column of pages.tsv the sum; not times.  How many rows of pages.tsv
differ is told besides.
"""

from typing import NamedTuple

from cells import runner
from cells.files import digest

from . import results

LIMIT = 1e-6
TIMES = ("ns", "histogram", "seconds")  # words of a count's name


class Difference(NamedTuple):
    """The largest of a cell, and where it is."""
    relative: float
    where: str
    one: object
    other: object


def numbers(thing, where=""):
    """{path: number} of all that are in a JSON value, without times."""
    if isinstance(thing, dict):
        parts = thing.items()
    elif isinstance(thing, list):
        parts = enumerate(thing)
    elif isinstance(thing, (int, float)) and not isinstance(thing, bool):
        return {where: thing}
    else:
        return {}
    return {k: v for name, part in parts
            if not set(str(name).split("-")) & set(TIMES)
            for k, v in numbers(part, f"{where}/{name}").items()}


def page_rows(path):
    """{(phase, epoch, range, page): counts}."""
    found = {}
    with path.open() as file:
        for line in file:
            if not line.startswith("#"):
                field = line.rstrip("\n").split("\t")
                found[tuple(field[:4])] = tuple(map(int, field[4:]))
    return found


def page_sums(rows):
    """{path: sum} per phase, range and column."""
    names = results.PAGES_HEADER[5:]
    sums = {}
    for (phase, _, where, _), counts in rows.items():
        for name, count in zip(names, counts):
            key = f"{results.PAGES}/{phase}/{where}/{name}"
            sums[key] = sums.get(key, 0) + count
    return sums


def counts(result):
    """All counts of a cell but those of pages."""
    return {**numbers(result.meter, results.METER),
            **numbers(result.engine["counters"], results.ENGINE)}


def relative(one, other):
    """Their difference to the larger; a count that one lacks differs by 1."""
    if one is None or other is None:
        return 1.0
    largest = max(abs(one), abs(other))
    return abs(one - other) / largest if largest else 0.0


def largest(one, other):
    """The Difference of two maps of counts."""
    found = (Difference(relative(one.get(k), other.get(k)), k, one.get(k),
                        other.get(k)) for k in sorted({*one, *other}))
    return max(found, key=lambda d: d.relative,
               default=Difference(0.0, "", None, None))


def compare_cell(one, other):
    """(Difference, rows of pages.tsv that differ)."""
    mine, theirs = counts(one), counts(other)
    differ = 0
    if not one.cell.managed:
        pages = [r.directory / results.PAGES for r in (one, other)]
        if digest(pages[0]) != digest(pages[1]):
            rows = [page_rows(p) for p in pages]
            differ = sum(rows[0].get(k) != rows[1].get(k)
                         for k in {*rows[0], *rows[1]})
            mine, theirs = ({**c, **page_sums(r)}
                            for c, r in zip((mine, theirs), rows))
    return largest(mine, theirs), differ


def compare(lab, cells, root, other, say=print, of=compare_cell):
    """Says how far each cell is from its other run, by `of`; returns whether
    all are there, twice, and within the limit."""
    sets = [runner.load_all(lab, cells, r) for r in (root, other)]
    wrong = [w for _, words in sets for w in words]
    for word in wrong:
        say(word)
    good, compared = not wrong, 0
    for cell in cells:
        pair = [found.get(cell) for found, _ in sets]
        if None in pair:
            good = False
            say(f"{cell.name:22} is not in "
                f"{root if pair[0] is None else other}")
            continue
        difference, rows = of(*pair)
        compared += 1
        good &= difference.relative <= LIMIT
        more = f"  {difference.where}: {difference.one} and " \
            f"{difference.other}" if difference.relative else ""
        more += f"; {rows} rows of {results.PAGES} differ" if rows else ""
        say(f"{cell.name:22} {difference.relative:.2e}{more}")
    say(f"{compared} cells compared; limit {LIMIT:g}: "
        f"{'kept' if good else 'EXCEEDED, or cells are missing'}")
    return good
