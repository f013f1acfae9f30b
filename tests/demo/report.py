# SPDX-License-Identifier: GPL-2.0-or-later
"""What the two runs of the demo come to: figures, table, picture."""

import json
import subprocess

import guest

PICTURE = "nvm-dirty.png"
SUMMARY = "summary.json"
DATA = "nvm-dirty.tsv"

HALVES = ("half 1", "half 2", "settled")
SETTLED = 0.6           # of a half has passed: what is measured from here on
GOAL = 0.2              # managed / unmanaged


def settled_share(run, half):
    """NVM's share of the pages written in the last part of a half."""
    begin, end = run.marks[HALVES[half - 1]], run.marks[HALVES[half]]
    begin += SETTLED * (end - begin)
    inside = [s.stats for s in run.samples if begin <= s.t <= end]
    if len(inside) < 2 or inside[0].dirty == inside[-1].dirty:
        raise guest.GuestError(f"{run.name}: no page was seen written in the "
                               f"last part of half {half}")
    return (inside[-1].nvm_dirty - inside[0].nvm_dirty) / \
        (inside[-1].dirty - inside[0].dirty)


def figures(run):
    last = run.samples[-1].stats
    return {"nvm_share": [settled_share(run, half) for half in (1, 2)],
            "ops_per_second": [run.results[half] for half in (1, 2)],
            "moves": last.moves,
            "moved_pages": last.moved_pages,
            "stall_ms_total": last.stall_ns / 1e6,
            "stall_ms_max": last.stall_ns_max / 1e6,
            "windows": last.windows,
            "boot_seconds": run.marks["fill"] - run.vm.started,
            "checksum": run.checksum}


def summarize(runs, accel, parameters):
    each = {name: figures(run) for name, run in runs.items()}
    return {"nvm_share": {n: f.pop("nvm_share") for n, f in each.items()},
            "accel": accel, "parameters": parameters, "runs": each}


def table(summary):
    names = list(summary["runs"])
    shares = summary["nvm_share"]
    rows = [("", *names)]

    def row(title, form, value):
        rows.append((title, *(form.format(value(n)) for n in names)))

    for half, title in enumerate(("first", "second")):
        row(f"written pages in NVM, {title} half settled", "{:.1%}",
            lambda n: shares[n][half])
    for half, title in enumerate(("first", "second")):
        row(f"guest operations per busy second, {title} half", "{:,}",
            lambda n: summary["runs"][n]["ops_per_second"][half])
    for title, form, key in (("pages moved", "{:,}", "moved_pages"),
                             ("stall, total", "{:.1f} ms", "stall_ms_total"),
                             ("stall, longest", "{:.2f} ms", "stall_ms_max")):
        row(title, form, lambda n: summary["runs"][n][key])
    return "\n" + "\n".join(f"  {title:46}" +
                            "".join(f"{cell:>14}" for cell in cells)
                            for title, *cells in rows) + "\n"


def judge(summary):
    """Raises unless managed is at most a fifth of unmanaged in both halves."""
    shares = summary["nvm_share"]
    for half, title in enumerate(("first", "second")):
        managed, unmanaged = (shares[n][half]
                              for n in ("managed", "unmanaged"))
        if managed > GOAL * unmanaged:
            raise guest.GuestError(
                f"in the {title} half {managed:.1%} of the written pages lie "
                f"in NVM when managed, more than a fifth of the "
                f"{unmanaged:.1%} when unmanaged")


def series(run):
    """(seconds since the first hot set began, pages per window in NVM)."""
    origin = run.marks["half 1"]
    previous = run.samples[0].stats
    for t, now in run.samples[1:]:
        windows = now.windows - previous.windows
        if windows:
            yield t - origin, (now.nvm_dirty - previous.nvm_dirty) / windows
            previous = now


def plot_script(directory, runs):
    moved = [run.marks["half 2"] - run.marks["half 1"]
             for run in runs.values()]
    end = max(run.marks["settled"] - run.marks["half 1"]
              for run in runs.values())
    move = sum(moved) / len(moved)
    return f"""
set terminal pngcairo size 1100,600 font "sans,13" background "white"
set output "{directory / PICTURE}"
set title "Pages that the guest writes and that lie in NVM" font ",16"
set xlabel "seconds since the guest began to write its first hot set"
set ylabel "pages in NVM written per sampling window"
set xrange [0:{end:.2f}]
set yrange [0:{yrange(runs):.0f}]
set grid back linecolor "#dddddd"
set border 3
set tics nomirror out
set key top center horizontal outside
set arrow from {move:.2f}, graph 0 to {move:.2f}, graph 1 nohead \\
    dashtype 2 linewidth 2 linecolor "#666666"
set label "the hot set moves" at {move:.2f}, graph 0.96 offset 1,0 \\
    textcolor "#666666"
plot "{directory / DATA}" index 0 with linespoints linewidth 2 pointtype 7 \\
    pointsize 0.6 linecolor "#c04020" title "unmanaged (policy none)", \\
    "" index 1 with linespoints linewidth 2 pointtype 5 \\
    pointsize 0.6 linecolor "#2060b0" title "managed (policy write-heat)"
"""


def yrange(runs):
    """A little above the highest point; the window in which the guest filled
    its buffer, before the first hot set, is cut off."""
    return 1.25 * max((y for run in runs.values() for t, y in series(run)
                       if t >= 1), default=1) or 1


def write(directory, summary, runs):
    (directory / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n")
    blocks = ("\n".join(f"{t:.3f}\t{y:.1f}" for t, y in series(runs[name]))
              for name in ("unmanaged", "managed"))
    (directory / DATA).write_text("# seconds\tpages\n" +
                                  "\n\n\n".join(blocks) + "\n")
    subprocess.run(["gnuplot", "-"], input=plot_script(directory, runs),
                   text=True, check=True, timeout=60)
