# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of a bench of cells."""

import argparse
import fnmatch
import importlib
import pathlib
import subprocess
import sys

from . import files, runner

REPO = pathlib.Path(__file__).resolve().parents[3]
DOCUMENT = REPO / "docs/benchmarks.md"


def say(text):
    print(text, flush=True)


def choose(cells, patterns):
    """Those whose names match any of the patterns; all of them if there is
    no pattern."""
    return [c for c in cells if not patterns or
            any(fnmatch.fnmatchcase(c.name, p) for p in patterns)]


class Bench:
    """A program; `show` is to be given, other methods may be."""

    def __init__(self, package, about, cells):
        """`package` has modules that each know a lab; `about` is for
        --help."""
        self.package, self.about, self.cells = package, about, cells
        self.name = f"bench-{package}"
        self.options = self.lab = self.root = None

    # What benches differ in

    def add_options(self, add):
        """More of them, by argparse's add_argument."""

    def instead(self, chosen):
        """What else an option may ask for; returns the exit status, or None
        to go on."""

    def show(self, without=()):
        """Tables, goals and summary of what is there; returns what is wrong
        with it."""
        raise NotImplementedError

    # What they have in common

    def found(self, without=()):
        """See runner.load_all()."""
        return runner.load_all(self.lab, [c for c in self.cells
                                          if c not in without], self.root)

    def tell_old(self, found):
        """Which results would run again, for whoever reads the table."""
        for cell in found:
            why = runner.changed(self.lab, cell, self.root)
            if why:
                say(f"not up to date: {cell.name} ({why})")

    def list_cells(self, chosen):
        """What is to be done, without doing it."""
        for cell in chosen:
            why = runner.changed(self.lab, cell, self.root)
            say(f"{cell.name:22} {why or 'up to date'}")
        return 0

    def show_only(self):
        """Runs nothing."""
        self.root.mkdir(parents=True, exist_ok=True)
        wrong = self.show()
        for word in wrong:
            say(word)
        return 1 if wrong else 0

    def run(self, chosen):
        """Runs cells, and shows all that are there; returns the exit status.
        The table leaves out a cell that failed: what it shows was made by the
        present inputs."""
        options = self.options
        bench = runner.Runner(self.lab, self.root, options.jobs,
                              options.timeout, say)
        with runner.lock(self.lab, self.root):
            failures = bench.run(chosen, options.force)
            wrong = self.show(without=failures)
        for cell, why in failures.items():
            say(f"FAILED {cell.name}: {why}")
        for word in wrong:
            say(word)
        return 1 if failures or wrong else 0

    def parse(self):
        parser = argparse.ArgumentParser(
            description=self.about,
            formatter_class=argparse.RawTextHelpFormatter)
        add = parser.add_argument
        add("-j", "--jobs", type=int, default=2, help="cells side by side")
        add("--only", action="append", metavar="GLOB", help="only such cells")
        add("--force", action="store_true", help="run even what is up to date")
        add("--timeout", type=float, default=1800, help="seconds for a cell")
        add("--list", action="store_true",
            help="show what would be run, and why")
        add("--table", action="store_true", help="run nothing")
        add("--markdown", action="store_true",
            help="run nothing; write the tables into the document")
        add("--document", type=pathlib.Path, default=DOCUMENT)
        add("--output", type=pathlib.Path, default=REPO / "build" / self.name)
        add("--lab", default="lab",
            help=f"module of {self.package}/ that runs a cell")
        self.add_options(add)
        return parser.parse_args()

    def work(self):
        """What the command line asks for."""
        self.options = self.parse()
        runner.break_off()
        self.lab = importlib.import_module(
            f"{self.package}.{self.options.lab}").LAB
        self.root = self.options.output.resolve()
        chosen = choose(self.cells, self.options.only)
        if not chosen:
            raise files.ResultError("no cell has such a name; see --list")
        if self.options.list:
            return self.list_cells(chosen)
        status = self.instead(chosen)
        if status is not None:
            return status
        if self.options.table or self.options.markdown:
            return self.show_only()
        return self.run(chosen)

    def main(self):
        """Ends the program."""
        try:
            sys.exit(self.work())
        except KeyboardInterrupt:
            sys.exit(130)
        except (files.ResultError, NotImplementedError, OSError,
                subprocess.SubprocessError) as error:
            sys.exit(f"{self.name}: {error}")
