# SPDX-License-Identifier: GPL-2.0-or-later
"""What a policy that knew the future would reach: bench-raminate's oracle, on
the pages of an unmanaged run.

The oracle wants a guest's pages, those of DRAM first.  Here a page is one of
a node, so those of DRAM are numbered by their order; what lies there besides
the guest, if any, takes the frames that are left.
"""

import json

from cells.files import ResultError, digest, read_json
from raminate import oracle

from . import results

KEPT = "optimum.json"
NUMBERED = "pages.numbered.tsv"


def dram_pages(path):
    """{page: number} of those written in DRAM, by page."""
    with path.open() as file:
        rows = (line.split("\t", 4) for line in file)
        pages = {int(f[3]) for f in rows if f[2] == "dram"}
    return {page: n for n, page in enumerate(sorted(pages))}


def renumber(source, target, frames):
    """A table whose pages of DRAM are below `frames`."""
    numbers = dram_pages(source)
    if len(numbers) > frames + frames // 50:
        raise ResultError(f"{source}: {len(numbers)} pages of DRAM, but the "
                          f"guest has {frames}")
    with source.open() as file, target.open("w") as out:
        for line in file:
            field = line.split("\t", 4)
            if field[2] == "dram":
                field[3] = str(min(numbers[int(field[3])], frames - 1))
            out.write("\t".join(field))


def solved(result, program):
    """What oracle.c says."""
    table = result.directory / NUMBERED
    frames = result.dram // results.PAGE
    try:
        renumber(result.directory / results.PAGES, table, frames)
        said = oracle.solve(program, table, frames)
    finally:
        table.unlink(missing_ok=True)
    metered = result.ranges["nvm"]["writebacks"]
    if said["unmanaged"] != metered:
        raise ResultError(
            f"{result.directory / results.PAGES}: {said['unmanaged']} "
            f"write-backs to nvm, but {metered} in {results.RESULTS}")
    return said


def of(result, program):
    """That of an unmanaged cell's result; kept in its folder."""
    kept = result.directory / KEPT
    key = f"{oracle.version()} {digest(result.directory / results.PAGES)} " \
        f"{result.dram}"
    if kept.exists():
        try:
            said = read_json(kept)
            if said.get("key") == key:
                return said
        except ResultError:
            pass                # broken off: once more
    said = {"key": key, **solved(result, program)}
    kept.write_text(json.dumps(said, indent=1) + "\n")
    return said
