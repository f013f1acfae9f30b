# SPDX-License-Identifier: GPL-2.0-or-later
"""The unmanaged runs through the replayer: what each policy would have made of
the very same accesses.

Pages of the meter are numbered from the start of a NUMA node, the replayer's
from the start of the guest.  So those of each node are numbered by their order;
what lies there besides the guest, if any, takes the last frame.
"""

import json
import subprocess

from cells import lab
from cells.document import Block, markdown
from cells.files import ResultError

from . import results, scenarios
from .cells import FEW_FAULTS, FOUR, UNMANAGED, WORKLOADS

BLOCK = Block("bench-peers-replays")
PROGRAM = "hw/hybridmem/hybridmem-replay"
NUMBERED = "pages.replay.tsv"
GUEST = ("dram", "nvm")                     # ranges of guest RAM
EPOCH_MS = scenarios.EPOCH // 1_000_000     # an instruction is a ns there
FAULTS = 20000          # access-faults of the engine, by default
FEWER = {"benefit": FEW_FAULTS}             # as in its row
CMQ = f"cmq,cmq-lifetime={5 * EPOCH_MS},cmq-cork={5 * EPOCH_MS}"
# What the table calls them.
POLICIES = {
    "write-heat": "write-heat",
    "benefit": "benefit,read-cost=1,write-cost=0",
    "benefit-wear": "benefit,read-cost=0,write-cost=1",
    "temperature": "temperature",
    "cmq": CMQ,
}
TIMEOUT = 900

NOTES = f"""\
In a cell: lines read from NVM / lines written to it, by the guest and by moves,
in percent of unmanaged; moves. *Optimum*: the bound on those written. *Written*,
*only read*: lines filled of a page in an interval in which it is, unmanaged.
Intervals of {EPOCH_MS} ms, all of which is logged; `access-faults={FAULTS}`
(`benefit`: {FEWER["benefit"]})."""


def pages_of(path):
    """{range: {page: number}}."""
    found = {}
    with path.open() as file:
        for line in file:
            if line[0] != "#":
                field = line.split("\t", 4)
                found.setdefault(field[2], set()).add(int(field[3]))
    return {r: {p: n for n, p in enumerate(sorted(pages))}
            for r, pages in found.items()}


def renumber(source, target, frames):
    """`frames`: of each range; others are left out."""
    numbers = pages_of(source)
    with source.open() as file, target.open("w") as out:
        for line in file:
            field = line.split("\t", 4)
            if line[0] != "#":
                if field[2] not in frames:
                    continue
                number = numbers[field[2]][int(field[3])]
                field[3] = str(min(number, frames[field[2]] - 1))
            out.write("\t".join(field))


def lines_of(path):
    """Lines filled of a page in an epoch, on average: where it was stored to,
    and where it was only loaded from."""
    filled = {"written": [], "read": []}
    with path.open() as file:
        for line in file:
            field = line.split("\t")
            if field[0] == results.PHASE and field[2] in GUEST:
                loads, stores, fills = map(int, field[4:7])
                if loads or stores:
                    filled["written" if stores else "read"].append(fills)
    return [f"{sum(f) / len(f):.1f}" if f else "–" for f in filled.values()]


def replay(program, table, ranges, policies, faults, *options):
    """What the replayer says, from its --json; policies: of POLICIES."""
    done = subprocess.run(
        [program, "--json", "--meter", table, "--phase", results.PHASE,
         "--ranges", ",".join(map(str, ranges)), "--interval", str(EPOCH_MS),
         "--access-faults", str(faults), *options,
         *(w for p in policies for w in ("--policy", POLICIES[p]))],
        capture_output=True, text=True, timeout=TIMEOUT, check=False)
    if done.returncode:
        raise ResultError(f"{program}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def replayed(result, program):
    """The same, of all, each with its access-faults."""
    table = result.directory / NUMBERED
    sizes = {"dram": result.dram, "nvm": result.memory - result.dram}
    try:
        renumber(result.directory / results.PAGES, table,
                 {r: size // results.PAGE for r, size in sizes.items()})
        said = replay(program, table, sizes.values(), POLICIES, FAULTS)
        for name, faults in FEWER.items():
            one = replay(program, table, sizes.values(), [name], faults,
                         "--no-optimum")
            said["policies"][list(POLICIES).index(name)] = one["policies"][0]
    finally:
        table.unlink(missing_ok=True)
    return said


def share(part, whole):
    return f"{100 * part / whole:.1f}" if whole else "–"


def words(said, policy):
    """Of one policy."""
    base = said["unmanaged"]
    return " / ".join(share(sum(policy[k] for k in kinds), base[kinds[0]])
                      for kinds in (("read", "own-read"), ("written",))) + \
        f"; {policy['moves']:,}"


def line_of(result, said, lines):
    """A line of the table; `lines`: of lines_of()."""
    bound = said.get("optimum", {}).get("bound")
    return [result.cell.workload, f"{result.cell.share} %",
            *(words(said, p) for p in said["policies"]),
            "–" if bound is None else
            share(bound, said["unmanaged"]["written"]), *lines]


def table(found):
    """Markdown: of all unmanaged cells that are there."""
    program = lab.rootfs.object_folder() / PROGRAM
    bases = [r for c, r in found.items() if c.row == UNMANAGED and
             c.workload != FOUR]
    bases.sort(key=lambda r: (list(WORKLOADS).index(r.cell.workload),
                              r.cell.share))
    lines = [line_of(r, replayed(r, program),
                     lines_of(r.directory / results.PAGES)) for r in bases]
    return "\n".join([*markdown(["trace", "DRAM", *POLICIES, "optimum",
                                 "written", "only read"], lines, left=2), "",
                      NOTES]) + "\n"
