# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables in Markdown, a plot, and summary.json."""

import itertools
import json
import shutil
import subprocess

from cells.document import NONE, Block, markdown

from . import cells as cells_
from .cells import (ALL_DRAM, DAMON, FOUR_GUESTS, FOUR_RUNS, LINUX, OPTIMUM,
                    ROWS)
from .figures import MODELS
from .results import MiB

BLOCK = Block("bench-peers")
SUMMARY, PLOT, DATA = "summary.json", "bench-peers.png", "bench-peers.tsv"

NOTES = """\
Counted by the lab's meter between two marks of the guest; all rows but
*all-dram*, *all-nvm* and *optimum* are runs of their own. *Fills* and
*write-backs*: lines of 64 bytes read from and written to NVM, moves and the
managers' own among them; in memory mode those of the medium. *Left*: of the
unmanaged run's write-backs. *Time*: modelled, over all-DRAM
(`over_dram`, each miss waited for alone, the manager's own misses, too), if
NVM is CXL memory or Optane. *Guest's*: the same, but with the misses that the
server made in memory of its own in the unmanaged run: what the guest's accesses
and the copies of moves take, as if the manager had caches and a CPU to itself;
where the kernel manages these are not told apart. What the manager executes is not in it, as if it
had a CPU to spare, but in *instructions*: of the whole run, above the
unmanaged one, learning included. *Moves*: pages that came to DRAM; *copied*: by moves, both ways, MiB.
*Energy*: modelled, over all-DRAM, if NVM is STT-MRAM (a write 100 times a
read). *Wear*: modelled, of all that Optane of this size endures, in
10⁻⁹. *All-dram* and *all-nvm* are the memory-mode run without its cache.
*Optimum*: no policy that starts from the same placement and knows the future
can leave fewer write-backs; its fills are not known."""

LINUX_NOTES = """\
What was set of the kernel's tiering, and what its own counters say: between
the marks, and MiB of guest RAM in DRAM before and after."""


def number(value):
    return NONE if value is None else f"{value:,}"


def part(value, digits=1, sign=""):
    """A share in percent."""
    return NONE if value is None else f"{100 * value:{sign}.{digits}f} %"


def plain(value, form):
    return NONE if value is None else format(value, form)


def line_of(figures):
    """A line of the main table."""
    time, guests = figures["time"] or {}, figures["guests-time"] or {}
    wear, copied = figures["wear"], figures["copied-bytes"]
    return [figures["workload"], f"{figures['dram-percent']} %",
            figures["row"], number(figures["nvm-fills"]),
            number(figures["nvm-writebacks"]), part(figures["left"]),
            *(plain(time.get(m), ".3f") for m in MODELS),
            *(plain(guests.get(m), ".3f") for m in MODELS),
            number(figures["moves"]),
            plain(copied and copied / MiB, ",.0f") if copied != 0 else "0",
            part(figures["more-instructions"], 1, "+"),
            plain(figures["energy"], ".2f"),
            plain(None if wear is None else wear * 1e9, ".0f")]


def main_table(table):
    """A row for each cell, and for what is made of it."""
    heads = ["workload", "DRAM", "row", "nvm fills", "nvm write-backs",
             "left", *(f"time, {m}" for m in MODELS),
             *(f"guest's, {m}" for m in MODELS), "moves", "copied",
             "instructions", "energy", "wear"]
    return markdown(heads, [line_of(f) for f in table.values()])


DAMON_NOTES = """\
What was set of DAMON, and what it did from when it was switched on: MiB of
regions tried, and of pages moved; pages that the kernel's reclaim demoted
between the marks; MiB of guest RAM in DRAM before and after."""

FOUR_NOTES = """\
Four guests at once on one server, of 256 MiB each, 20 % of all of it DRAM:
modelled time of each, over all-DRAM (that guest's misses, those of its QEMU and
of the kernel while it runs), if NVM is CXL memory / Optane, and the geometric
mean. An equal share of DRAM is each guest's own, but with *linux-tiering* and
*memory-mode*, where it is for all."""

COUNTERS = ("pgpromote_candidate", "pgpromote_success", "pgdemote_kswapd",
            "pgdemote_direct", "numa_hint_faults", "numa_pte_updates")


def linux_table(found):
    """What the kernel said."""
    runs = [r for r in found.values() if r.cell.row == LINUX]
    heads = ["workload", "DRAM", *COUNTERS, "before", "after"]
    return markdown(heads, [
        [r.cell.workload, f"{r.cell.share} %",
         *(f"{r.kernel(c):,}" for c in COUNTERS),
         *(f"{r.data[f'dram_{when}'] / MiB:.1f}"
           for when in ("before", "after"))] for r in runs], left=2)


def settings(found, row):
    """Sentences: each setting, with the workloads it was for if these
    differ."""
    said = {}
    for result in found.values():
        if result.cell.row == row:
            words = ", ".join(f"{k[4:]}={v}" for k, v in
                              sorted(result.data.items())
                              if k.startswith("set_"))
            tiers = "; ".join(f"memory tier {k[5:]}: node {v}" for k, v in
                              sorted(result.data.items())
                              if k.startswith("tier_"))
            said.setdefault(f"{words}; {tiers}", set()).add(
                result.cell.workload)
    return [f"* {', '.join(sorted(names))}: {words}"
            for words, names in said.items()]


