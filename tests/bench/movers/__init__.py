# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of bench-movers that are its own; others are in ../cells.

    cells     what is run
    lab       the scenario of a cell (traffic.toml, speed.toml, rest.toml, and
              functions.sh for all of them)
    results   reads what a run left
    figures   from results to rows
    goals     the goals that they are held against
    report    tables, summary.json
    fakelab   results without a lab, for tests
"""
