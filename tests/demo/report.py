# SPDX-License-Identifier: GPL-2.0-or-later
"""What the two runs of the demo come to: figures, table, picture."""

import json
import subprocess

import guest

PICTURE = "demo.png"
SUMMARY = "summary.json"
DATA = "demo.tsv"

HALVES = ("half 1", "half 2", "settled")
KINDS = {"written": guest.Stats.written, "only read": guest.Stats.only_read}
SETTLED = 0.6           # of a half has passed: what is measured from here on
GOAL = 0.2              # managed / unmanaged
PAGE = 4096


def settled_share(run, kind, half):
    """NVM's share of the pages of that kind in the last part of a half."""
    begin, end = run.marks[HALVES[half - 1]], run.marks[HALVES[half]]
    begin += SETTLED * (end - begin)
    inside = [KINDS[kind](s.stats) for s in run.samples
              if begin <= s.t <= end]
    if len(inside) < 2 or inside[0].pages == inside[-1].pages:
        raise guest.GuestError(f"{run.name}: no page was seen {kind} in the "
                               f"last part of half {half}")
    seen = inside[-1].since(inside[0])
    return seen.nvm_pages / seen.pages


def figures(run):
    last = run.samples[-1].stats
    return {"nvm_share": {kind: [settled_share(run, kind, half)
                                 for half in (1, 2)] for kind in KINDS},
            "granule": last.granule,
            "ops_per_second": [run.results[half] for half in (1, 2)],
            "moves": last.moves,
            "moved_pages": last.moved_pages,
            "stall_ms_total": last.stall_ns / 1e6,
            "stall_ms_max": last.stall_ns_max / 1e6,
            "windows": last.windows,
            "access_windows": last.access_windows,
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

    for kind in KINDS:
        for half, title in enumerate(("first", "second")):
            row(f"pages {kind}, in NVM, {title} half settled", "{:.1%}",
                lambda n: shares[n][kind][half])
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
    """Raises unless managed is at most a fifth of unmanaged, of each kind and
    in both halves."""
    for kind in judged(summary):
        for half, title in enumerate(("first", "second")):
            managed, unmanaged = (summary["nvm_share"][n][kind][half]
                                  for n in ("managed", "unmanaged"))
            if managed > GOAL * unmanaged:
                raise guest.GuestError(
                    f"in the {title} half {managed:.1%} of the pages {kind} "
                    f"lie in NVM when managed, more than a fifth of the "
                    f"{unmanaged:.1%} when unmanaged")


def judged(summary):
    """Reads, only if they are seen page by page."""
    fine = all(run["granule"] == PAGE for run in summary["runs"].values())
    return KINDS if fine else ("written",)


def what_is_seen(summary):
    text = "Written: pages in the dirty log. Only read: pages whose " \
        "mapping came back after the\nengine had dropped it, and that the " \
        "log does not have; an estimate. Neither tells how often.\n"
    if "only read" not in judged(summary):
        text += "This kernel maps the neighbours of a page that is read, " \
            "too: they count, and reads are\nnot judged.\n"
    return text


def series(run, kind):
    """(seconds since the first hot set began, pages per window in NVM)."""
    origin = run.marks["half 1"]
    previous = KINDS[kind](run.samples[0].stats)
    for t, stats in run.samples[1:]:
        seen = KINDS[kind](stats).since(previous)
        if seen.windows:
            yield t - origin, seen.nvm_pages / seen.windows
            previous = KINDS[kind](stats)


PANELS = {"written": "that the guest writes",
          "only read": "that it only reads (estimated)"}


def panel(directory, runs, number, kind):
    moved = [run.marks["half 2"] - run.marks["half 1"]
             for run in runs.values()]
    move = sum(moved) / len(moved)
    index = [number * len(runs) + i for i in range(len(runs))]
    return f"""
set title "Pages in NVM {PANELS[kind]}" font ",14"
set yrange [0:{yrange(runs, kind):.0f}]
set arrow 1 from {move:.2f}, graph 0 to {move:.2f}, graph 1 nohead \\
    dashtype 2 linewidth 2 linecolor "#666666"
set label 1 "the hot set moves" at {move:.2f}, graph 0.95 offset 1,0 \\
    textcolor "#666666"
plot "{directory / DATA}" index {index[0]} with linespoints linewidth 2 \\
    pointtype 7 pointsize 0.6 linecolor "#c04020" title "unmanaged", \\
    "" index {index[1]} with linespoints linewidth 2 \\
    pointtype 5 pointsize 0.6 linecolor "#2060b0" \\
    title "managed (default policy)"
"""


def plot_script(directory, runs):
    end = max(run.marks["settled"] - run.marks["half 1"]
              for run in runs.values())
    panels = [panel(directory, runs, number, kind)
              for number, kind in enumerate(KINDS)]
    return f"""
set terminal pngcairo size 1100,760 font "sans,12" background "white"
set output "{directory / PICTURE}"
set multiplot layout {len(KINDS)},1
set ylabel "pages in a sampling window"
set xrange [0:{end:.2f}]
set grid back linecolor "#dddddd"
set border 3
set tics nomirror out
set key outside top center horizontal
{panels[0]}
unset key
set xlabel "seconds since the guest began with its first hot set"
{panels[1]}
"""


def yrange(runs, kind):
    """Well above the highest point; the window in which the guest filled its
    buffer, before the first hot set, is cut off."""
    return 1.25 * max((y for run in runs.values()
                       for t, y in series(run, kind) if t >= 1),
                      default=1) or 1


def write(directory, summary, runs):
    (directory / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n")
    blocks = ("\n".join(f"{t:.3f}\t{y:.1f}"
                        for t, y in series(runs[name], kind))
              for kind in KINDS for name in ("unmanaged", "managed"))
    (directory / DATA).write_text("# seconds\tpages\n" +
                                  "\n\n\n".join(blocks) + "\n")
    subprocess.run(["gnuplot", "-"], input=plot_script(directory, runs),
                   text=True, check=True, timeout=60)
