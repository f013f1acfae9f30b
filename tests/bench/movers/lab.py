# SPDX-License-Identifier: GPL-2.0-or-later
"""The scenario of a cell, and its run."""

import json
import pathlib
import re

from cells import lab
from cells.runner import Lab

from . import results
from .cells import FORMS, UNMANAGED

HERE = pathlib.Path(__file__).parent

MEMORY, DRAM = 256, 26      # MiB of guest RAM, and of these DRAM: a tenth

# Node 0 is the server's own: its kernel and QEMU.  So what is counted in
# nodes 1 and 2 is the guest's RAM alone, with all that anybody does to it.
SERVER = """
[server]
params = "transparent_hugepage=@thp@"

[[server.node]]
memory = 768
cpus = 1

[[server.node]]
memory = 128

[[server.node]]
memory = 384
latency = 300

[guest.vm]
image = "@image@"
memory = @memory@
machine = "q35,memory-backend=ram0"
params = "@params@"
options = \"\"\"
-no-shutdown
@trace@
@ram@
-object hybridmem,id=hm0,memdev=ram0,mover=@mover@,enabled=off,@engine@
\"\"\"
"""

CONTAINER = """\
-object memory-backend-container,id=ram0,size=@memory@M
-object memory-backend-devmem,id=dram0,parent=ram0,tier=dram,offset=0,\
size=@dram@M,mem-path=memfd,host-nodes=1,policy=bind,prealloc=on
-object memory-backend-devmem,id=nvm0,parent=ram0,tier=nvm,offset=@dram@M,\
size=@nvm@M,mem-path=memfd,host-nodes=2,policy=bind,prealloc=on"""

ORDINARY = "-object memory-backend-ram,id=ram0,size=@memory@M"
NODES = "fast-nodes=1,slow-nodes=2,fast-size=@dram@M"

# An ordinary backend comes to where a container begins: with the engine off
# all of it is on the slow node, and another program moves its first part.
PLACE = """place() {
    lab_moved=$(numapages move "$(guest_pid vm)" "$(ram_at vm)" \\
                $((@dram@ << 20)) 1)
    note "$lab_moved"
    case $lab_moved in *" refused=0 "*) ;; *) die "$lab_moved" ;; esac
}
"""
NO_PLACE = "place() { :; }\n"

# When each plan was made, and each batch done, goes to QEMU's log.
TRACE = "-msg timestamp=on -trace hybridmem_plan -trace hybridmem_batch"
TRACED = re.compile(r"\d+@(\d+)\.(\d{6}):hybridmem_(plan|batch) \w+: (.*)")

# A move in the emulated server takes far longer than on hardware: with stops of
# at most a millisecond most of the remap mover's time would go to stopping.
NO_LIMITS = {"max-bandwidth": 0, "max-stall": 0, "max-stop": 10000}

# A run lasts seconds of the server's time where a user's lasts minutes, so all
# periods are a tenth of the defaults.  With longer ones it is luck how soon
# after a change of the hot set the next window begins.
TRAFFIC_ENGINE = {"policy": "write-heat", "interval": 100, "window": 25, "half-life": 500, **NO_LIMITS}

# No sampling but what a change of parameters makes, and no sweep.  The guest is
# small, so that this is little beside the moves.
SPEED_ENGINE = {"policy": "none", "interval": 3600000, "window": 1,
                **NO_LIMITS}
NO_SWEEP = {"reconcile-rate": 0}
SPEED_MEMORY, SPEED_DRAM = 128, 12
SPEED_BUFFER = 48           # MiB that the guest writes
SPEED_OPS = 12_000_000
SPEED_SECONDS = 1.5

REST_ENGINE = {"policy": "write-heat", **NO_LIMITS}
REST_SETTLE = 2_500_000
REST_INTERVAL = 4_900_000   # operations: an interval of a second

SETTLED_ENGINE = {"model": "cxl", **NO_LIMITS}


