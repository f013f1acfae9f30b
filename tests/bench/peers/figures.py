# SPDX-License-Identifier: GPL-2.0-or-later
"""From results to figures: a row of the table is a map of them."""

import functools
import math
import pathlib
import sys

from . import cells as cells_
from .cells import (ALL_DRAM, ALL_NVM, DAMON, FOUR, FOUR_SHARE, KERNELS, LINUX,
                    MODE, OPTIMUM, UNMANAGED, Cell)
from .results import LINE, PAGE

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "tools"))

import hybridmem_models                             # noqa: E402

MODELS = ("cxl", "optane")  # what nvm may stand for, for time
ENERGY, WEAR = "stt-mram", "optane"
SECONDS = 1e-9              # of an instruction, as on the server's clock


@functools.cache
def models():
    """{name: model}"""
    return hybridmem_models.load()


# --- Traffic, as the models want it ------------------------------------------


def split_traffic(result):
    """Of a run in which guest RAM was of both tiers."""
    sizes = {"nvm": result.memory - result.dram, "dram": result.dram}
    return {name: {**counts, "bytes": sizes.get(name, 0)}
            for name, counts in result.ranges.items()}


def whole_traffic(result):
    """Of a memory-mode run, as if there were no DRAM cache."""
    found = {name: {**counts, "bytes": 0}
             for name, counts in result.ranges.items()}
    found["nvm"] = {k: v for k, v in found["nvm"].items()
                    if k != "memory-mode"} | {"bytes": result.memory}
    return found


def mode_traffic(result):
    """Of a memory-mode run."""
    found = whole_traffic(result)
    mode = {**result.ranges["nvm"]["memory-mode"], "bytes": result.dram}
    found["nvm"]["memory-mode"] = mode
    return found


def placed(traffic, nvm):
    """{range: model}"""
    return {name: models()[nvm if name == "nvm" else "dram"]
            for name in traffic}


# --- What is made of it ------------------------------------------------------


def time_over_dram(traffic, base, nvm):
    """Modelled: memory's latency beside the work of `base`, all-DRAM."""
    return hybridmem_models.over_dram(
        traffic, placed(traffic, nvm), models()["dram"],
        base.instructions * SECONDS, whole_traffic(base))["latency-s"].typical


def guests_time(result, traffic, base, unmanaged, nvm):
    """The same without what the manager misses in memory of its own; None where
    that is not told from the guest's."""
    if result.cell.row in KERNELS or not unmanaged:
        return None
    own = {} if result.cell.row == MODE else \
        {"other": {**unmanaged.ranges["other"], "bytes": 0}}
    return time_over_dram({**traffic, **own}, base, nvm)


def energy(traffic, instructions, nvm):
    """Joules, modelled."""
    return hybridmem_models.account_ranges(
        traffic, placed(traffic, nvm), instructions * SECONDS,
        dram=models()["dram"])["total"]["energy-j"].typical


def wear(traffic):
    """Modelled share of the endurance of all of NVM."""
    found = hybridmem_models.account_range(traffic["nvm"], models()[WEAR],
                                           models()["dram"])
    return found["wear"].typical


def medium(traffic):
    """Lines (read from, written to) NVM itself."""
    counts = traffic["nvm"]
    mode = counts.get("memory-mode")
    return (mode["nvm-reads"], mode["nvm-writes"]) if mode else \
        (counts["fills"], counts["writebacks"])


def moved(result):
    """Pages that came to DRAM, and bytes that moves copied, both ways."""
    if result.cell.row == LINUX:
        up = result.kernel("pgpromote_success")
        down = result.kernel("pgdemote_kswapd") + \
            result.kernel("pgdemote_direct")
        return up, (up + down) * PAGE
    if result.cell.row == DAMON:
        up = result.data["scheme_1"]["sz_applied"]
        down = result.data["scheme_0"]["sz_applied"] + PAGE * (
            result.kernel("pgdemote_kswapd") +
            result.kernel("pgdemote_direct"))
        return up // PAGE, up + down
    if result.cell.row == MODE:
        return None, None
    counters = result.counters
    return counters["promoted-bytes"] // PAGE, \
        counters["promoted-bytes"] + counters["demoted-bytes"]


