# SPDX-License-Identifier: GPL-2.0-or-later
"""What the benches of cells have in common: each row of their tables is a run
of its own in the lab, with its result in a folder.

    program   the command line: runs, lists, shows
    runner    runs what is missing or has changed, several at a time
    lab       runs a scenario, and knows what its result depends on
    files     reads what a run left
    document  tables in Markdown, and the document that they go to
    goals     whether a goal is met
"""
