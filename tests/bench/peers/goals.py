# SPDX-License-Identifier: GPL-2.0-or-later
"""The goals of the comparison, and whether they are met.

A goal over several workloads is open until all of them are there, or one that
is there misses it.
"""

import math

from cells.goals import Goal

from .cells import (ALL_DRAM, DAMON, LINUX, MODE, OPTIMUM, SHARES, UNMANAGED,
                    WORKLOADS, Cell, runs_of)

DEFAULT, WEAR = "benefit", "benefit-wear"
GONE = 0.85             # of nvm write-backs, 10 % DRAM, geometric mean
OF_OPTIMUM = {False: 0.95, True: 0.85}      # by whether what is hot moves
SLOWER = 0.05           # than all-DRAM, 20 % DRAM, modelled
HARM = 0.01             # slower than unmanaged, even workloads
COST = 0.01             # of the guest's instructions
BEST = 0.02             # of the best row
RIVALS = (LINUX, DAMON, MODE, "cmq", "temperature")
AHEAD = {LINUX: 0.51, MODE: 0.31}       # HMM-V of these, four VMs
SKEWED = tuple(n for n, w in WORKLOADS.items() if w.kind == "skewed")
EVEN = tuple(n for n, w in WORKLOADS.items() if w.kind == "even")


def percent(value):
    return f"{100 * value:.1f} %"


def value_of(table, workload, share, row, *path):
    """A figure, or None."""
    found = table.get(Cell(workload, share, row))
    for key in path:
        found = found.get(key) if found else None
    return found


def gone(table, workload, share, row):
    """Share of the unmanaged write-backs, or None."""
    left = value_of(table, workload, share, row, "left")
    return None if left is None else 1 - left


def geometric_mean(values):
    """0 if one is not above 0."""
    if min(values) <= 0:
        return 0.0
    return math.exp(sum(map(math.log, values)) / len(values))


def not_run(values):
    """Words about those that are None, to be put behind others."""
    lost = [n for n, v in values.items() if v is None]
    return "" if not lost else f"; {len(lost)} of {len(values)} not run" \
        if len(lost) > 3 else f"; not run: {', '.join(lost)}"


def verdict(text, values, met, form):
    """A goal about a value for each of several names."""
    known = {n: v for n, v in values.items() if v is not None}
    good = all(map(met, known.values()))
    if not known:
        return Goal(text, None, "not run")
    words = ", ".join(f"{n} {form(v)}" for n, v in known.items()) + \
        not_run(values)
    return Goal(text, None if good and len(known) < len(values) else good,
                words)


def goal_gone(table, row):
    """The geometric mean over skewed workloads."""
    text = f"10 % DRAM, {row}: nvm write-backs removed, geometric mean of " \
        f"the skewed workloads at least {GONE:.0%}"
    values = {w: gone(table, w, 10, row) for w in SKEWED}
    known = [v for v in values.values() if v is not None]
    if not known:
        return Goal(text, None, "not run")
    mean = geometric_mean(known)
    words = f"{percent(mean)}: " + ", ".join(
        f"{w} {percent(v)}" for w, v in values.items() if v is not None)
    return Goal(text, None if len(known) < len(values) else mean >= GONE,
                words + not_run(values))


def of_optimum(table, workload, row):
    """What a row removes, to what the optimum does; None: unknown."""
    ours, best = (gone(table, workload, 10, r) for r in (row, OPTIMUM))
    return ours / best if best and ours is not None else None


def goal_optimum(table, row, moving):
    """Of what can be removed."""
    names = [w for w in SKEWED if WORKLOADS[w].moving == moving]
    what = "moving" if moving else "still"
    text = f"10 % DRAM, {row}: at least {OF_OPTIMUM[moving]:.0%} of the nvm " \
        f"write-backs that the optimum removes, {what} workloads"
    return verdict(text, {w: of_optimum(table, w, row) for w in names},
                   lambda v: v >= OF_OPTIMUM[moving], percent)


