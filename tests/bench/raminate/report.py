# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables in Markdown, a plot, and summary.json."""

import itertools
import json
import shutil
import subprocess

from cells.document import NONE, Block, markdown, percent, ratio

from . import cells as cells_
from . import energy

BLOCK = Block("bench-raminate")
SUMMARY, PLOT, DATA = "summary.json", "bench-raminate.png", \
    "bench-raminate.tsv"

NOTES = """\
Counted by the lab's meter between two marks of the guest, not by our own
counters. *Stores* are those of the processor, *write-backs* the lines of 64
bytes that the cache model wrote to memory, ours and QEMU's among them. *Of
all*: of what went to guest RAM, both tiers. *Left*: of the unmanaged run's.
*Own lines*: what moves wrote to NVM, by our own counter; they are among the
write-backs. *Unmanaged*: the engine is switched off and nothing is logged.
Energy is modelled: RAMinate's formula with E1 = 10, 100 and 1000 times E0, as
a ratio to a machine all of DRAM with the unmanaged run's traffic. *To the
oracle*: (write-backs - oracle's) / (unmanaged - oracle's), so that 0 is as
good as one who knows the future and 1 is unmanaged; – where there is less than
1 % to gain."""

ORACLE_NOTES = """\
The oracle, from the unmanaged run's write-backs per page and epoch, in percent
of unmanaged. *Best fixed*: the most written pages are in DRAM from the start,
which costs nothing here. *At least*: no policy that starts from the real
placement, moves pages between epochs and writes 64 lines to NVM for each
demotion can leave less. *Reached*: by a schedule of that kind."""


def main_table(table):
    """A row for each cell."""
    heads = ["workload", "DRAM", "policy", "nvm stores", "of all",
             "nvm write-backs", "of all", "left", "moves", "own lines",
             *(f"energy, {r}" for r in energy.RATIOS), "to the oracle"]
    lines = []
    for figures in table.values():
        unmanaged = figures["policy"] == cells_.UNMANAGED
        lines.append([
            figures["workload"], f"{figures['dram-percent']} %",
            figures["policy"], f"{figures['nvm-stores']:,}",
            percent(figures["nvm-store-share"]),
            f"{figures['nvm-writebacks']:,}",
            percent(figures["nvm-writeback-share"]),
            "" if unmanaged else percent(figures["left"]),
            "" if unmanaged else f"{figures['moves']:,}",
            "" if unmanaged else f"{figures['own-nvm-lines']:,}",
            *map(ratio, figures["energy-to-all-dram"].values()),
            "" if unmanaged else ratio(figures["distance"]["bound"])])
    return markdown(heads, lines)


def oracle_table(oracles):
    """A row for each workload and share."""
    heads = ["workload", "DRAM", "pages written", "unmanaged", "best fixed",
             "at least", "reached", "moves"]
    lines = []
    for cell, said in oracles.items():
        lines.append([
            cell.workload, f"{cell.share} %", f"{said['written-pages']:,}",
            f"{said['unmanaged']:,}",
            *(percent(share_left(said, name), 2)
              for name in ("fixed", "bound", "feasible")),
            f"{said['feasible-moves']:,}"])
    return markdown(heads, lines)


def share_left(said, name):
    """What the oracle leaves, of unmanaged."""
    return said[name] / said["unmanaged"] if said["unmanaged"] else None


def span(values, form):
    """From the least to the largest of those that are known."""
    known = sorted(v for v in values if v is not None)
    if not known:
        return NONE
    low, high = form(known[0]), form(known[-1])
    return low if low == high else f"{low} to {high}"


def published_table(table):
    """RAMinate's figures beside ours."""
    def ours(policy, value, **only):
        return span((value(f) for c, f in table.items()
                     if c.policy == policy and
                     all(getattr(c, k) == v for k, v in only.items())),
                    percent)

    def line(what, theirs, value, **only):
        return [what, theirs, "RAMinate's workloads are others" if not only
                else "another machine and kernel source",
                *(ours(p, value, **only) for p in cells_.POLICIES)]

    def left(figures):
        return figures["left"]

    def gone(figures):
        return None if left(figures) is None else 1 - left(figures)

    heads = ["what", "RAMinate", "to be read with", *cells_.POLICIES]
    return markdown(heads, [
        line("write traffic to slow memory gone", "about 70 %", gone),
        line("left of it, compiler, 10 % DRAM", "under 20 %", left,
             workload="compile", share=10),
        ["energy", "about 50 % less", "modelled; above, against all-DRAM",
         *[NONE] * len(cells_.POLICIES)],
        ["slowdown", "7 to 17 %", "the lab has no time of its own",
         *[NONE] * len(cells_.POLICIES)]])


def block(table, oracles, goals):
    """All that goes to the document."""
    parts = [main_table(table), [NOTES], oracle_table(oracles),
             [ORACLE_NOTES], [f"![NVM write-backs left]({PLOT})"],
             published_table(table), [f"* {goal}" for goal in goals]]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def plot_rows(table, oracles):
    """(label, a value per policy, oracle) in percent of unmanaged, where all
    of them are known."""
    for base, said in oracles.items():
        left = [table.get(base.sibling(p), {}).get("left")
                for p in cells_.POLICIES]
        left.append(share_left(said, "feasible"))
        if None not in left:
            yield (f'"{base.workload}\\n{base.share} %"',
                   *(f"{100 * v:.3f}" for v in left))


COLOURS = ("#c08020", "#2060b0", "#208050", "#a04080", "#604020")
ORACLE_COLOUR = "#909090"


def plot_script(data, picture):
    """For gnuplot: column 1 has labels, those behind it a bar each."""
    colours = [*itertools.islice(itertools.cycle(COLOURS),
                                 len(cells_.POLICIES)), ORACLE_COLOUR]
    bars = ", ".join(
        f'"{data}" using {column}:xtic(1) linecolor "{colour}" title "{name}"'
        for column, (name, colour) in enumerate(
            zip((*cells_.POLICIES, "oracle"), colours), start=2))
    return f"""
set terminal pngcairo size 900,420 font "sans,11"
set output "{picture}"
set title "NVM write-backs left, by the meter (unmanaged = 100 %)"
set ylabel "% of unmanaged"
set yrange [0:*]
set datafile separator tab
set style data histogram
set style histogram clustered gap 1.2
set style fill solid 0.9 noborder
set boxwidth 0.9
set grid ytics back linecolor "#dddddd"
set border 3
set bmargin 3.5
set tics nomirror out
set key outside top center horizontal
set arrow from graph 0, first 100 to graph 1, first 100 nohead \\
    dashtype 2 linecolor "#666666"
plot {bars}
"""


def plot(table, oracles, root, *pictures):
    """Draws the bars into each of these files; returns why not, if not."""
    rows = list(plot_rows(table, oracles))
    if not rows:
        return "no workload has all its cells"
    if not shutil.which("gnuplot"):
        return "gnuplot is not installed"
    data = root / DATA
    data.write_text("".join("\t".join(r) + "\n" for r in rows))
    for picture in pictures:
        subprocess.run(["gnuplot", "-"], input=plot_script(data, picture),
                       text=True, check=True, timeout=60)
    return None


def summary(table, oracles, goals):
    """All of it, for programs."""
    return {"cells": {c.name: figures for c, figures in table.items()},
            "oracles": {c.name: said for c, said in oracles.items()},
            "goals": [g._asdict() for g in goals]}


def write_summary(root, *what):
    """As summary(); into build/."""
    (root / SUMMARY).write_text(json.dumps(summary(*what), indent=1) + "\n")
