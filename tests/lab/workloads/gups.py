# SPDX-License-Identifier: GPL-2.0-or-later
"""Random updates (GUPS), most of them in a hot set of scattered pages.

An update reads 8 bytes and writes them back.

ops     updates, times `work` percent
first   updates before them, in phase 1, with the first hot set
buffer  MiB
hot     pages of the hot set: 20 MiB, 8 % of RAM
move    0: the hot set stays; N: it is chosen anew after each N-th of the run
cold    of 100 updates, those that go anywhere in the buffer
"""

from . import program

memory = 256
params = {"ops": 80000000, "first": 4000000, "buffer": 176, "hot": 5120,
          "move": 0, "cold": 10, "seed": 1}

setup = "gups fill /tmp/table $buffer"
warm = "gups run /tmp/table $first $hot 1 $cold $seed"
run = "gups run /tmp/table $((ops * work / 100)) $hot $move $cold $seed"
verify = "gups verify /tmp/table"


def files():
    return {"bin/gups": program("gups")}
