# SPDX-License-Identifier: GPL-2.0-or-later
"""The two functions that know the lab; runner.py says what they owe."""

import json
import pathlib
import re

from cells import lab
from cells.runner import Lab

from . import results
from .results import ENGINE, METER, PAGE, PAGES

TEMPLATE = pathlib.Path(__file__).with_name("cell.toml")
MiB = 1 << 20
EPOCH = 50_000_000     # instructions

# A run lasts seconds of the server's time where RAMinate's lasted minutes, so
# all periods are shorter in proportion: RAMinate's window of a second is
# INTERVAL here.  In RAMinate the log was never off.
INTERVAL = 50          # ms
ENGINE_OPTIONS = {
    "interval": INTERVAL,
    "window": INTERVAL,
    "half-life": 5 * INTERVAL,
    "cmq-lifetime": 5 * INTERVAL,
    "cmq-cork": 5 * INTERVAL,
    # A move in the emulated server takes far longer than on hardware, beside
    # the guest's work; what is measured here is traffic.
    "max-bandwidth": 0,
    "max-stall": 0,
    "max-stop": 10000,
}


def dram_mib(memory, share):
    """The whole MiB nearest to the share."""
    return max(1, round(memory * share / 100))


def text_of(cell):
    """The cell's scenario file."""
    memory = lab.memory_of(cell.workload)
    dram = dram_mib(memory, cell.share)
    words = {
        "name": cell.name, "workload": cell.workload, "memory": memory,
        "dram": dram, "nvm": memory - dram,
        "epoch": 0 if cell.managed else EPOCH,
        "pages": "false" if cell.managed else "true",
        "enabled": "true" if cell.managed else "false",
        "policy": cell.policy if cell.managed else "none",
        "engine": ",".join(f"{k}={v}" for k, v in ENGINE_OPTIONS.items()),
    }
    return re.sub("@([a-z]+)@", lambda m: str(words[m[1]]),
                  TEMPLATE.read_text(encoding="utf-8"))


def inputs_key(cell):
    """See runner.Lab."""
    return lab.inputs(text_of(cell), cell.workload)


def run_cell(cell, directory):
    """See runner.Lab.  Leaves METER, ENGINE and, for an unmanaged cell, PAGES;
    facts are "dram-pages" and "nvm-pages" of guest RAM, "seconds" of the phase
    by the guest's clock if that is known, and what tells what was run.  The
    engine is off until the phase begins, so that all cells of a workload and
    share start from the same placement."""
    folder, found, facts = lab.run(cell.name, text_of(cell), directory)
    (folder / "meter-0.json").rename(directory / METER)
    if not cell.managed:
        (folder / "pages-0").rename(directory / PAGES)
    engine = found["engine"]
    (directory / ENGINE).write_text(json.dumps(engine, indent=1) + "\n")
    sizes = {t["tier"]: t["size"] // PAGE for t in engine["tiers"]}
    return {"dram-pages": sizes["dram"], "nvm-pages": sizes["nvm"],
            "done": found["done"], "versions": facts["versions"],
            "images": facts["images"]}


LAB = Lab("bench-raminate", results.FORMAT, inputs_key, run_cell,
          results.load)
