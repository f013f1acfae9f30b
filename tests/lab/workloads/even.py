# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes everywhere evenly: random cache lines of five eighths of RAM.

ops     writes (of `lines` cache lines each), times `work` percent
first   writes before them, in phase 1
buffer  MiB
"""

from . import program

memory = 256
params = {"ops": 8000000, "first": 800000, "buffer": 160, "lines": 1,
          "seed": 1}

setup = "writer fill /tmp/buffer $buffer"
warm = "writer run /tmp/buffer $first 0 0 0 $lines $((seed + 1))"
run = "writer run /tmp/buffer $((ops * work / 100)) 0 0 0 $lines $seed"
verify = "writer verify /tmp/buffer"


def files():
    return {"bin/writer": program("writer")}
