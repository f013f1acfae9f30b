# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables in Markdown, and summary.json."""

import json

from cells.document import NONE, Block, markdown, percent, ratio

from . import figures
from .goals import DEFAULT_WINDOW

BLOCK = Block("bench-movers")
SUMMARY = "summary.json"
KiB = 1024

TRAFFIC_NOTES = """\
*Traffic.* From mark to mark, by the meter: the guest's work, and all that QEMU
and the server's kernel did meanwhile. *Left*: nvm write-backs, to unmanaged.
*Instructions*, to unmanaged: a run lasts seconds where a user's lasts minutes,
so windows are 25 ms of each 100, and sampling costs ten times its usual share.
*Time* is modelled: an instruction takes 1 ns, as on the server's clock, and
each line that is read is waited for, by the typical latency of the model that
nvm stands for, and of `dram` for all other memory; to a machine all of DRAM
with the unmanaged run's traffic. *Own lines*: what moves wrote to nvm, by our
own counter; they are among the write-backs. *Stops*: batches for which the
guest was held; *stalls* are how many of them took how long."""

SPEED_NOTES = """\
*Speed of moves.* Policy `shuffle` without limits, for a part of a step of the
guest's work (writes anywhere in all of its buffer), beside the same step
without moves; in exact time, on one CPU, in turns of 0.1 ms. A *move* is an
exchange of two blocks; *moves/s* and *MiB/s* are those of the server's clock,
on which an instruction takes 1 ns. *Lost*: of the guest's time, for a move.
*On the guest's CPU*: all that is done for it (by QEMU, the server's kernel, and
KVM for the guest afterwards) keeps the guest from its work. *With a CPU to
spare*: without the time in which the guest could have run but others did; what
remains is that in which it was held, or waited for a page on its way, or KVM
worked for it. *To remap*: how much is moved for the same loss. *Faults*: KVM's,
for a move; *flushes*: how often KVM asked for TLBs to be flushed, which calls a
guest that runs on another CPU out for a moment; that is not in the loss."""

REST_NOTES = """\
*At rest.* The same work on a hot set that stays in DRAM, for two intervals of
1000 ms, to two of it with the engine off. *Cold*: of 100 writes, those that go
to any page of the buffer. *Cost*: more instructions, by the meter, in the whole
server; *in an interval* their number. *Loads* more, in the same way. *Faults*:
KVM's page faults in an interval, more than with the engine off; *huge*: of the
128 pieces of 2 MiB of guest RAM, those that KVM maps as huge pages, as nine
looks in an interval found. An instruction takes 1 ns here, so a second is
10^9: on a processor that does more in a second the same cost is a smaller
share."""


SETTLED_NOTES = """\
*Settled.* The same once more, but first the engine is left to find that (almost)
nothing is to be moved, by which it comes to sample less often: *interval* is
where it was then, 1000 to begin with. For two times 4000 ms, to the same time
with the engine off; *a window*: instructions, and KVM's page faults, more for
each window. `benefit` (`model=cxl`) sees writes, and reads, too."""


def count(value):
    """With commas."""
    return NONE if value is None else f"{value:,.0f}"


def block_size(size):
    """KiB or MiB."""
    return f"{size // KiB} KiB" if size < KiB * KiB else \
        f"{size // KiB // KiB} MiB"


def histogram(counts):
    """Those that are not 0, with the time that they mean."""
    words = [f"{n:,} of {1 << i}–{2 << i}" for i, n in enumerate(counts) if n]
    return ", ".join(words) + (" µs" if words else "none")


def traffic_table(rows):
    """A row for each form."""
    heads = ["mover", "block", "nvm stores", "nvm write-backs", "left",
             "nvm fills", "instructions",
             *(f"time, {m}" for m in figures.MODELS), "moves", "own lines",
             "stops", "held, ms", "longest, ms", "stalls"]
    return markdown(heads, [[
        row["form"], block_size(row["block"]), count(row["nvm-stores"]),
        count(row["nvm-writebacks"]), percent(row["left"]),
        count(row["nvm-fills"]), f"{row['instructions']:.3f}",
        *(ratio(row["time"][m]) for m in figures.MODELS),
        count(row["moves"]), count(row["own-nvm-lines"]),
        count(row["batches"]), f"{row['stall-us'] / 1000:.1f}",
        f"{row['longest-us'] / 1000:.2f}", histogram(row["histogram"])]
        for row in rows], left=2)


def times(table, form, cpus):
    """See figures.more_moves()."""
    value = figures.more_moves(table, form, cpus)
    return NONE if value is None else \
        "no loss seen" if value == float("inf") else f"{value:.1f}"


def speed_table(table):
    """A row for each form."""
    heads = ["mover", "block", "moves", "moves/s", "MiB/s",
             "guest's progress", "instructions a move",
             *(word for cpus in figures.CPUS.values()
               for word in (f"lost, µs, {cpus}", "to remap")),
             "faults", "flushes"]
    return markdown(heads, [[
        row["form"], block_size(row["block"]), count(row["moves"]),
        count(row["rate"]), count(row["bytes"] / KiB / KiB),
        percent(row["progress"]), count(row["instructions"]),
        *(word for cpus in figures.CPUS
          for word in (f"{row['lost'][cpus]:.1f}",
                       times(table, row["form"], cpus))),
        f"{row['faults']:.1f}", f"{row['flushes']:.1f}"]
        for row in table["speed"]], left=2)


def rest_table(rows):
    """A row for each form and kind."""
    heads = ["mover", "cold", "window, ms", "cost", "in an interval", "loads",
             "faults", "huge", "moves"]
    return markdown(heads, [[
        row["form"], f"{row['cold']}", f"{row['window']}",
        percent(row["cost"], 2), count(row["instructions"]),
        percent(row["loads"], 2), count(row["faults"]),
        f"{row['huge']:.0f} ({row['huge-least']}..{row['huge-most']})",
        count(row["moves"])] for row in rows])


def settled_table(rows):
    """A row for each form and kind."""
    heads = ["mover", "policy", "cold", "interval, ms", "windows", "cost",
             "a window", "loads", "faults, a window", "moves"]
    return markdown(heads, [[
        row["form"], row["policy"], f"{row['cold']}", count(row["interval"]),
        count(row["windows"]), percent(row["cost"], 2),
        count(row["instructions"]), percent(row["loads"], 2),
        count(row["faults"]), count(row["moves"])] for row in rows], left=2)


def idle_line(rows):
    """For guests that do nothing."""
    words = ", ".join(f"{row['form']} {count(row['instructions'])}"
                      for row in rows)
    return f"While the guest does nothing, instructions in an interval of " \
        f"1000 ms with a window of {DEFAULT_WINDOW}, more than with " \
        f"the engine off: {words or NONE}."


def block(table, goals):
    """All that goes to the document."""
    parts = [traffic_table(table["traffic"]), [TRAFFIC_NOTES],
             speed_table(table), [SPEED_NOTES],
             rest_table(table["rest"]), [REST_NOTES], [idle_line(table["idle"])],
             settled_table(table["settled"]), [SETTLED_NOTES],
             [f"* {goal}" for goal in goals]]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def write_summary(root, table, goals):
    """All of it, for programs; into build/."""
    (root / SUMMARY).write_text(json.dumps(
        {"tables": table, "goals": [g._asdict() for g in goals]},
        indent=1) + "\n")
