# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of bench-peers that are its own; others are in ../cells.

    cells     what is run, and the rows that are made of it
    results   reads what a run left
    optimum   what a policy that knew the future would reach
    figures   from results to rows of the table
    goals     whether they are met
    report    tables, plot, summary.json
    scenarios the scenario file of a cell
    four      that of one with several guests
    lab       a cell's run
    fakelab   the same without a lab, for tests
"""
