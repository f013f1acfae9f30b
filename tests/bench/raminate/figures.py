# SPDX-License-Identifier: GPL-2.0-or-later
"""From results to figures: rows, what the oracle says of them, and goals."""

from cells.goals import Goal

from . import cells as cells_
from . import energy
from .results import LINE, PAGE, PHASE

# Goals of the project, and below what an oracle's gain is no gain.
GONE = 0.85                 # of nvm write-backs, 10 % DRAM, compile and redis
EXTRA = 0.02                # more nvm write-backs, even writer
GAIN = 0.01                 # of the unmanaged write-backs


def share(part, whole):
    """part / whole; None of nothing."""
    return part / whole if whole else None


def traffic(result):
    """Bytes (read from, written to) memory by tier, as energy.py wants."""
    return {tier: (LINE * result.count("fills", tier),
                   LINE * result.count("writebacks", tier))
            for tier in ("dram", "nvm")}


def modelled_energy(result, base):
    """{E1/E0: joules, as a ratio to all-DRAM}.  All-DRAM has the traffic of
    the unmanaged run, which nobody's moves are part of."""
    dram, nvm = result.frames
    whole = energy.all_dram(traffic(base), (dram + nvm) * PAGE, base.seconds)
    return {str(ratio): share(energy.raminate(traffic(result), dram * PAGE,
                                              result.seconds, ratio), whole)
            for ratio in energy.RATIOS}


def of_guest_ram(result, count):
    """In both tiers; other ranges are the server's own memory."""
    return result.count(count, "dram") + result.count(count, "nvm")


def distance(written, unmanaged, best):
    """How far a policy is from the oracle: 0 is there, 1 is unmanaged.  None
    if there is next to nothing to gain."""
    if unmanaged - best < GAIN * unmanaged or unmanaged == best:
        return None
    return (written - best) / (unmanaged - best)


def row(result, base, oracle):
    """The figures of a cell; `base` is its unmanaged sibling, `oracle` what
    was said of that."""
    written = result.count("writebacks", "nvm")
    before = base.count("writebacks", "nvm")
    stores = result.count("stores", "nvm")
    counters = result.counters
    return {
        "workload": result.cell.workload,
        "dram-percent": result.cell.share,
        "policy": result.cell.policy,
        "nvm-stores": stores,
        "nvm-store-share": share(stores, of_guest_ram(result, "stores")),
        "nvm-writebacks": written,
        "nvm-writeback-share": share(written,
                                     of_guest_ram(result, "writebacks")),
        "left": share(written, before),
        "moves": counters["moves-done"],
        "own-nvm-lines": counters["nvm-written-bytes"] // LINE,
        "energy-to-all-dram": modelled_energy(result, base),
        "distance": {bound: distance(written, before, oracle[bound])
                     for bound in ("bound", "feasible", "fixed")},
        "instructions": result.meter[PHASE].get("instructions"),
        "wall-seconds": result.run.get("wall-seconds"),
    }


def rows(found, oracles):
    """Of all cells that are there with their unmanaged sibling and its
    oracle, in the order of cells.CELLS: {cell: figures}."""
    table = {}
    for cell in cells_.CELLS:
        base = cell.sibling(cells_.UNMANAGED)
        if cell in found and base in found and base in oracles:
            table[cell] = row(found[cell], found[base], oracles[base])
    return table


def goal_gone(table, workload):
    """85 % of the write-backs gone at 10 %, by write-heat."""
    text = f"{workload}, 10 % DRAM, write-heat: at least {GONE:.0%} of the " \
        "nvm write-backs gone"
    figures = table.get(cells_.Cell(workload, 10, "write-heat"))
    if not figures or figures["left"] is None:
        return Goal(text, None, "not run")
    gone = 1 - figures["left"]
    return Goal(text, gone >= GONE, f"{gone:.1%}")


def goal_better(table, workload, percent):
    """write-heat against cmq; where cmq moves nothing, neither may it."""
    text = f"{workload}, {percent} % DRAM: write-heat leaves no more nvm " \
        "write-backs than cmq, with fewer moves"
    cmq, heat = (table.get(cells_.Cell(workload, percent, policy))
                 for policy in ("cmq", "write-heat"))
    if not cmq or not heat:
        return Goal(text, None, "not run")
    fewer = heat["moves"] < cmq["moves"] or heat["moves"] == 0
    met = heat["nvm-writebacks"] <= cmq["nvm-writebacks"] and fewer
    return Goal(text, met, f"{heat['nvm-writebacks']:,} to "
                f"{cmq['nvm-writebacks']:,} write-backs, {heat['moves']:,} "
                f"to {cmq['moves']:,} moves")


def goal_even(table, percent, policy):
    """No harm to who writes everywhere."""
    text = f"even, {percent} % DRAM, {policy}: nvm write-backs, moves " \
        f"included, at most {EXTRA:.0%} above unmanaged"
    figures = table.get(cells_.Cell("even", percent, policy))
    if not figures or figures["left"] is None:
        return Goal(text, None, "not run")
    return Goal(text, figures["left"] <= 1 + EXTRA,
                f"{figures['left'] - 1:+.2%}")


def goals(table):
    """All goals of the first table."""
    found = [goal_gone(table, w) for w in ("compile", "redis")]
    found += [goal_better(table, w, s) for w in cells_.WORKLOADS
              for s in cells_.SHARES]
    found += [goal_even(table, s, p) for s in cells_.SHARES
              for p in cells_.POLICIES]
    return found
