# SPDX-License-Identifier: GPL-2.0-or-later
"""A lab without machines: results with round figures, in no time.

The environment breaks what a test wants broken:

    FAKELAB_FAIL      name of a cell that raises
    FAKELAB_CUT       ... whose results.json is cut off
    FAKELAB_LOSE      ... whose pages.tsv lacks a row
    FAKELAB_SET       CELL:PATH=JSON: another value in its results
    FAKELAB_INPUT     text of the input "scenario"
    FAKELAB_MORE      lines that every cell has more
"""

import json
import os

from cells.runner import Lab

from . import results
from .cells import (DAMON, FOUR, FOUR_GUESTS, LINUX, MODE, UNMANAGED,
                    WORKLOADS)
from .results import MiB, PAGE

MEMORY = 256                    # MiB
INSTRUCTIONS = 10 ** 9
EPOCHS, HOT = 8, 40             # pages that are written in each epoch
LINES = 60                      # of each of them
TOTAL = EPOCHS * HOT * LINES    # write-backs of all; as many fills

# Of each row: the share of lines that are left to nvm, promotions, and
# instructions above those of the work.
PLAYED = {UNMANAGED: (1.0, 0, 0.0), LINUX: (0.6, 300, 0.3),
          DAMON: (0.7, 250, 0.2),
          "cmq": (0.4, 200, 0.1), "temperature": (0.3, 150, 0.2),
          "benefit": (0.1, 100, 0.1), "benefit-wear": (0.1, 100, 0.1)}


def inputs_key(_cell):
    """See runner.Lab."""
    return {"scenario": os.environ.get("FAKELAB_INPUT", "1"), "qemu": "abc"}


def dram_mib(share):
    """As lab.dram_mib."""
    return round(MEMORY * share / 100)


def counts(lines):
    """Of a range."""
    return {"loads": 9 * lines, "stores": 3 * lines, "fills": lines,
            "writebacks": lines}


def mode_counts():
    """Half of all hits."""
    half = TOTAL // 2
    return counts(TOTAL) | {"memory-mode": {
        "fill-hits": half, "fill-misses": TOTAL - half,
        "writeback-hits": half, "writeback-misses": TOTAL - half,
        "nvm-reads": 2 * (TOTAL - half), "nvm-writes": half,
        "dram-reads": 2 * TOTAL, "dram-writes": 2 * TOTAL,
        "dirty-lines-left": 3}}


def meter(instructions, **ranges):
    """Its counts."""
    more = int(os.environ.get("FAKELAB_MORE", "0"))
    ranges["other"] = counts(7 + more)
    return {"instructions": round(instructions), "ranges": ranges}


def kernel(share, moves, guests=1):
    """What cells tell that a kernel manages."""
    dram = guests * dram_mib(share) * MiB
    nvm = guests * MEMORY * MiB - dram
    names = ("pgpromote_success", "pgdemote_kswapd")
    return {"set_demotion_enabled": "true", "tier_4": "0", "tier_22": "1",
            "dram_before": dram, "nvm_before": nvm,
            "dram_after": dram, "nvm_after": nvm,
            "vmstat_before": dict.fromkeys(names, 5),
            "vmstat_after": dict.fromkeys(names, 5 + moves)}


def linux(share, moves, guests=1):
    """What its cells tell besides."""
    return kernel(share, moves, guests) | {"set_numa_balancing": 2}


def damon(share, moves):
    """Likewise."""
    scheme = {"nr_tried": 9, "sz_tried": 90 * MiB, "sz_applied": moves * PAGE}
    words = "state=on sample_us=2500"
    return kernel(share, moves) | {
        "set_numa_balancing": 0, "set_kdamond_0": words,
        "set_kdamond_1": words, "scheme_0": scheme, "scheme_1": scheme}


def engine(moves, guest=""):
    """What others tell."""
    return {f"engine{guest}": {"accesses": {"windows": 20}, "counters": {
        "moves-done": moves, "promoted-bytes": PAGE * moves,
        "demoted-bytes": PAGE * moves, "stall-ns-total": 7}}}


def phase_of(cell):
    """What the meter counts, and what moved."""
    if cell.row == MODE:
        return meter(INSTRUCTIONS, nvm=mode_counts()), 0
    left, moves, more = PLAYED[cell.row]
    if cell.workload in WORKLOADS and WORKLOADS[cell.workload].kind == "even":
        left, moves = 1.0, 0
    nvm = round(left * TOTAL)
    return meter(INSTRUCTIONS * (1 + more), dram=counts(TOTAL - nvm),
                 nvm=counts(nvm)), moves


def told(cell, moves):
    """Beside the meter."""
    several = cell.workload == FOUR
    if cell.row == MODE:
        return {}
    if cell.row == LINUX:
        return linux(cell.share, moves, len(FOUR_GUESTS) if several else 1)
    if cell.row == DAMON:
        return damon(cell.share, moves)
    found = {}
    for guest in [f"-{name}" for name in FOUR_GUESTS] if several else [""]:
        found |= engine(moves, guest)
    return found


def data_of(cell):
    """results.json"""
    phase, moves = phase_of(cell)
    numbers = [results.PHASE]
    if cell.workload == FOUR:
        numbers = [str(results.FIRST + n) for n in range(len(FOUR_GUESTS))]
    return told(cell, moves) | {
        "done": "hm: done ops=9 checksum=7f",
        "meter": {"phases": {number: phase for number in numbers}}}


def write_pages(path, lose):
    """pages.tsv: all is written in nvm, but one line in a page of DRAM that
    is far up in its node."""
    rows = [(e, "nvm", p, LINES) for e in range(EPOCHS) for p in range(HOT)]
    with path.open("w") as file:
        print("# phase", "epoch", "range", "page", "loads", "stores", "fills",
              "writebacks", sep="\t", file=file)
        print(results.PHASE, 0, "dram", 32000, 1, 1, 1, 1, sep="\t",
              file=file)
        for e, where, page, n in rows[:-1] if lose else rows:
            print(results.PHASE, e, where, page, n, n, n, n, sep="\t",
                  file=file)


def change(data, path, value):
    """One value of nested maps."""
    *names, last = path.split("/")
    for name in names:
        data = data[name]
    data[last] = value


def run_cell(cell, directory):
    """As lab.py's."""
    print(f"fake run of {cell.name}")
    if os.environ.get("FAKELAB_FAIL") == cell.name:
        raise RuntimeError("the server did not boot")
    data = data_of(cell)
    name, _, rest = os.environ.get("FAKELAB_SET", "").partition(":")
    if name == cell.name:
        path, _, value = rest.partition("=")
        change(data, path, json.loads(value))
    text = json.dumps(data)
    if os.environ.get("FAKELAB_CUT") == cell.name:
        text = text[:-20]
    (directory / results.RESULTS).write_text(text)
    if cell.row == UNMANAGED and cell.workload != FOUR:
        write_pages(directory / results.PAGES,
                    os.environ.get("FAKELAB_LOSE") == cell.name)
    return {"memory": MEMORY, "dram": dram_mib(cell.share), "interval": 50}


LAB = Lab("bench-peers", results.FORMAT, inputs_key, run_cell, results.load)