def fill(text, words):
    """What stands between two @; what is put in may have more of it."""
    while re.search("@[a-z]+@", text):
        text = re.sub("@([a-z]+)@", lambda m: str(words[m[1]]), text)
    return text


def engine_options(form, options):
    """Of -object hybridmem."""
    words = {**options, **(NO_SWEEP if form.mover == "numa" and
                           options is SPEED_ENGINE else {})}
    return ",".join([*([NODES] if not form.container else []),
                     *(f"{k}={v}" for k, v in words.items())])


def words_of(cell):
    """What the scenario has between two @."""
    form = FORMS[cell.form]
    words = {
        "name": cell.name, "memory": MEMORY, "dram": DRAM, "image": "steps",
        "thp": "always" if form.huge else "never", "mover": form.mover,
        "trace": "",
        "ram": CONTAINER if form.container else ORDINARY,
        "functions": (NO_PLACE if form.container else PLACE) +
        (HERE / "functions.sh").read_text(encoding="utf-8"),
    }
    words |= {"traffic": traffic, "speed": speed,
              "rest": rest, "settled": settled}[cell.part](cell, form)
    return words | {"nvm": words["memory"] - words["dram"]}


def traffic(cell, form):
    return {"image": "hotset", "enabled": str(cell.form != UNMANAGED).lower(),
            "params": "hm.warm_phase=2",
            "engine": engine_options(form, TRAFFIC_ENGINE)}


def speed(_cell, form):
    return {"params": f"hm.ask=1 hm.hot=0 hm.buffer={SPEED_BUFFER}",
            "memory": SPEED_MEMORY, "dram": SPEED_DRAM,
            "warm": SPEED_DRAM // 2 if form.huge else SPEED_DRAM << 8,
            "ops": SPEED_OPS, "seconds": SPEED_SECONDS,
            "trace": TRACE, "engine": engine_options(form, SPEED_ENGINE)}


def rest(_cell, form):
    return {"params": f"hm.ask=1 hm.spread={int(not form.huge)}",
            "settle": REST_SETTLE, "interval": REST_INTERVAL,
            "kinds": " ".join(f"{w}:{c}" for w, c in results.KINDS),
            "engine": engine_options(form, REST_ENGINE)}


def settled(_cell, form):
    return {"params": f"hm.ask=1 hm.spread={int(not form.huge)}",
            "settle": REST_SETTLE, "interval": REST_INTERVAL,
            "long": REST_INTERVAL * results.SETTLED_MS // 1000,
            "intervals": results.SETTLED_INTERVALS,
            "settledms": results.SETTLED_MS, "first": results.SETTLED,
            "kinds": " ".join(f"{p}:{c}" for p, c in results.SETTLED_KINDS),
            "engine": engine_options(form, SETTLED_ENGINE)}


def text_of(cell):
    """The cell's scenario file."""
    text = (HERE / f"{cell.part}.toml").read_text(encoding="utf-8")
    return fill(text + SERVER, words_of(cell))


def inputs_key(cell):
    """See runner.Lab."""
    return lab.inputs(text_of(cell),
                      "hotset" if cell.part == "traffic" else "steps")


def traced(log):
    """[[microseconds, "plan", moves] or [..., "batch", moves done]]"""
    found = []
    for match in TRACED.finditer(log):
        seconds, us, what, words = match.groups()
        moves = re.search(r"plans (\d+)" if what == "plan" else r"(\d+) done",
                          words)
        found.append([int(seconds + us), what, int(moves[1])])
    return found


def run_cell(cell, directory):
    """See runner.Lab.  Leaves RESULTS."""
    folder, found, facts = lab.run(cell.name, text_of(cell), directory)
    log = folder / "vm.log"
    found["trace"] = traced(log.read_text(errors="replace")) \
        if log.exists() else []
    (directory / results.RESULTS).write_text(json.dumps(found, indent=1) +
                                             "\n")
    return {"versions": facts["versions"], "images": facts["images"]}


LAB = Lab("bench-movers", results.FORMAT, inputs_key, run_cell, results.load)
