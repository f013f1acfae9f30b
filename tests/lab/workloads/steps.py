# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes in a hot set that stays, in steps that a script begins one by one.

Without `ask` it does one run of `ops` operations, as other workloads do.  With
it there is no phase 2, and further lines on the console begin steps, each of
them a phase of the meter: see src/steps.c.

ops     writes (of `lines` cache lines each), times `work` percent
buffer  MiB
hot     pages of the hot set: 8 MiB; 0: writes go anywhere
spread  0: they lie side by side
cold    of 100 writes of the one run, those that go anywhere in the buffer
"""

from . import program

memory = 256
params = {"ops": 5000000, "buffer": 176, "hot": 2048, "spread": 1, "cold": 1,
          "lines": 2, "ask": 0, "seed": 1}

setup = "writer fill /tmp/buffer $buffer"
run = """
if [ $ask = 0 ]; then
    writer run /tmp/buffer $((ops * work / 100)) $hot 0 $cold $lines $seed
else
    mark 0
    steps /tmp/buffer $hot $spread $lines $seed
fi
"""
verify = "writer verify /tmp/buffer"


def files():
    return {"bin/writer": program("writer"), "bin/steps": program("steps")}
