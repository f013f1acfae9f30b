# SPDX-License-Identifier: GPL-2.0-or-later
"""The goals of the project that these figures are held against."""

from cells.goals import Goal

from .figures import CPUS, more_moves, row_of
from .results import COLD

FASTER = 5                  # times the moves at equal slowdown
AT_REST = 0.02              # of the guest's instructions
SETTLED = 0.01              # of them, too
DEFAULT_WINDOW = 250        # ms, of an interval of 1000
FEW = 2                     # signals in a run; a stop takes one


def no_stop(table, form):
    """No vCPU was held.  QEMU has other reasons for a signal to one, but they
    are few."""
    text = f"traffic, {form}: no stop of a vCPU"
    row = row_of(table["traffic"], form=form)
    if not row:
        return Goal(text, None, "not run")
    return Goal(text, not (row["batches"] or row["stall-us"] or
                           row["signals"] > FEW),
                f"{row['moves']:,} moves, {row['batches']} stops, "
                f"{row['signals']} signals to a vCPU")


def faster(table, form, cpus):
    """At equal slowdown of the guest."""
    text = f"{CPUS[cpus]}, {form}: at least {FASTER} times what remap moves " \
        "at equal slowdown of the guest"
    times = more_moves(table, form, cpus)
    if times is None:
        return Goal(text, None, "not run")
    return Goal(text, times >= FASTER, f"{times:.1f} times")


def at_rest(table, form):
    """With the default window."""
    text = f"at rest, {form}, window {DEFAULT_WINDOW} of 1000 ms: at most " \
        f"{AT_REST:.0%} of the guest's instructions"
    row = row_of(table["rest"], form=form, window=DEFAULT_WINDOW, cold=0)
    if not row:
        return Goal(text, None, "not run")
    return Goal(text, row["cost"] <= AT_REST, f"{row['cost']:.2%}")


def settled(table, form, cold):
    """By the default policy."""
    text = f"settled, {form}, benefit, {cold} of 100 writes anywhere: at " \
        f"most {SETTLED:.0%} of the guest's instructions"
    row = row_of(table["settled"], form=form, policy="benefit", cold=cold)
    if not row:
        return Goal(text, None, "not run")
    return Goal(text, row["cost"] <= SETTLED,
                f"{row['cost']:.2%}, interval {row['interval']} ms")


def all_of(table):
    """All of them."""
    return [*(no_stop(table, f)
              for f in ("numa-container", "numa", "numa-thp")),
            *(faster(table, f, cpus) for cpus in CPUS
              for f in ("numa-container", "numa")),
            *(at_rest(table, f) for f in ("numa", "numa-thp")),
            *(settled(table, f, cold) for cold in COLD
              for f in ("remap", "numa", "numa-thp"))]
