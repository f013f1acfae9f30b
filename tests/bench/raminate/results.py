# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads what a run left in its folder, and refuses what is not whole.

    meter.json   the meter's counts per phase and range
    pages.tsv    its counts per page and epoch; of unmanaged cells only
    engine.json  query-hybridmem at the end
    run.json     what produced them; it is written last
"""

import pathlib
from typing import NamedTuple

from cells.files import ResultError, by_name, read_json
from cells.runner import RUN

FORMAT = 1                      # of these; another one: all runs again
METER, PAGES, ENGINE = "meter.json", "pages.tsv", "engine.json"
PHASE = "2"                     # as the workloads mark what is measured
PAGES_HEADER = ["#", "phase", "epoch", "range", "page", "loads", "stores",
                "fills", "writebacks"]
COUNTS = ("loads", "stores", "load-bytes", "store-bytes", "fills",
          "writebacks")
LINE = 64                       # bytes of a write-back, and of a fill
PAGE = 4096


class Result(NamedTuple):
    """A cell's results."""
    cell: object
    directory: pathlib.Path
    run: dict
    meter: dict                 # phase -> {"instructions", "ranges": by name}
    engine: dict                # of query-hybridmem: the one engine

    @property
    def ranges(self):
        """Counts of the phase that is measured, by range."""
        return self.meter[PHASE]["ranges"]

    def count(self, name, where=None):
        """A count in one range, or in all."""
        ranges = [where] if where else list(self.ranges)
        return sum(self.ranges[r][name] for r in ranges)

    @property
    def counters(self):
        """The engine's."""
        return self.engine["counters"]

    @property
    def frames(self):
        """(dram, nvm) pages of guest RAM."""
        return tuple(self.run["facts"][f"{tier}-pages"]
                     for tier in ("dram", "nvm"))

    @property
    def seconds(self):
        """How long the phase took by the guest's clock: told by the run, or
        else a nanosecond per instruction (-icount shift=0)."""
        told = self.run["facts"].get("seconds")
        return told if told is not None else \
            self.meter[PHASE].get("instructions", 0) * 1e-9


def read_meter(path):
    """Phases by name, each with its ranges by name."""
    data = read_json(path)
    if not isinstance(data, dict):
        raise ResultError(f"{path}: no phases")
    phases = by_name(data.get("phases"), path, "phase")
    for phase in phases.values():
        phase["ranges"] = by_name(phase.get("ranges"), path, "range")
    if PHASE not in phases:
        raise ResultError(f"{path}: no phase '{PHASE}', only "
                          f"{', '.join(sorted(phases)) or 'none'}: the guest "
                          "did not mark it")
    for tier in ("dram", "nvm"):
        counts = phases[PHASE]["ranges"].get(tier, {})
        for name in COUNTS:
            if not isinstance(counts.get(name), int):
                raise ResultError(f"{path}: no count {name} of {tier} in "
                                  f"phase '{PHASE}'")
    return phases


def read_engine(path):
    """The one engine of a query-hybridmem's answer."""
    data = read_json(path)
    if isinstance(data, dict):
        data = data.get("return", [data])
    if len(data) != 1 or "counters" not in data[0]:
        raise ResultError(f"{path}: not one engine")
    return data[0]


def check_pages(path):
    """That the table has its header and was written to its end."""
    try:
        with path.open("rb") as file:
            header = file.readline().decode(errors="replace").split()
            file.seek(-1, 2)
            end = file.read()
    except OSError as error:
        raise ResultError(f"{path}: {error.strerror}") from error
    if header != PAGES_HEADER:
        raise ResultError(f"{path}: its first line is not "
                          f"'{' '.join(PAGES_HEADER)}'")
    if end != b"\n":
        raise ResultError(f"{path}: cut off")


def check_facts(facts, path):
    """That a run told how large its tiers are."""
    for tier in ("dram", "nvm"):
        if not isinstance(facts.get(f"{tier}-pages"), int):
            raise ResultError(f"{path}: no {tier}-pages")


def check_tier_sizes(result):
    """That the engine managed what the run says."""
    for tier in result.engine.get("tiers", []):
        said = result.run["facts"].get(f"{tier['tier']}-pages")
        if said * PAGE != tier["size"]:
            raise ResultError(
                f"{result.directory / RUN}: {said} pages of {tier['tier']}, "
                f"but {ENGINE} has {tier['size'] / PAGE:g}")


def load(cell, directory, run=None):
    """All of a cell's results.  `run` replaces run.json while that is yet to
    be written.  Raises ResultError, and nothing else for what is in them."""
    try:
        return load_checked(cell, directory, run)
    except (AttributeError, KeyError, TypeError) as error:
        raise ResultError(f"{directory}: its files are not as they should be "
                          f"({error!r})") from error


def load_checked(cell, directory, run):
    """See load()."""
    run = run or read_json(directory / RUN)
    check_facts(run.get("facts", {}), directory / RUN)
    result = Result(cell, directory, run, read_meter(directory / METER),
                    read_engine(directory / ENGINE))
    check_tier_sizes(result)
    if not cell.managed:
        check_pages(directory / PAGES)
        if result.counters.get("moves-done"):
            raise ResultError(f"{directory / ENGINE}: blocks moved in an "
                              "unmanaged run")
    return result
