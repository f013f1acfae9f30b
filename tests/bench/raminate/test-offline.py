#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of bench-raminate without a lab."""

import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.dont_write_bytecode = True

from cells import runner                                # noqa: E402
from cells.files import read_json                       # noqa: E402
from cells.program import choose                        # noqa: E402
from raminate import (cells, compare, energy, fakelab, figures,  # noqa: E402
                      oracle, report, results)

BENCH = HERE.parent / "bench-raminate"
HEADER = "# phase\tepoch\trange\tpage\tloads\tstores\tfills\twritebacks\n"
SEED = 20160616


class Folder(unittest.TestCase):
    """A test with a folder of its own."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)


def row(epoch, where, page, lines, phase=results.PHASE):
    """A line of pages.tsv."""
    return f"{phase}\t{epoch}\t{where}\t{page}\t1\t{lines}\t1\t{lines}\n"


def optimum(lines, dram, cost):
    """By trying all: lines[page][epoch]; the first `dram` pages start in
    dram, and a demotion writes `cost` lines."""
    pages = range(len(lines))
    best = {frozenset(range(dram)): 0}
    for epoch in range(len(lines[0])):
        best = {new: min(paid + cost * len(old - new)
                         for old, paid in best.items()) +
                sum(lines[p][epoch] for p in pages if p not in new)
                for new in map(frozenset, itertools.combinations(pages,
                                                                 dram))}
    return min(best.values())


def best_fixed(lines, dram):
    """By trying all."""
    sums = [sum(page) for page in lines]
    return sum(sums) - max(sum(kept) for kept in
                           itertools.combinations(sums, dram))


class OracleTest(Folder):
    """oracle.c against brute force and by hand."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.program = oracle.build(cls.folder.name)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def solve(self, text, dram, cost=64):
        """What the oracle says of a table."""
        path = self.root / "pages.tsv"
        path.write_text(HEADER + text)
        return oracle.solve(self.program, path, dram, lines=cost)

    def solve_lines(self, lines, dram, cost):
        """... of lines[page][epoch]."""
        text = ""
        for epoch in range(len(lines[0])):
            for page, counts in enumerate(lines):
                where = ("dram", page) if page < dram else \
                    ("nvm", page - dram)
                if counts[epoch]:
                    text += row(epoch, *where, counts[epoch])
        return self.solve(text, dram, cost)

    def test_brute_force(self):
        """The bound is never above the optimum, the schedule never below;
        and both are near."""
        numbers = random.Random(SEED)
        bounds = schedules = optima = 0
        for _ in range(250):
            pages, epochs = numbers.randint(2, 6), numbers.randint(1, 6)
            dram = numbers.randint(1, pages - 1)
            cost = numbers.choice((1, 8, 64))
            lines = [[numbers.choice((0, 0, 1, 5, 40, 64, 200))
                      for _ in range(epochs)] for _ in range(pages)]
            said = self.solve_lines(lines, dram, cost)
            best = optimum(lines, dram, cost)
            with self.subTest(lines=lines, dram=dram, cost=cost):
                self.assertLessEqual(said["bound-one-price"], said["bound"])
                self.assertLessEqual(said["bound"], best)
                self.assertLessEqual(best, said["feasible"])
                self.assertLessEqual(said["feasible"], said["unmanaged"])
                self.assertEqual(said["fixed"], best_fixed(lines, dram))
                self.assertEqual(said["unmanaged"],
                                 sum(map(sum, lines[dram:])))
            bounds += said["bound"]
            schedules += said["feasible"]
            optima += best
        self.assertGreater(bounds, 0.99 * optima)
        self.assertLess(schedules, 1.01 * optima)

    def test_a_move_that_pays(self):
        """200 lines in nvm, a demotion for 64."""
        said = self.solve(row(0, "nvm", 3, 200), 1)
        self.assertEqual((said["unmanaged"], said["fixed"]), (200, 0))
        self.assertEqual((said["bound"], said["feasible"]), (64, 64))
        self.assertEqual(said["feasible-moves"], 1)

    def test_a_move_that_does_not_pay(self):
        """60 lines are less than a demotion."""
        said = self.solve(row(0, "nvm", 3, 60), 1)
        self.assertEqual((said["bound"], said["feasible"]), (60, 60))
        self.assertEqual(said["feasible-moves"], 0)

    def test_hot_page_stays(self):
        """A page in dram that is as hot is not given up."""
        said = self.solve(row(0, "dram", 0, 200) + row(0, "nvm", 0, 200), 1)
        self.assertEqual((said["bound"], said["feasible"]), (200, 200))

    def test_alternating(self):
        """Two pages in turn, one frame: if moves are dear, only one is made,
        before the last epoch, whose page has no successor; else each is."""
        text = "".join(row(e, *(("dram", 0), ("nvm", 0))[e % 2], 100)
                       for e in range(10))
        self.assertEqual(self.solve(text, 1)["feasible"], 464)
        said = self.solve(text, 1, cost=10)
        self.assertEqual((said["bound"], said["feasible"]), (90, 90))

    def test_empty(self):
        """Nothing written, or no dram."""
        self.assertEqual(self.solve("", 4)["bound"], 0)
        said = self.solve(row(0, "nvm", 1, 9), 0)
        self.assertEqual([said[k] for k in ("unmanaged", "fixed", "bound",
                                            "feasible")], [9] * 4)

    def test_all_in_dram(self):
        """More dram than pages, which need no frame from nvm."""
        said = self.solve(row(0, "dram", 7, 9), 100)
        self.assertEqual((said["unmanaged"], said["feasible"],
                          said["bound"]), (0, 0, 0))

    def test_other_rows(self):
        """Other phases and ranges do not count; the order does not matter."""
        text = row(5, "nvm", 1, 100) + row(2, "nvm", 1, 100)
        said = self.solve(row(0, "nvm", 1, 7, "1") + text +
                          row(0, "other", 1, 7), 1)
        self.assertEqual((said["unmanaged"], said["bound"], said["epochs"]),
                         (200, 64, 2))

    def test_large_is_bracketed(self):
        """Too large to try all; still the bracket is close."""
        numbers = random.Random(SEED)
        lines = [[numbers.choice((0, 3, 30, 64)) * (1 + (p + e // 3) % 5)
                  for e in range(20)] for p in range(300)]
        said = self.solve_lines(lines, 30, 64)
        self.assertLess(said["feasible"] - said["bound"],
                        0.002 * said["bound"])

    def test_refusals(self):
        """What is wrong is named by file and line."""
        for text, words in (
                (row(0, "nvm", 1, 9)[:-1], "pages.tsv:2: the line is cut"),
                ("2\t0\tnvm\n", "pages.tsv:2: 3 fields"),
                (row(0, "nvm", 1, 9).replace("\n", "\t1\n"), "more than 8"),
                (row(0, "nvm", 1, "x"), "'x' is not a number"),
                (row(0, "nvm", 1, -1), "'-1' is not a number"),
                (row(0, "dram", 4, 9), "page 4 is not in dram"),
                (row(0, "nvm", 1, 9) * 2, "two rows in one epoch")):
            with self.subTest(words), \
                    self.assertRaisesRegex(results.ResultError, words):
                self.solve(text, 4)


class FiguresTest(unittest.TestCase):
    """Literal figures."""

    def test_energy(self):
        """RAMinate's formula by hand."""
        traffic = {"dram": (1e9, 2e9), "nvm": (4e9, 8e9)}
        self.assertAlmostEqual(energy.raminate(traffic, 2e9, 10, 10),
                               0.75 + 1.2 + 1 + 20)
        self.assertAlmostEqual(energy.all_dram(traffic, 1e9, 10),
                               15 * 0.25 + 0.6)

    def test_distance(self):
        """0 at the oracle, 1 unmanaged, more for harm, none for no gain."""
        self.assertEqual(figures.distance(100, 500, 100), 0)
        self.assertEqual(figures.distance(200, 500, 100), 0.25)
        self.assertEqual(figures.distance(900, 500, 100), 2)
        self.assertIsNone(figures.distance(500, 500, 499))
        self.assertIsNone(figures.distance(0, 0, 0))

    @staticmethod
    def table(**changes):
        """One in which all goals are met."""
        table = {}
        for cell in cells.CELLS:
            lines, moves = {"unmanaged": (1000, 0), "cmq": (150, 20),
                            "write-heat": (140, 10)}[cell.policy]
            if cell.workload == "even":
                lines, moves = (1020, 0) if cell.managed else (1000, 0)
            lines = changes.get(cell.name.replace("-", "_"), lines)
            table[cell] = {"left": lines / 1000, "nvm-writebacks": lines,
                           "moves": moves}
        return table

    def missed(self, **changes):
        """How many goals are then missed."""
        return [g.text for g in figures.goals(self.table(**changes))
                if not g.met]

    def test_goals(self):
        """Each goal is missed by one line more, and none else is."""
        self.assertEqual(self.missed(), [])
        self.assertEqual(self.missed(compile_10_write_heat=150), [])
        self.assertEqual(len(self.missed(redis_10_write_heat=151,
                                         redis_10_cmq=151)), 1)
        self.assertEqual(len(self.missed(redis_1_write_heat=151)), 1)
        self.assertEqual(len(self.missed(hotset_10_write_heat=990)), 1)
        self.assertEqual(len(self.missed(even_10_cmq=1021)), 1)
        self.assertEqual(len(self.missed(even_1_write_heat=1021)), 2)

    def test_fewer_moves(self):
        """As many are not fewer, but none need not be."""
        table = self.table()
        cmq = cells.Cell("redis", 1, "cmq")
        table[cmq]["moves"] = 10
        self.assertFalse(figures.goal_better(table, "redis", 1).met)
        self.assertTrue(figures.goal_better(table, "even", 1).met)

    def test_open_goals(self):
        """Of cells that did not run."""
        self.assertEqual({g.met for g in figures.goals({})}, {None})


class BenchTest(Folder):
    """The program, with a lab that is not one."""

    def bench(self, *args, code=0, **env):
        """Its output; FAKELAB_... from env."""
        done = subprocess.run(self.command(*args), capture_output=True,
                              text=True, timeout=120, check=False,
                              env=self.environment(env))
        text = done.stdout + done.stderr
        self.assertEqual(done.returncode, code, text)
        return text

    def command(self, *args):
        """The program's command line."""
        return [BENCH, "--lab", "fakelab", "--output", self.root / "out",
                *args]

    @staticmethod
    def environment(env):
        """FAKELAB_... from env."""
        return {**os.environ, **{f"FAKELAB_{k}": str(v)
                                 for k, v in env.items()}}

    def cell(self, name):
        """Its folder."""
        return self.root / "out" / name

    def test_all_and_again(self):
        """24 cells; then none; then the one that is gone."""
        text = self.bench()
        self.assertEqual(text.count(" done in "), 24)
        self.assertIn("[24/24]", text)
        summary = json.loads((self.root / "out/summary.json").read_text())
        self.assertEqual(len(summary["cells"]), 24)
        self.assertEqual(len(summary["oracles"]), 8)
        if shutil.which("gnuplot"):
            self.assertGreater(self.cell(report.PLOT).stat().st_size, 5000)
        self.assertFalse(list((self.root / "out").glob("*.partial")))
        text = self.bench()
        self.assertNotIn(" done in ", text)
        self.assertIn("24 of 24 cells are there", text)
        (self.cell("redis-1-cmq") / "run.json").unlink()
        text = self.bench()
        self.assertEqual(text.count(" done in "), 1)
        self.assertRegex(text, "redis-1-cmq .*started .*run.json: No such")

    def test_oracle_is_below_all(self):
        """No policy of the fake lab gets below its bound."""
        self.bench()
        summary = json.loads((self.root / "out/summary.json").read_text())
        for name, said in summary["oracles"].items():
            for policy in cells.POLICIES:
                left = summary["cells"][name.replace("unmanaged", policy)]
                self.assertLessEqual(said["bound"], left["nvm-writebacks"])

    def test_what_changed(self):
        """Runs again, and says why; --table says that it is old."""
        only = ("--only", "redis-1-*")
        self.bench(*only)
        self.assertIn("up to date", self.bench("--list", *only))
        self.assertIn("not up to date: redis-1-cmq (changed: scenario)",
                      self.bench("--table", INPUT=2))
        self.assertEqual(self.bench("--list", *only, INPUT=2)
                         .count("changed: scenario"), 3)
        text = self.bench(*only, INPUT=2)
        self.assertEqual(text.count(" done in "), 3)
        self.assertEqual(self.bench(*only, "--force", INPUT=2)
                         .count(" done in "), 3)

    def test_failure(self):
        """Does not stop the others; its old result is not shown."""
        only = ("--only", "redis-*")
        self.bench(*only)
        text = self.bench(*only, code=1, FAIL="redis-1-cmq", INPUT=2)
        self.assertEqual(text.count(" done in "), 5)
        self.assertIn("FAILED redis-1-cmq: RuntimeError: the server did not "
                      "boot", text)
        self.assertNotIn("| redis | 1 % | cmq |", text)
        log = self.cell("redis-1-cmq.partial") / "log.txt"
        self.assertIn("fake run of redis-1-cmq", log.read_text())
        self.assertEqual(self.bench(*only, INPUT=2).count(" done in "), 1)

    def test_cut_results(self):
        """A file that is not whole is named, by whatever reads it."""
        text = self.bench("--only", "redis-1-cmq", code=1, CUT="redis-1-cmq")
        self.assertRegex(text, "FAILED redis-1-cmq: .*meter.json: not JSON")
        self.bench("--only", "redis-1-*")
        pages = self.cell("redis-1-unmanaged") / "pages.tsv"
        pages.write_bytes(pages.read_bytes()[:-3])
        text = self.bench("--table", code=1)
        self.assertRegex(text, "pages.tsv: cut off; again: bench-raminate "
                         "--force --only redis-1-unmanaged")
        self.assertEqual(self.bench("--only", "redis-1-*")
                         .count(" done in "), 1)

    def test_lost_row(self):
        """pages.tsv and meter.json must agree."""
        text = self.bench("--only", "redis-1-*", code=1,
                          LOSE="redis-1-unmanaged")
        self.assertRegex(text, "pages.tsv: .* rows are missing")

    def test_odd_results(self):
        """JSON of another shape is an error that names the folder."""
        self.bench("--only", "redis-1-*")
        engine = self.cell("redis-1-cmq") / "engine.json"
        for content in ("[]", "[{}]", "[3]", '{"return": 4}'):
            engine.write_text(content)
            self.assertIn("redis-1-cmq", self.bench("--table", code=1))

    def test_side_by_side(self):
        """Two at a time, and no more."""
        self.bench("--only", "redis-*", SECONDS=0.2)
        facts = [read_json(self.cell(c.name) / "run.json")["facts"]
                 for c in choose(cells.CELLS, ["redis-*"])]
        together = [sum(f["began"] <= one["began"] < f["ended"]
                        for f in facts) for one in facts]
        self.assertEqual(max(together), 2)

    def interrupted(self, number):
        """Stops it while two cells are at work."""
        with subprocess.Popen(self.command("--only", "redis-*"),
                              stdout=subprocess.PIPE, text=True,
                              env=self.environment(
                                  {"HANG": "redis-1-write-heat"})) as bench:
            log = self.cell("redis-1-write-heat.partial") / "log.txt"
            self.wait(lambda: log.exists() and log.stat().st_size and
                      len(list(self.root.glob("out/redis-*/run.json"))) == 5)
            bench.send_signal(number)
            bench.stdout.read()
            shutil.rmtree(log.parent)
            return bench.wait(timeout=30)

    def wait(self, condition):
        """Until it holds."""
        deadline = time.monotonic() + 60
        while not condition():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def test_broken_off(self):
        """Leaves no process; goes on where it was."""
        for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
            self.assertEqual(self.interrupted(number), code)
            self.wait(lambda: not self.still_there())
        text = self.bench("--only", "redis-*")
        self.assertEqual(text.count(" started "), 1)
        self.assertIn("redis-1-write-heat     started (not run yet)", text)

    def still_there(self):
        """Processes that work in our folder."""
        found = []
        for link in pathlib.Path("/proc").glob("[0-9]*/fd/1"):
            try:
                if str(self.root) in os.readlink(link):
                    found.append(link)
            except OSError:
                pass
        return found

    def test_timeout(self):
        """A cell that hangs is ended, with what it started."""
        text = self.bench("--only", "redis-1-*", "--timeout", "3", code=1,
                          HANG="redis-1-cmq")
        self.assertIn("FAILED redis-1-cmq: took more than 3 s", text)
        self.wait(lambda: not self.still_there())

    def test_one_at_a_time(self):
        """A second program is refused."""
        with runner.lock(fakelab.LAB, self.root / "out"):
            self.assertIn("another bench-raminate is at work",
                          self.bench(code=1))

    def test_compare(self):
        """Alike; then a count more; then a cell that is not there."""
        only = ("--only", "redis-1-*")
        self.bench(*only)
        (self.root / "out").rename(self.root / "other")
        other = ("--compare", self.root / "other")
        self.bench(*only)
        self.assertIn("3 cells compared; limit 1e-06: kept",
                      self.bench(*only, *other))
        self.bench(*only, "--force", MORE=1)
        text = self.bench(*only, *other, code=1)
        self.assertRegex(text, "redis-1-cmq .*meter.json/2/ranges/dram/")
        self.assertIn("is not in", self.bench(*other, code=1))

    def test_markdown(self):
        """Between the marks, and nothing else; refused without them."""
        self.bench("--only", "redis-1-*")
        page = self.root / "page.md"
        page.write_text(f"a\n{report.BLOCK.begin}\nold\n{report.BLOCK.end}\nb\n")
        for _ in range(2):
            self.bench("--markdown", "--document", page)
        text = page.read_text()
        self.assertTrue(text.startswith(f"a\n{report.BLOCK.begin}\n| workload"))
        self.assertTrue(text.endswith(f"{report.BLOCK.end}\nb\n"))
        self.assertNotIn("old", text)
        self.assertEqual((self.root / report.PLOT).exists(),
                         shutil.which("gnuplot") is not None)
        page.write_text("nothing\n")
        self.assertIn("put the lines", self.bench("--markdown", "--document",
                                                  page, code=1))

    def test_no_such_cell(self):
        """A pattern that matches nothing is a mistake."""
        self.assertIn("no cell has such a name",
                      self.bench("--only", "x*", code=1))


class SmallTest(Folder):
    """Parts."""

    def test_relative(self):
        """Of two counts."""
        self.assertEqual(compare.relative(0, 0), 0)
        self.assertEqual(compare.relative(3, 4), 0.25)
        self.assertEqual(compare.relative(None, 4), 1)

    def test_times_are_no_counts(self):
        """They may differ."""
        self.assertEqual(compare.numbers(
            {"a": 1, "stall-ns-max": 2, "stall-histogram": [3], "b": [4],
             "wall-seconds": 5, "on": True, "c": "x"}, "f"),
            {"f/a": 1, "f/b/0": 4})

    def test_rows_of_pages(self):
        """Sums per range, whatever epoch and page."""
        path = self.root / "p"
        path.write_text(HEADER + row(0, "nvm", 1, 5) + row(1, "nvm", 2, 6))
        sums = compare.page_sums(compare.page_rows(path))
        self.assertEqual(sums["pages.tsv/2/nvm/writebacks"], 11)

    def test_meter_shapes(self):
        """Phases by number, ranges by name; and what is refused."""
        path = self.root / "meter.json"
        tiers = [fakelab.counts(t, 3) for t in ("dram", "nvm")]
        path.write_text(json.dumps({"phases": [{"phase": 2,
                                                "ranges": tiers}]}))
        self.assertEqual(results.read_meter(path)["2"]["ranges"]["nvm"]
                         ["stores"], 9)
        for data, words in (([{"phase": 1, "ranges": []}],
                             "no phase '2', only 1"),
                            ([{"phase": 2, "ranges": tiers[:1]}],
                             "no count loads of nvm"),
                            ({}, "no list of phases")):
            path.write_text(json.dumps({"phases": data}))
            with self.assertRaisesRegex(results.ResultError, words):
                results.read_meter(path)

    def test_time_left(self):
        """Two side by side; what is known of a cell, else the mean."""
        bench = runner.Runner(None, self.root, jobs=2)
        self.assertIsNone(bench.left())
        one, two, three, four = cells.CELLS[:4]
        bench.took = {one: 100, two: 300}
        bench.waiting = [(one,), (three,), (four,)]
        self.assertEqual(bench.left(), (100 + 200 + 200) / 2)
        bench.waiting = [(two,)]
        self.assertEqual(bench.left(), 300)


if __name__ == "__main__":
    unittest.main(verbosity=2)
