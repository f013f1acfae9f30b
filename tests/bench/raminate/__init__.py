# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of bench-raminate that are its own; others are in ../cells.

    cells     what is run
    results   reads what a run left
    oracle    what a policy that knew the future would reach (oracle.c)
    energy    RAMinate's formula
    figures   from results to rows and goals
    report    tables, plot, summary.json
    compare   two sets of results
    lab       the two functions that know the lab
    fakelab   the same without a lab, for tests
"""
