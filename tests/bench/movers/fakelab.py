# SPDX-License-Identifier: GPL-2.0-or-later
"""A lab without machines: results of movers with round figures, in no time.

The environment breaks what a test wants broken:

    FAKELAB_FAIL      name of a cell that raises
    FAKELAB_CUT       ... whose results.json is cut off
    FAKELAB_SET       CELL:KEY=JSON: another value in its results
    FAKELAB_INPUT     text of the input "scenario"
"""

import json
import os

from cells.runner import Lab

from . import results
from .cells import FORMS, UNMANAGED

STEP_US = 1_000_000             # of the guest, without moves
MOVES = 1000                    # every millisecond ten
LOST_US = {"remap": 100, "numa-container": 40, "numa": 25, "numa-thp": 10_000}
WAITED_US = {"remap": 0, "numa-container": 20, "numa": 23, "numa-thp": 10_000}
MOVE_INSTRUCTIONS = {"remap": 100_000, "numa-container": 40_000,
                     "numa": 25_000, "numa-thp": 1_000_000}
INTERVAL = 10 ** 9              # instructions, engine off
REST = {"remap": 10_000_000, "numa": 20_000_000, "numa-thp": 40_000_000}
FAULTS = 3000


def counts(lines):
    """Of a range."""
    return {"loads": 9 * lines, "stores": 3 * lines, "fills": 2 * lines,
            "writebacks": lines}


def phase(instructions, dram, nvm):
    """Of the meter."""
    return {"instructions": instructions,
            "ranges": {"dram": counts(dram), "nvm": counts(nvm),
                       "other": counts(0)}}


def engine(cell, moves=0, windows=0):
    """As query-hybridmem."""
    form = FORMS[cell.form]
    stops = moves // 10 if form.mover == "remap" else 0
    return {"id": "hm0", "block-size": 2 << 20 if form.huge else 4096,
            "counters": {"moves-done": moves, "windows": windows,
                         "nvm-written-bytes": 4096 * moves, "batches": stops,
                         "stall-ns-total": 1000 * stops,
                         "stall-ns-max": min(1000, 1000 * stops),
                         "stall-histogram": [stops, 0, 0]}}


def kvm(faults=0):
    """KVM's counts."""
    return {"faults": faults, "exits": 2 * faults, "flushes": faults // 2,
            "signals": 0}


def traffic(cell):
    """A tenth of the write-backs is left by who manages."""
    managed = cell.form != UNMANAGED
    nvm = 10 ** 5 if managed else 10 ** 6
    return {"done": "hm: done", "kvm_before": kvm(5), "kvm_after": kvm(9),
            "engine": engine(cell, 500 if managed else 0),
            "meter": {"phases": {str(results.WORK): phase(
                2 * 10 ** 9, 1_100_000 - nvm, nvm)}}}


def speed(cell):
    """The guest begins after a second, moves after two."""
    began, form = 10 * STEP_US, cell.form
    return {
        "engine": engine(cell, MOVES),
        "began_none": 0, "ended_none": began, "us_none": STEP_US,
        "moves_none": 0, "late_none": 0,
        "waited_before_none": 0, "waited_after_none": 1_000_000,
        "kvm_before_none": kvm(5), "kvm_after_none": kvm(15),
        "began_shuffle": began, "ended_shuffle": began + 4 * STEP_US,
        "us_shuffle": STEP_US + MOVES * LOST_US[form],
        "moves_shuffle": MOVES, "late_shuffle": MOVES,
        "waited_before_shuffle": 2_000_000,
        "waited_after_shuffle": 3_000_000 + 1000 * MOVES * WAITED_US[form],
        "kvm_before_shuffle": kvm(20), "kvm_after_shuffle": kvm(30 + 2 * MOVES),
        "trace": [[began, "plan", 0],
                  [began + 2 * STEP_US, "plan", MOVES],
                  *([began + 2 * STEP_US + 1000 * i, "batch", 10]
                    for i in range(1, MOVES // 10 + 1))],
        "meter": {"phases": {
            str(number): phase(
                10 ** 9 + more * MOVE_INSTRUCTIONS[form] * MOVES, 10, 10)
            for number, more in ((results.NONE, 0), (results.SHUFFLE, 1))}}}


def rest(cell):
    """Each window costs as much; a cold write doubles it."""
    phases = {str(p): phase(INTERVAL, 10, 10) for p in results.COLD.values()}
    found = {}
    for n, (_, cold) in enumerate(results.KINDS):
        number, intervals = results.KIND + n, results.KIND_INTERVALS
        phases[str(number)] = phase(
            intervals * (INTERVAL + (1 + cold) * REST[cell.form]), 22, 20)
        found |= {f"kvm_before_{number}": kvm(100),
                  f"kvm_after_{number}": kvm(100 + intervals * FAULTS),
                  f"engine_before_{number}": engine(cell, 7, 10),
                  f"engine_after_{number}": engine(cell, 7, 10 + intervals),
                  f"huge_{number}": [0, 64, 128]}
    for number in results.COLD.values():
        found |= {f"kvm_before_{number}": kvm(50),
                  f"kvm_after_{number}": kvm(60)}
    for on, number in results.IDLE.items():
        phases[str(number)] = phase(
            1000 + on * results.IDLE_INTERVALS * REST[cell.form], 1, 1)
    return found | {"meter": {"phases": phases}}


def settled(cell):
    """A quarter of the windows of the same time at rest."""
    times = results.SETTLED_MS // 1000
    phases = {str(p): phase(times * INTERVAL, 40, 40)
              for p in results.COLD.values()}
    found = {f"kvm_{when}_{number}": kvm(50) for when in ("before", "after")
             for number in results.COLD.values()}
    for n, (_, cold) in enumerate(results.SETTLED_KINDS):
        number = results.SETTLED + n
        windows = results.SETTLED_INTERVALS
        phases[str(number)] = phase(
            windows * (times * INTERVAL + (1 + cold) * REST[cell.form]), 82,
            80)
        found |= {f"kvm_before_{number}": kvm(100),
                  f"kvm_after_{number}": kvm(100 + windows * FAULTS),
                  f"engine_before_{number}": engine(cell, 7, 10),
                  f"engine_after_{number}": engine(cell, 7, 10 + windows) |
                  {"interval": results.SETTLED_MS}}
    return found | {"meter": {"phases": phases}}


PARTS = {"traffic": traffic, "speed": speed, "rest": rest, "settled": settled}


def inputs_key(_cell):
    """See runner.Lab."""
    return {"scenario": os.environ.get("FAKELAB_INPUT", "1"), "qemu": "abc"}


def run_cell(cell, directory):
    """As lab.py's."""
    print(f"fake run of {cell.name}")
    if os.environ.get("FAKELAB_FAIL") == cell.name:
        raise RuntimeError("the server did not boot")
    found = PARTS[cell.part](cell)
    name, _, change = os.environ.get("FAKELAB_SET", "").partition(":")
    if name == cell.name:
        key, _, value = change.partition("=")
        found[key] = json.loads(value)
    text = json.dumps(found)
    if os.environ.get("FAKELAB_CUT") == cell.name:
        text = text[:-20]
    (directory / results.RESULTS).write_text(text)
    return {}


LAB = Lab("bench-movers", results.FORMAT, inputs_key, run_cell, results.load)
