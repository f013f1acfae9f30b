# SPDX-License-Identifier: GPL-2.0-or-later
"""A power-law graph (R-MAT) in memory: PageRank, then breadth-first searches.

1M vertices, numbered at random, and 12M undirected edges: 124 MiB.

kernel      pagerank, bfs or both
iterations  of PageRank, times `work` percent
sources     searches, each from another vertex, times `work` percent
first       iterations and searches before them, in phase 1
scale       log2 of the number of vertices
degree      edges, for each vertex; a vertex has twice as many neighbours
"""

from . import program

memory = 256
params = {"kernel": "both", "iterations": 10, "sources": 5, "first": 1,
          "scale": 20, "degree": 12, "seed": 1}

setup = "graph make /tmp/graph $scale $degree $seed"
warm = "graph run /tmp/graph $kernel $first $first $((seed + 1))"
run = """
graph run /tmp/graph $kernel $(((iterations * work + 99) / 100)) \\
    $(((sources * work + 99) / 100)) $seed
"""
verify = "graph verify /tmp/graph"


def files():
    return {"bin/graph": program("graph")}
