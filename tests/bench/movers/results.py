# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads what a run left in its folder, and refuses what is not whole.

    results.json   what the scenario's script told, and the meter's counts
    run.json       what produced it; it is written last
"""

import pathlib
from typing import NamedTuple

from cells.files import ResultError, read_json
from cells.runner import RUN

FORMAT = 1              # of these; another one: all runs again
RESULTS = "results.json"
LINE = 64               # bytes of a write-back, and of a fill

# The meter's phases: as the workloads mark what is measured, and as the
# scenarios do.
WORK = 2
NONE, SHUFFLE = 11, 12
COLD = {0: 10, 1: 11}   # engine off, by cold writes in 100
IDLE = {False: 40, True: 41}
IDLE_INTERVALS = 2

# Windows of a second that are tried (ms), and cold writes in 100: phases from
# KIND on, in this order, each of so many intervals.
KINDS = ((50, 0), (100, 0), (250, 0), (500, 0), (1000, 0), (250, 1), (1000, 1))
KIND = 20
KIND_INTERVALS = 2

# Policies that settle, and cold writes in 100: phases from SETTLED on, each of
# so many intervals of such an engine.  COLD is one such interval there.
SETTLED_KINDS = (("benefit", 0), ("benefit", 1),
                 ("write-heat", 0), ("write-heat", 1))
SETTLED = 50
SETTLED_INTERVALS = 2
SETTLED_MS = 4000


class Phase(NamedTuple):
    """The meter's counts."""
    instructions: int
    ranges: dict            # name -> {"loads": ...}

    def sum(self, count):
        """In all ranges."""
        return sum(r[count] for r in self.ranges.values())


class Step(NamedTuple):
    """What a step of a speed cell was like."""
    us: int                 # by the guest's clock
    waited_us: float        # of that, ready to run while others ran
    faults: int             # of KVM
    flushes: int            # of TLBs, that KVM asked for


class Moved(NamedTuple):
    """What blocks moved in it."""
    moves: int
    span_us: int            # from the first plan to the last batch


class Result(NamedTuple):
    """A cell's results."""
    cell: object
    run: dict
    data: dict

    def phase(self, number):
        """See Phase."""
        found = self.data["meter"]["phases"][str(number)]
        return Phase(found["instructions"], found["ranges"])

    def step(self, kind):
        """Of "none" or "shuffle"; see Step."""
        waited = [self.data[f"waited_{end}_{kind}"]
                  for end in ("before", "after")]
        return Step(self.data[f"us_{kind}"], (waited[1] - waited[0]) / 1000,
                    self.grown("kvm", kind, "faults"),
                    self.grown("kvm", kind, "flushes"))

    def moved(self):
        """While the engine shuffled; see Moved."""
        began, ended = self.data["began_shuffle"], self.data["ended_shuffle"]
        inside = [t for t in self.data["trace"] if began <= t[0] <= ended]
        plans = [at for at, what, moves in inside if what == "plan" and moves]
        batches = [at for at, what, _ in inside if what == "batch"]
        done = sum(n for _, what, n in inside if what == "batch")
        return Moved(done, batches[-1] - plans[0] if plans and batches else 0)

    def grown(self, what, phase, *path):
        """By how much a count of "engine" or "kvm" has grown in a phase."""
        ends = [self.data[f"{what}_{when}_{phase}"]
                for when in ("before", "after")]
        for name in path:
            ends = [e[name] for e in ends]
        return ends[1] - ends[0]


def check_meter(result, phases, counts, where):
    """That these phases are there, with these counts."""
    for number in phases:
        phase = result.phase(number)
        for tier in ("dram", "nvm", "other"):
            for name in counts:
                if not isinstance(phase.ranges[tier].get(name), int):
                    raise ResultError(f"{where}: no count {name} of {tier} in"
                                      f" phase '{number}'")


def check_traffic(result, where):
    """Something was counted; unmanaged is unmanaged."""
    check_meter(result, [WORK], ("stores", "fills", "writebacks"), where)
    moves = result.data["engine"]["counters"]["moves-done"]
    if result.cell.form == "unmanaged" and moves:
        raise ResultError(f"{where}: blocks moved in an unmanaged run")
    if result.data["kvm_after"]["exits"] < result.data["kvm_before"]["exits"]:
        raise ResultError(f"{where}: KVM's counts are not of one guest")


def check_speed(result, where):
    """Blocks moved, when they should, and were counted."""
    data, moved = result.data, result.moved()
    check_meter(result, [NONE, SHUFFLE], ("loads",), where)
    result.step("none"), result.step("shuffle")
    if moved.moves <= 0 or moved.span_us <= 0:
        raise ResultError(f"{where}: nothing moved")
    if data["late_none"]:
        raise ResultError(f"{where}: blocks moved while none should")
    if data["moves_shuffle"] != moved.moves:
        raise ResultError(f"{where}: the log tells of {moved.moves} moves, "
                          f"the counter of {data['moves_shuffle']}")
    if data["late_shuffle"] != moved.moves:
        raise ResultError(f"{where}: the guest had done its work before the "
                          "moves were over; give it more")


def check_rest(result, where):
    """All kinds are there."""
    check_meter(result, [*COLD.values(), *IDLE.values(),
                         *range(KIND, KIND + len(KINDS))], ("loads",), where)
    for n in range(len(KINDS)):
        if result.grown("engine", KIND + n, "counters", "windows") <= 0:
            raise ResultError(f"{where}: no window in phase '{KIND + n}'")


def check_settled(result, where):
    """All kinds are there."""
    check_meter(result, [*COLD.values(),
                         *range(SETTLED, SETTLED + len(SETTLED_KINDS))],
                ("loads",), where)
    for n in range(len(SETTLED_KINDS)):
        if result.grown("engine", SETTLED + n, "counters", "windows") <= 0:
            raise ResultError(f"{where}: no window in phase '{SETTLED + n}'")


CHECKS = {"traffic": check_traffic, "speed": check_speed,
          "rest": check_rest, "settled": check_settled}


def load(cell, directory, run=None):
    """See runner.Lab."""
    directory = pathlib.Path(directory)
    path = directory / RESULTS
    run = run or read_json(directory / RUN)
    result = Result(cell, run, read_json(path))
    try:
        CHECKS[cell.part](result, path)
    except (AttributeError, KeyError, TypeError, ZeroDivisionError) as error:
        raise ResultError(f"{path}: it is not as it should be "
                          f"({error!r})") from error
    return result
