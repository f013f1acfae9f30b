# SPDX-License-Identifier: GPL-2.0-or-later
"""redis under a skewed load: YCSB's workload A, whole records, in place.

ops      operations, times `work` percent; half of them are updates
first    operations before them, in phase 1
records  of 1000 bytes, ten fields each
"""

from . import packages, program, programs

memory = 256
params = {"ops": 1200000, "first": 50000, "records": 30000, "seed": 1}

setup = """
redis-server --port 0 --unixsocket /tmp/redis --save '' --appendonly no \\
    --daemonize yes --loglevel warning --logfile /tmp/redis.log --dir /tmp
redis-load fill /tmp/redis $records
"""
warm = "redis-load run /tmp/redis $records $first $((seed + 1))"
run = "redis-load run /tmp/redis $records $((ops * work / 100)) $seed"
verify = "redis-load verify /tmp/redis $records"


def files():
    # redis-server is a link to it: the name that it is called by decides.
    binary = "usr/bin/redis-check-rdb"
    found = programs(packages("redis-tools", libraries=NEEDED), binary)
    found["usr/bin/redis-server"] = found.pop(binary)
    found["bin/redis-load"] = program("redis-load")
    return found


NEEDED = r"(lib(c6|gcc|stdc|jemalloc|lzf|ssl|systemd|cap|gcrypt|gpg-error|" \
         r"atomic|lua|lz4|lzma|zstd|hiredis)|lua-)\S*"