def row(name, result, traffic, base, unmanaged):
    """Of row `name`, made of `result`; `base` is the memory-mode run, which is
    all-DRAM, too.  What is to be held against the unmanaged run is None
    without that."""
    fills, writebacks = medium(traffic)
    pages, copied = moved(result)
    whole = whole_traffic(base)
    own = unmanaged and name not in (ALL_DRAM, ALL_NVM, MODE)
    return {
        "workload": result.cell.workload, "dram-percent": result.cell.share,
        "row": name, "nvm-fills": fills, "nvm-writebacks": writebacks,
        "left": writebacks / unmanaged.ranges["nvm"]["writebacks"]
        if unmanaged else None,
        "time": {m: time_over_dram(traffic, base, m) for m in MODELS},
        "guests-time": {m: guests_time(result, traffic, base, unmanaged, m)
                        for m in MODELS},
        "moves": pages, "copied-bytes": copied,
        "more-instructions": result.instructions / unmanaged.instructions - 1
        if own else None,
        "energy": energy(traffic, result.instructions, ENERGY) /
        energy(whole, base.instructions, "dram"),
        "wear": wear(traffic),
    }


def all_dram(base, unmanaged):
    """Of the memory-mode run, with all its lines taken from DRAM."""
    found = row(ALL_DRAM, base, whole_traffic(base), base, unmanaged)
    found.update({"nvm-fills": 0, "nvm-writebacks": 0, "wear": 0.0,
                  "left": found["left"] and 0.0, "energy": 1.0,
                  "time": {m: 1.0 for m in MODELS},
                  "guests-time": {m: 1.0 for m in MODELS}, "moves": None,
                  "copied-bytes": None})
    return found


def optimum(unmanaged, said):
    """Of the oracle, which knows of write-backs alone."""
    return {"workload": unmanaged.cell.workload,
            "dram-percent": unmanaged.cell.share, "row": OPTIMUM,
            "nvm-fills": None, "nvm-writebacks": said["bound"],
            "left": said["bound"] / said["unmanaged"]
            if said["unmanaged"] else None,
            "time": None, "guests-time": None,
            "moves": said["feasible-moves"],
            "copied-bytes": None, "more-instructions": None, "energy": None,
            "wear": None}


def rows_of(workload, share, found, oracles):
    """{Cell: figures} of what can be made of the cells that are there."""
    cell = Cell(workload, share, UNMANAGED)
    base, unmanaged = found.get(cell.sibling(MODE)), found.get(cell)
    table = {}
    if base:
        table[ALL_DRAM] = all_dram(base, unmanaged)
        table[ALL_NVM] = row(ALL_NVM, base, whole_traffic(base), base,
                             unmanaged)
        table[MODE] = row(MODE, base, mode_traffic(base), base, unmanaged)
        for name in (UNMANAGED, *cells_.MANAGED):
            result = found.get(cell.sibling(name))
            if result:
                table[name] = row(name, result, split_traffic(result), base,
                                  unmanaged)
    if cell in oracles:
        table[OPTIMUM] = optimum(unmanaged, oracles[cell])
    return {cell.sibling(name): table[name] for name in cells_.ROWS
            if name in table}


def rows(found, oracles):
    """Of all workloads and shares."""
    return {cell: figures for w in cells_.WORKLOADS for s in cells_.SHARES
            for cell, figures in rows_of(w, s, found, oracles).items()}


# --- Several guests on one server --------------------------------------------


def guest_times(result, base):
    """{guest: {model: modelled time}}, to all-DRAM; None: no such run."""
    if not result or not base:
        return None
    bases = base.of_guests()
    mode = result.cell.row == MODE
    return {name: {m: time_over_dram(
        (mode_traffic if mode else split_traffic)(part), bases[name], m)
        for m in MODELS} for name, part in result.of_guests().items()}


def mean_times(times):
    """{model: geometric mean over guests}"""
    return {m: math.exp(sum(math.log(t[m]) for t in times.values()) /
                        len(times)) for m in MODELS}


def four_rows(found):
    """{row: (times of each guest, their means)} of the cells that are
    there."""
    cell = Cell(FOUR, FOUR_SHARE, MODE)
    base = found.get(cell)
    table = {}
    for name in cells_.FOUR_RUNS:
        times = guest_times(found.get(cell.sibling(name)), base)
        if times:
            table[name] = times, mean_times(times)
    return table