def goal_time(table, model):
    """Against a machine with DRAM only."""
    text = f"20 % DRAM, {DEFAULT}, {model}: modelled time within " \
        f"{SLOWER:.0%} of all-DRAM, skewed workloads"
    return verdict(text, {w: value_of(table, w, 20, DEFAULT, "time", model)
                          for w in SKEWED}, lambda v: v <= 1 + SLOWER,
                   lambda v: f"{v:.3f}")


def slower(table, workload, share, row, model):
    """Than unmanaged; None: unknown."""
    ours, before = (value_of(table, workload, share, r, "time", model)
                    for r in (row, UNMANAGED))
    return ours / before - 1 if ours and before else None


def goal_harm(table, model):
    """Where nothing is to be gained."""
    text = f"{DEFAULT}, {model}: modelled time at most {HARM:.0%} above " \
        "unmanaged, even workloads"
    return verdict(text, {f"{w} {s} %": slower(table, w, s, DEFAULT, model)
                          for w in EVEN for s in SHARES},
                   lambda v: v <= HARM, lambda v: f"{100 * v:+.2f} %")


def behind(table, workload, share, row, *path):
    """How far a row is above the best of the others; None: unknown."""
    ours = value_of(table, workload, share, row, *path)
    others = [value_of(table, workload, share, r, *path) for r in RIVALS
              if r in runs_of(share)]
    if ours is None or None in others:
        return None
    return ours / min(others) - 1 if min(others) else 0.0


def goal_best(table, row, what, *path):
    """On every workload and share."""
    text = f"{row}: {what} best, or within {BEST:.0%} of the best of " \
        f"{', '.join(RIVALS)}"
    return verdict(text, {f"{w} {s} %": behind(table, w, s, row, *path)
                          for w in WORKLOADS for s in SHARES},
                   lambda v: v <= BEST, lambda v: f"{100 * v:+.1f} %")


def goal_cost(table):
    """Whole runs, with learning, do not tell: bench-movers does."""
    values = [v for w in WORKLOADS for s in SHARES if (v := value_of(
        table, w, s, DEFAULT, "more-instructions")) is not None]
    words = f"{percent(min(values))} to {percent(max(values))} in whole " \
        "runs, with learning, and window after window" if values else "not run"
    return Goal(f"{DEFAULT}: instructions of the manager at most {COST:.0%} "
                "of the guest's once placement has settled: the goals "
                "\"settled\" of bench-movers say", None, words)


def goal_four(four, rival, ahead):
    """HMM-V's figures, of the geometric means of guests' modelled times."""
    text = f"four VMs on one server, {DEFAULT}: modelled time ahead of " \
        f"{rival} by more than {ahead:.0%}"
    if DEFAULT not in four or rival not in four:
        return Goal(text, None, "not run")
    theirs, ours = four[rival][1], four[DEFAULT][1]
    gained = {m: t / ours[m] - 1 for m, t in theirs.items()}
    return Goal(text, all(g > ahead for g in gained.values()), ", ".join(
        f"{m} {100 * g:+.1f} % (all-DRAM {100 * (theirs[m] - 1):+.1f} %)"
        for m, g in gained.items()))


def all_of(table, four):
    """In the order of the project; `four` is figures.four_rows()."""
    models = next((list(f["time"]) for c, f in table.items()
                   if c.row == ALL_DRAM), ["cxl", "optane"])
    return [goal_gone(table, DEFAULT), goal_gone(table, WEAR),
            *(goal_optimum(table, row, moving) for row in (DEFAULT, WEAR)
              for moving in (False, True)),
            *(goal_time(table, m) for m in models),
            *(goal_harm(table, m) for m in models), goal_cost(table),
            *(goal_best(table, DEFAULT, f"modelled time ({m})", "time", m)
              for m in models),
            goal_best(table, WEAR, "nvm write-backs", "nvm-writebacks"),
            *(goal_four(four, rival, ahead) for rival, ahead in
              AHEAD.items())]
