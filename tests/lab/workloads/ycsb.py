# SPDX-License-Identifier: GPL-2.0-or-later
"""redis under YCSB's workloads A and B: whole records, in place, Zipfian.

More records than in `redis`, of which DRAM holds the most wanted.

ops      operations, times `work` percent
reads    of 100 of them; others are updates.  50: workload A, 95: workload B
first    operations before them, in phase 1
records  of 1000 bytes, ten fields each
"""

from . import program, redis

memory = 256
params = {"ops": 500000, "reads": 50, "first": 50000, "records": 100000,
          "seed": 1}

setup = redis.setup
warm = "ycsb-load /tmp/redis $records $first $reads $((seed + 1))"
run = "ycsb-load /tmp/redis $records $((ops * work / 100)) $reads $seed"
verify = redis.verify


def files():
    return {**redis.files(), "bin/ycsb-load": program("ycsb-load")}
