# SPDX-License-Identifier: GPL-2.0-or-later
"""The scenario file of a cell."""

import pathlib
import re

from cells import lab

from . import results
from .cells import DAMON, ENGINE, LINUX, MODE, UNMANAGED, WORKLOADS

HERE = pathlib.Path(__file__).parent
EPOCH = 50_000_000      # instructions, of the optimum

# A run lasts seconds of the server's time where a user's lasts minutes, so all
# periods are shorter in proportion: `interval` of the workload stands for a
# second.  The same for each row.
NO_LIMITS = {"max-bandwidth": 0, "max-stall": 0, "max-stop": 10000}

# The part of the guest that NUMA balancing scans in an interval.  Its default
# is 256 MiB in a second, for a process of any size; so much of 4 GiB.
SCAN = 1 / 16

# DAMON's.  In damo's mem_tier.sh 200 MiB a second may move each way, and 0.5 %
# of DRAM is to be free for what comes: about as much, in a server with 40 GiB
# of it.  Here both are so that a run can fill DRAM twice or more.
DAMON_QUOTA = 1 / 200       # of the guest: regions that are tried in an interval
DAMON_FREE = 500            # basis points
DAMON_REGIONS = 1000        # at most, for each node

SERVER_OWN = 768            # MiB: kernel, programs, QEMU
NODES = """params = "transparent_hugepage=never"

[[server.node]]
memory = {}
cpus = 1
"""
DRAM_NODE = """
[[server.node]]
memory = 128
"""
NVM_NODE = """
[[server.node]]
memory = 384
latency = 300
"""
# To the kernel memory that is there at boot is of one tier, whatever is told
# of its latency; that of a DAX device is of a slower one.  384 MiB of it.
DAX_NODE = """
[[server.node]]
nvdimm = "nvm"
latency = 300
"""

# Our engine: node 0 is the server's own, so that what is counted in nodes 1
# and 2 is the guest's RAM alone, with all that anybody does to it.
CONTAINER = """\
-object memory-backend-container,id=ram0,size=@memory@M
-object memory-backend-devmem,id=dram0,parent=ram0,tier=dram,offset=0,\
size=@dram@M,mem-path=memfd,host-nodes=1,policy=bind,prealloc=on
-object memory-backend-devmem,id=nvm0,parent=ram0,tier=nvm,offset=@dram@M,\
size=@nvm@M,mem-path=memfd,host-nodes=2,policy=bind,prealloc=on
-object hybridmem,id=hm0,memdev=ram0,mover=remap,enabled=off,@options@"""
ENGINE_PARTS = {
    "functions": ("engine.sh",),
    "server": NODES.format(SERVER_OWN) + DRAM_NODE + NVM_NODE,
    "meter": 'ranges = { dram = "node1", nvm = "node2" }\n'
             'pages = @pages@\nepoch = @epoch@',
    "ram": CONTAINER,
}

# The kernel promotes to the node of the CPU, which the server uses as well.
# What is not the guest's must not make room for it: the initramfs as a ramfs is
# not demoted.
KEPT = "swiotlb=noforce rootfstype=ramfs"
LINUX_PARTS = {
    "functions": ("linux.sh",),
    "server": "nvdimm = { nvm = 512 }\n" +
    NODES.format(SERVER_OWN + 256).replace("never", f"never {KEPT}") +
    DAX_NODE,
    "meter": 'ranges = { dram = "node0", nvm = "nvm" }',
    "ram": "-object memory-backend-ram,id=ram0,size=@memory@M,prealloc=on",
}

# As with NUMA balancing; the guest comes from node 1.  DAMON's actions came
# with Linux 6.11.
DAMON_PARTS = {
    "functions": ("damon.sh",),
    "server": 'kernel = "6.11"\nnvdimm = { nvm = 512 }\n' +
    NODES.format(SERVER_OWN).replace("never", f"never {KEPT}") + DAX_NODE,
    "meter": 'ranges = { dram = "node0", nvm = "nvm" }',
    "ram": "-object memory-backend-ram,id=ram0,size=@memory@M,prealloc=on,"
           "host-nodes=1,policy=preferred",
}

# All of the guest is in NVM, and the meter has DRAM before it.
MODE_PARTS = {
    "functions": ("mode.sh",),
    "server": NODES.format(SERVER_OWN) + NVM_NODE,
    "meter": 'ranges = { nvm = "node1" }\nmemory_mode = "nvm:@dram@M"',
    "ram": "-object memory-backend-ram,id=ram0,size=@memory@M,"
           "host-nodes=1,policy=bind,prealloc=on",
}


def parts(cell):
    """Of the scenario."""
    return {LINUX: LINUX_PARTS, DAMON: DAMON_PARTS,
            MODE: MODE_PARTS}.get(cell.row, ENGINE_PARTS)


def engine_options(row, interval):
    """Of -object hybridmem."""
    options = {"interval": interval, "window": interval // 4,
               "access-window": interval // 4, "half-life": 5 * interval,
               "cmq-lifetime": 5 * interval, "cmq-cork": 5 * interval,
               **NO_LIMITS}
    more = ENGINE.get(row, ("", ""))[1]
    return ",".join([*(f"{k}={v}" for k, v in options.items()),
                     *filter(None, [more])])


def dram_mib(memory, share):
    """The whole MiB nearest to the share."""
    return max(1, round(memory * share / 100))


def words_of(cell, workload=None):
    """What the scenario has between two @."""
    workload = workload or WORKLOADS[cell.workload]
    memory = workload.memory or lab.memory_of(workload.image)
    dram = dram_mib(memory, cell.share)
    unmanaged = cell.row == UNMANAGED
    found = dict(parts(cell))
    functions = "\n".join((HERE / name).read_text(encoding="utf-8")
                          for name in found["functions"])
    return {
        **found, "functions": functions, "name": cell.name,
        "image": workload.image, "params": workload.params,
        "interval": workload.interval, "period": workload.interval,
        "scan": round(SCAN * memory),
        "quota": round(DAMON_QUOTA * memory * results.MiB), "regions": DAMON_REGIONS,
        "free": DAMON_FREE,
        "memory": memory, "dram": dram, "nvm": memory - dram,
        "pages": str(unmanaged).lower(), "epoch": EPOCH if unmanaged else 0,
        "enabled": str(not unmanaged).lower(),
        "policy": ENGINE.get(cell.row, ("none", ""))[0],
        "options": engine_options(cell.row, workload.interval),
    }


def fill(text, words):
    """What stands between two @; what is put in may have more of it."""
    while re.search("@[a-z]+@", text):
        text = re.sub("@([a-z]+)@", lambda m: str(words[m[1]]), text)
    return text


def text_of(cell):
    """The cell's scenario file."""
    return fill((HERE / "cell.toml").read_text(encoding="utf-8"),
                words_of(cell))
