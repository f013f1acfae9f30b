# SPDX-License-Identifier: GPL-2.0-or-later
"""From results to figures: rows of the tables."""

import functools
import pathlib
import statistics
import sys

from . import results
from .cells import UNMANAGED, Cell
from .results import (KIND, KIND_INTERVALS, KINDS, SETTLED,
                      SETTLED_INTERVALS, SETTLED_KINDS)

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "tools"))

import hybridmem_models                             # noqa: E402

MODELS = ("cxl", "optane")  # what nvm may stand for
# Who works for the moves.
CPUS = {"one": "on the guest's CPU", "beside": "with a CPU to spare"}
SECONDS = 1e-9              # of an instruction, as on the server's clock


@functools.cache
def models():
    """{name: model}"""
    return hybridmem_models.load()


def waited(model, fills):
    """Modelled seconds for lines that are waited for one after the other."""
    return hybridmem_models.account({"fills": fills, "writebacks": 0,
                                     "bytes": 0}, models()[model],
                                    1)["latency-s"].typical


def modelled_time(phase, nvm):
    """Seconds, if nvm is the model `nvm` and all else DRAM."""
    slow = phase.ranges["nvm"]["fills"]
    return phase.instructions * SECONDS + waited(nvm, slow) + \
        waited("dram", phase.sum("fills") - slow)


def traffic_row(result, base):
    """`base` is the unmanaged run."""
    phase, before = (r.phase(results.WORK) for r in (result, base))
    nvm, engine = phase.ranges["nvm"], result.data["engine"]
    counters = engine["counters"]
    all_dram = modelled_time(before, "dram")
    return {
        "form": result.cell.form, "block": engine["block-size"],
        "nvm-stores": nvm["stores"], "nvm-writebacks": nvm["writebacks"],
        "nvm-fills": nvm["fills"],
        "left": nvm["writebacks"] / before.ranges["nvm"]["writebacks"],
        "instructions": phase.instructions / before.instructions,
        "time": {m: modelled_time(phase, m) / all_dram for m in MODELS},
        "moves": counters["moves-done"],
        "own-nvm-lines": counters["nvm-written-bytes"] // results.LINE,
        "batches": counters["batches"],
        "stall-us": counters["stall-ns-total"] / 1000,
        "longest-us": counters["stall-ns-max"] / 1000,
        "histogram": counters["stall-histogram"],
        "signals": result.data["kvm_after"]["signals"] -
        result.data["kvm_before"]["signals"],
    }


def speed_row(result):
    """Lost are microseconds of the guest for a move.  With `one` CPU, all that
    is done for a move keeps the guest from its work.  With a CPU to spare
    (`beside`) that does not count for which the guest could have run."""
    none, shuffle = result.step("none"), result.step("shuffle")
    moves, span = result.moved()
    block = result.data["engine"]["block-size"]
    lost = shuffle.us - none.us
    waited = shuffle.waited_us - none.waited_us
    return {
        "form": result.cell.form, "block": block, "moves": moves,
        "rate": moves / span * 1e6,
        "bytes": moves / span * 1e6 * 2 * block,
        "progress": 1 - lost / span,
        "instructions": (result.phase(results.SHUFFLE).instructions -
                         result.phase(results.NONE).instructions) / moves,
        "lost": {"one": lost / moves, "beside": (lost - waited) / moves},
        "faults": (shuffle.faults - none.faults) / moves,
        "flushes": (shuffle.flushes - none.flushes) / moves,
    }


def rest_row(result, number):
    """Of one kind."""
    window, cold = KINDS[number]
    phase = result.phase(KIND + number)
    off = result.phase(results.COLD[cold])
    windows = result.grown("engine", KIND + number, "counters", "windows")
    huge = result.data[f"huge_{KIND + number}"]
    more = phase.instructions - KIND_INTERVALS * off.instructions
    return {
        "form": result.cell.form, "window": window, "cold": cold,
        "cost": more / (KIND_INTERVALS * off.instructions),
        "instructions": more / KIND_INTERVALS,
        "loads": phase.sum("loads") / (KIND_INTERVALS * off.sum("loads")) - 1,
        "windows": windows,
        "faults": result.grown("kvm", KIND + number, "faults") /
        KIND_INTERVALS - result.grown("kvm", results.COLD[cold], "faults"),
        "moves": result.grown("engine", KIND + number, "counters",
                              "moves-done"),
        "huge": statistics.mean(huge),
        "huge-least": min(huge), "huge-most": max(huge),
    }


def settled_row(result, number):
    """Of one kind; `interval` (ms) is where the engine had come to."""
    policy, cold = SETTLED_KINDS[number]
    phase = result.phase(SETTLED + number)
    off = result.phase(results.COLD[cold])
    grown = functools.partial(result.grown, "engine", SETTLED + number,
                              "counters")
    more = phase.instructions - SETTLED_INTERVALS * off.instructions
    return {
        "form": result.cell.form, "policy": policy, "cold": cold,
        "interval": result.data[f"engine_after_{SETTLED + number}"]["interval"],
        "cost": more / (SETTLED_INTERVALS * off.instructions),
        "instructions": more / grown("windows"), "windows": grown("windows"),
        "loads": phase.sum("loads") / (SETTLED_INTERVALS * off.sum("loads")) -
        1,
        "faults": (result.grown("kvm", SETTLED + number, "faults") -
                   SETTLED_INTERVALS *
                   result.grown("kvm", results.COLD[cold], "faults")) /
        grown("windows"),
        "moves": grown("moves-done"),
    }


def idle_row(result):
    """Instructions in an interval in which the guest does nothing."""
    off, on = (result.phase(results.IDLE[k]).instructions
               for k in (False, True))
    return {"form": result.cell.form,
            "instructions": (on - off) / results.IDLE_INTERVALS}


def tables(found):
    """{table: rows} of the cells that are there."""
    base = found.get(Cell("traffic", UNMANAGED))
    table = {"traffic": [], "speed": [], "rest": [], "idle": [], "settled": []}
    for cell, result in found.items():
        if cell.part == "traffic" and base:
            table["traffic"].append(traffic_row(result, base))
        elif cell.part == "speed":
            table["speed"].append(speed_row(result))
        elif cell.part == "rest":
            table["rest"] += [rest_row(result, n) for n in range(len(KINDS))]
            table["idle"].append(idle_row(result))
        elif cell.part == "settled":
            table["settled"] += [settled_row(result, n)
                                 for n in range(len(SETTLED_KINDS))]
    return table


def row_of(rows, **wanted):
    """The one with these values, or None."""
    return next((r for r in rows if all(r[k] == v
                                        for k, v in wanted.items())), None)


def more_moves(table, form, cpus):
    """How many times the bytes of remap are moved at equal slowdown; None:
    unknown."""
    rows = [row_of(table["speed"], form=f) for f in ("remap", form)]
    if None in rows:
        return None
    remap, own = (r["lost"][cpus] / r["block"] for r in rows)
    return remap / own if own > 0 else float("inf")
