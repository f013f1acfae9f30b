# SPDX-License-Identifier: GPL-2.0-or-later
"""The workloads' files and their programs, small, on this machine."""

import importlib
import os
import pathlib
import re
import sqlite3
import subprocess
import tempfile
import unittest

from lab import LAB, images

workloads = images.workloads()

PROGRAMS = ("writer", "reader", "gups", "graph", "tpcb")
MANUAL = LAB.parents[1] / "docs/lab-workloads.md"
PAGE = 4096


def module(name):
    return importlib.import_module(f"workloads.{name}")


class Files(unittest.TestCase):

    def test_manual(self):
        listed = re.findall(r"^\| `([\w-]+)` \|", MANUAL.read_text("utf-8"),
                            re.MULTILINE)
        self.assertEqual(sorted(set(workloads.names()) - set(listed)), [])

    def test_parameters(self):
        for name in workloads.names():
            text = " ".join(getattr(module(name), phase, "")
                            for phase in workloads.PHASES)
            for parameter in module(name).params:
                with self.subTest(workload=name, parameter=parameter):
                    self.assertRegex(text, rf"\b{parameter}\b")


class Programs(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        for name in PROGRAMS:
            subprocess.run(
                [*os.environ.get("CC", "cc").split(), *workloads.CFLAGS,
                 *(f"-I{path}" for path in workloads.INCLUDES),
                 "-o", cls.folder / name, workloads.SRC / f"{name}.c"],
                check=True)

    def setUp(self):
        self.file = self.folder / "file"
        self.file.unlink(missing_ok=True)

    def start(self, name, *words):
        return subprocess.run(
            [self.folder / name, *map(str, words)], text=True, timeout=60,
            capture_output=True, check=False)

    def run_it(self, name, *words):
        done = self.start(name, *words)
        self.assertEqual((done.returncode, done.stderr), (0, ""), words)
        return done.stdout

    def damage(self, at):
        with open(self.file, "r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1]))

    def assert_refused(self, text, name, *words):
        done = self.start(name, *words)
        self.assertEqual(done.returncode, 1)
        self.assertIn(text, done.stderr)

    def gups(self, *words):
        self.setUp()
        self.run_it("gups", "fill", self.file, 1)
        for one in words:
            said = self.run_it("gups", "run", self.file, 1000, *one)
            self.assertEqual(said, "ops=1000\n")
        return self.run_it("gups", "verify", self.file)

    def test_gups(self):
        still, moving, other = (20, 0, 10, 1), (20, 4, 10, 1), (20, 0, 10, 2)
        self.assertEqual(self.gups(still), self.gups(still))
        sums = {self.gups(*w) for w in ((still,), (moving,), (other,),
                                        (still, moving))}
        self.assertEqual(len(sums), 4)
        for at in (0, 300 * 8 + 3, (1 << 20) - 1):
            self.damage(at)
            self.assert_refused("lost", "gups", "verify", self.file)
            self.damage(at)
        self.run_it("gups", "verify", self.file)

    def test_gups_hot(self):
        """Without cold updates as many pages are written as there are hot
        ones, twice as many if they are chosen again."""
        for parts, least, most in ((1, 20, 20), (2, 21, 40)):
            self.setUp()
            self.run_it("gups", "fill", self.file, 1)
            old = self.file.read_bytes()
            self.run_it("gups", "run", self.file, 4000, 20, parts, 0, 1)
            new = self.file.read_bytes()
            written = sum(old[at:at + PAGE] != new[at:at + PAGE]
                          for at in range(0, 1 << 20, PAGE))
            self.assertTrue(least <= written <= most, written)

    def test_gups_usage(self):
        self.run_it("gups", "fill", self.file, 1)
        self.assert_refused("usage", "gups", "run", self.file, 1, 0, 0, 0, 1)
        self.assert_refused("usage", "gups", "run", self.file, 1, 257, 0, 0, 1)

    def test_reader(self):
        self.run_it("writer", "fill", self.file, 1)
        old = self.file.read_bytes()
        self.assertEqual(self.run_it("reader", self.file, 1000, 2, 1),
                         "ops=1000\n")
        self.assertEqual(self.file.read_bytes(), old)
        self.damage(64 * 100 + 20)
        self.assert_refused("line 100 is wrong", "reader", self.file, 200000,
                            1, 1)

    def graph(self, *runs):
        self.setUp()
        self.run_it("graph", "make", self.file, 10, 8, 1)
        for words in runs:
            self.run_it("graph", "run", self.file, *words)
        return self.run_it("graph", "verify", self.file)

    def test_graph(self):
        runs = (("pagerank", 2, 2, 1),), (("bfs", 2, 2, 1),), \
            (("both", 2, 2, 1),), (("both", 2, 2, 2),), (("both", 3, 2, 1),)
        sums = [self.graph(*run) for run in runs]
        self.assertEqual(len(set(sums)), len(runs))
        self.assertEqual(sums, [self.graph(*run) for run in runs])
        self.assertEqual(sums[2], self.graph(*runs[0], *runs[1]))

    def test_graph_damaged(self):
        self.graph(("both", 1, 1, 1))
        depths = PAGE + 2 * 8 * 1024
        self.damage(depths)
        self.assert_refused("depth", "graph", "verify", self.file)
        self.damage(depths)
        self.damage(PAGE + 7)
        self.assert_refused("ranks", "graph", "verify", self.file)

    def test_graph_skewed(self):
        """A tenth of the vertices has more than half of the edges, and they
        lie anywhere."""
        self.graph()
        data = memoryview(self.file.read_bytes())
        first = data[PAGE + (2 * 8 + 2 * 4) * 1024:][:4 * 1025].cast("I")
        degrees = [b - a for a, b in zip(first, first[1:])]
        ranked = sorted(range(1024), key=lambda v: -degrees[v])[:102]
        self.assertGreater(sum(degrees[v] for v in ranked), first[1024] / 2)
        quarters = [sum(v // 256 == q for v in ranked) for q in range(4)]
        self.assertGreater(min(quarters), 10)

    def test_tpcb(self):
        text = self.run_it("tpcb", 2, 100, 500, 1)
        self.assertEqual(text, self.run_it("tpcb", 2, 100, 500, 1))
        bank = sqlite3.connect(":memory:", isolation_level=None)
        for table, rows in (("branches", 2), ("tellers", 20),
                            ("accounts", 200000)):
            bank.executescript(f"""
                CREATE TABLE {table} (id INTEGER PRIMARY KEY, branch, balance);
                WITH RECURSIVE n(i) AS
                  (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {rows})
                INSERT INTO {table} SELECT i, 0, 0 FROM n;""")
        bank.executescript("CREATE TABLE history (teller, branch, account,"
                           "amount, number, filler);" + text)
        amount, count, low, high, own = bank.execute(
            "SELECT sum(amount), count(*), min(number), max(number), "
            "sum((account - 1) / 100000 + 1 = branch) FROM history").fetchone()
        self.assertEqual((count, low, high), (500, 101, 600))
        self.assertTrue(0.8 * count < own < 0.9 * count, own)
        for table in ("branches", "tellers", "accounts"):
            self.assertEqual(bank.execute(
                f"SELECT sum(balance) FROM {table}").fetchone(), (amount,))


if __name__ == "__main__":
    unittest.main()
