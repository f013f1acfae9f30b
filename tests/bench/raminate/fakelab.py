# SPDX-License-Identifier: GPL-2.0-or-later
"""A lab without machines: results as they could be, in no time.

The trace of a workload is made from its name, policies are played with simple
rules, and the environment breaks what a test wants broken:

    FAKELAB_FAIL      name of a cell that raises
    FAKELAB_HANG      ... that waits for a program that SIGTERM does not end
    FAKELAB_CUT       ... whose meter.json is cut off
    FAKELAB_LOSE      ... whose pages.tsv lacks a row
    FAKELAB_INPUT     text of the input "scenario"
    FAKELAB_SECONDS   how long a cell takes
    FAKELAB_MORE      write-backs that every cell has more
"""

import json
import os
import random
import subprocess
import time

from cells.runner import Lab

from . import results

DRAM_PAGES = {1: 4, 10: 40}
PAGES = 400
EPOCHS = 12
LINES = 64


def inputs_key(_cell):
    """See runner.Lab."""
    return {"scenario": os.environ.get("FAKELAB_INPUT", "1"), "qemu": "abc"}


def hot(workload, epoch, page):
    """How many lines of a page are written back in an epoch."""
    if workload == "even":
        return 20
    place = page * 7919 % PAGES         # scattered
    if workload == "hotset":
        place = (place + epoch // 4 * 50) % PAGES
    return LINES if place < 36 else 2 if place < 120 else 0


def trace(workload):
    """{(epoch, page): lines}"""
    noise = random.Random(workload)
    return {(e, p): lines + noise.randrange(4) for e in range(EPOCHS)
            for p in range(PAGES) if (lines := hot(workload, e, p))}


def played(cell, lines):
    """(write-backs to dram, to nvm, moves): a policy that keeps what was
    written most in the last epoch, unless that gains too little."""
    dram = set(range(DRAM_PAGES[cell.share]))
    done = {True: 0, False: 0}
    moves = 0
    gain = {"cmq": 4, "write-heat": 8}.get(cell.policy)
    for e in range(EPOCHS):
        now = {p: lines.get((e, p), 0) for p in range(PAGES)}
        for page, n in now.items():
            done[page in dram] += n
        if gain is None:
            continue
        best = sorted(set(now) - dram, key=now.get, reverse=True)
        for new, old in zip(best, sorted(dram, key=now.get)):
            if now[new] > now[old] + gain:
                dram = dram - {old} | {new}
                moves += 1
    return done[True], done[False] + LINES * moves, moves


def counts(name, writebacks):
    """A range of the meter."""
    return {"range": name, "loads": 9 * writebacks, "stores": 3 * writebacks,
            "load-bytes": 72 * writebacks, "store-bytes": 24 * writebacks,
            "fills": 2 * writebacks, "writebacks": writebacks,
            "dirty-lines-left": 5}


def write_pages(path, cell, lines):
    """pages.tsv"""
    dram = DRAM_PAGES[cell.share]
    with path.open("w") as file:
        print(*results.PAGES_HEADER[:2], sep=" ", end="\t", file=file)
        print(*results.PAGES_HEADER[2:], sep="\t", file=file)
        for (epoch, page), n in sorted(lines.items()):
            where = ("dram", page) if page < dram else ("nvm", page - dram)
            print(results.PHASE, epoch, *where, n, n, n, n, sep="\t",
                  file=file)


def run_cell(cell, directory):
    """As lab.py's."""
    print(f"fake run of {cell.name}")
    begin = time.monotonic()
    time.sleep(float(os.environ.get("FAKELAB_SECONDS", "0")))
    if os.environ.get("FAKELAB_HANG") == cell.name:
        subprocess.run(["sh", "-c", "trap '' TERM; sleep 200"], check=False)
    if os.environ.get("FAKELAB_FAIL") == cell.name:
        raise RuntimeError("the server did not boot")
    lines = trace(cell.workload)
    dram, nvm, moves = played(cell, lines)
    dram += int(os.environ.get("FAKELAB_MORE", "0"))
    ranges = [counts("dram", dram), counts("nvm", nvm), counts("other", 7)]
    meter = json.dumps({"version": 1, "phases": [
        {"phase": 0, "instructions": 5, "ranges": [counts("other", 1)]},
        {"phase": int(results.PHASE), "instructions": 10 ** 9,
         "ranges": ranges}]})
    if os.environ.get("FAKELAB_CUT") == cell.name:
        meter = meter[:-20]
    (directory / results.METER).write_text(meter)
    (directory / results.ENGINE).write_text(json.dumps([{
        "id": "hm0", "counters": {"moves-done": moves, "stall-ns-total": 7,
                                  "nvm-written-bytes": 4096 * moves}}]))
    if not cell.managed:
        if os.environ.get("FAKELAB_LOSE") == cell.name:
            lines.popitem()
        write_pages(directory / results.PAGES, cell, lines)
    return {"dram-pages": DRAM_PAGES[cell.share],
            "nvm-pages": PAGES - DRAM_PAGES[cell.share],
            "began": begin, "ended": time.monotonic()}


LAB = Lab("bench-raminate", results.FORMAT, inputs_key, run_cell,
          results.load)