def damon_table(found):
    """What it said."""
    heads = ["workload", "DRAM", "tried, cold", "moved, cold", "tried, hot",
             "moved, hot", "reclaim", "before", "after"]
    return markdown(heads, [
        [r.cell.workload, f"{r.cell.share} %",
         *(f"{r.data[f'scheme_{n}'][k] / MiB:,.0f}" for n in (0, 1)
           for k in ("sz_tried", "sz_applied")),
         f"{r.kernel('pgdemote_kswapd') + r.kernel('pgdemote_direct'):,}",
         *(f"{r.data[f'dram_{when}'] / MiB:.1f}"
           for when in ("before", "after"))]
        for r in found.values() if r.cell.row == DAMON], left=2)


def four_table(four):
    """A column for each guest."""
    def words(times):
        return " / ".join(f"{times[m]:.3f}" for m in MODELS)

    return markdown(
        ["row", *FOUR_GUESTS, "geometric mean"],
        [[row, *(words(t) for t in four[row][0].values()),
          words(four[row][1])] for row in FOUR_RUNS if row in four], left=1)


def missing(found):
    """A sentence about cells that did not run."""
    names = []
    for _, group in itertools.groupby(cells_.CELLS, lambda c: c[:2]):
        group = list(group)
        lost = [c for c in group if c not in found]
        names += [f"{c.workload}-{c.share}-*" for c in lost[:1]] \
            if lost == group else [c.name for c in lost]
    if not names:
        return "All cells are there."
    count = sum(c not in found for c in cells_.CELLS)
    return f"{count} of {len(cells_.CELLS)} cells have not run yet: " + \
        ", ".join(f"`{n}`" for n in names) + "."


def block(table, found, four, goals):
    """All that goes to the document."""
    parts = [main_table(table), [NOTES], [missing(found)]]
    if any(c.row == LINUX for c in found):
        parts += [[LINUX_NOTES], linux_table(found), settings(found, LINUX)]
    if any(c.row == DAMON for c in found):
        parts += [[DAMON_NOTES], damon_table(found), settings(found, DAMON)]
    if four:
        parts += [[FOUR_NOTES], four_table(four)]
    parts += [[f"![Modelled time and write-backs]({PLOT})"],
              [f"* {goal}" for goal in goals]]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


# --- The picture -------------------------------------------------------------

BARS = tuple(r for r in ROWS if r not in (ALL_DRAM, OPTIMUM))
COLOURS = ("#b0b0b0", "#707070", "#a04080", "#d07090", "#604020", "#c08020",
           "#70a0d0", "#2060b0", "#208050")
TIME = "optane"


def plot_rows(table):
    """(label, time and write-backs left of each bar; ? if unknown)."""
    for workload, share in itertools.product(cells_.WORKLOADS,
                                             cells_.SHARES):
        found = [table.get(cells_.Cell(workload, share, r)) for r in BARS]
        if any(found):
            label = workload.replace("-moving", "\\nmoving")
            yield (f'"{label}\\n{share} %"',
                   *(f"{f['time'][TIME]:.4f}" if f else "?" for f in found),
                   *(f"{100 * f['left']:.3f}" if f and f["left"] is not None
                     else "?" for f in found))


def bars(data, first, known):
    """gnuplot's words for one panel: bars of which there is at least one."""
    return ", ".join(
        f'"{data}" using {first + n}:xtic(1) linecolor "{colour}" '
        f'title "{name}"' for n, (name, colour) in
        enumerate(zip(BARS, COLOURS)) if first + n in known)


def plot_script(data, picture, known):
    """`known`: columns with a value."""
    left = bars(data, 2 + len(BARS), known)
    return f"""
set terminal pngcairo size 1100,760 font "sans,11"
set output "{picture}"
set datafile separator tab
set datafile missing "?"
set style data histogram
set style histogram clustered gap 1.2
set style fill solid 0.9 noborder
set boxwidth 0.9
set grid ytics back linecolor "#dddddd"
set border 3
set bmargin 4.5
set tics nomirror out
set multiplot layout 2,1
set key outside top center horizontal
set title "Modelled time over all-DRAM, NVM as {TIME}"
set yrange [1:*]
plot {bars(data, 2, known)}
unset key
set title "NVM write-backs, % of unmanaged (cut off at 200)"
set yrange [0:200]
{"plot " + left if left else ""}
unset multiplot
"""


def plot(table, root, *pictures):
    """Draws the bars into each of these files; returns why not, if not."""
    rows = list(plot_rows(table))
    if not rows:
        return "no workload has its memory-mode cell"
    if not shutil.which("gnuplot"):
        return "gnuplot is not installed"
    data = root / DATA
    data.write_text("".join("\t".join(r) + "\n" for r in rows))
    known = {n for row in rows for n, v in enumerate(row, 1) if v != "?"}
    for picture in pictures:
        subprocess.run(["gnuplot", "-"], text=True, check=True, timeout=60,
                       input=plot_script(data, picture, known))
    return None


def write_summary(root, table, oracles, four, goals):
    """All of it, for programs."""
    (root / SUMMARY).write_text(json.dumps(
        {"rows": {c.name: f for c, f in table.items()},
         "four": {row: {"guests": times, "mean": mean}
                  for row, (times, mean) in four.items()},
         "optima": {c.name: s for c, s in oracles.items()},
         "goals": [g._asdict() for g in goals]}, indent=1) + "\n")
