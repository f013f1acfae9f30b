# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes in a hot set of scattered pages that is chosen anew now and then.

ops     writes (of `lines` cache lines each), times `work` percent
first   writes before them, in phase 1, with the first hot set
buffer  MiB
hot     pages of the hot set: 8 MiB
moves   how often the hot set is chosen anew
cold    of 100 writes, those that go anywhere in the buffer
"""

from . import program

memory = 256
params = {"ops": 40000000, "first": 2000000, "buffer": 176, "hot": 2048,
          "moves": 2, "cold": 1, "lines": 2, "seed": 1}

setup = "writer fill /tmp/buffer $buffer"
warm = "writer run /tmp/buffer $first $hot 0 $cold $lines $seed"
run = """
writer run /tmp/buffer $((ops * work / 100)) $hot $moves $cold $lines $seed
"""
verify = "writer verify /tmp/buffer"


def files():
    return {"bin/writer": program("writer")}
