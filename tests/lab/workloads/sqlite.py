# SPDX-License-Identifier: GPL-2.0-or-later
"""sqlite on tmpfs: transactions as TPC-B has them, each by itself.

ops       transactions, times `work` percent
first     transactions before them, in phase 1
branches  of 100000 accounts (11 MiB) and 10 tellers each
journal   wal, memory or another of sqlite's
"""

from . import packages, program, programs

memory = 256
params = {"ops": 16000, "first": 1000, "branches": 8, "journal": "wal",
          "seed": 1}

TABLE = "id INTEGER PRIMARY KEY, branch INTEGER, balance INTEGER, filler TEXT"
SHELL = "sqlite3 -batch -bail /tmp/db"
JOURNAL = "echo \"PRAGMA journal_mode=$journal;\""


def rows(table, number):
    """SQL that fills a table, evenly over branches."""
    return f"""
CREATE TABLE {table} ({TABLE});
WITH RECURSIVE n(i) AS
    (SELECT 0 UNION ALL SELECT i + 1 FROM n LIMIT $branches * {number})
INSERT INTO {table}
    SELECT i + 1, i / {number} + 1, 0, hex(zeroblob(42)) FROM n;"""


setup = f"""
{SHELL} <<END
PRAGMA journal_mode=off;
{rows("branches", 1)}
{rows("tellers", 10)}
{rows("accounts", 100000)}
CREATE TABLE history (teller INTEGER, branch INTEGER, account INTEGER,
                      amount INTEGER, number INTEGER, filler TEXT);
END
"""
warm = f"""
{{ {JOURNAL}; tpcb $branches 0 $first $((seed + 1)); }} | {SHELL}
"""
run = f"""
ops=$((ops * work / 100))
{{ {JOURNAL}; tpcb $branches $first $ops $seed; }} | {SHELL}
echo ops=$ops
"""
# All sums are the same, and so is what is left of integrity_check's "ok".
verify = f"""
{SHELL} >/tmp/sums <<END
PRAGMA integrity_check;
SELECT (SELECT sum(balance) FROM accounts) = sum(amount) AND
       (SELECT sum(balance) FROM tellers) = sum(amount) AND
       (SELECT sum(balance) FROM branches) = sum(amount) AND
       count(*) = $first + $ops * $work / 100 FROM history;
.sha3sum
END
cat /tmp/sums >&2
[ "$(head -n 2 /tmp/sums | tr '\\n' ' ')" = "ok 1 " ]
echo checksum=$(tail -n 1 /tmp/sums | cut -c 1-16)
"""


def files():
    found = programs(packages("sqlite3", libraries=NEEDED), "usr/bin/sqlite3")
    found["bin/tpcb"] = program("tpcb")
    return found


NEEDED = r"lib(c6|gcc-s1|sqlite3-0|readline8|tinfo6)(t64)?|zlib1g|" \
         r"readline-common"
