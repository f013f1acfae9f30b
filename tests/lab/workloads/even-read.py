# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads everywhere evenly: random cache lines of five eighths of RAM.

ops     reads (of `lines` cache lines each), times `work` percent
first   reads before them, in phase 1
buffer  MiB
"""

from . import program

memory = 256
params = {"ops": 32000000, "first": 2000000, "buffer": 160, "lines": 1,
          "seed": 1}

setup = "writer fill /tmp/buffer $buffer"
warm = "reader /tmp/buffer $first $lines $((seed + 1))"
run = "reader /tmp/buffer $((ops * work / 100)) $lines $seed"
verify = "writer verify /tmp/buffer"


def files():
    return {"bin/writer": program("writer"), "bin/reader": program("reader")}
