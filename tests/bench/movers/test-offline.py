#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of bench-movers without a lab."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import tomllib
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.dont_write_bytecode = True

from cells.files import ResultError                     # noqa: E402
from movers import (cells, fakelab, figures, goals,     # noqa: E402
                    lab, report, results)
from movers.cells import Cell                           # noqa: E402

BENCH = HERE.parent / "bench-movers"


def fake(part, form, **changes):
    """A cell's result, with other values."""
    cell = Cell(part, form)
    return results.Result(cell, {}, fakelab.PARTS[part](cell) | changes)


def fakes(*names):
    """{cell: result} of all cells, or of these parts."""
    return {c: fake(*c) for c in cells.CELLS if not names or c.part in names}


class FiguresTest(unittest.TestCase):
    """Literal figures."""

    def test_modelled_time(self):
        """Instructions, and what is waited for, by hand."""
        phase = results.Phase(3 * 10 ** 9, {
            "dram": {"fills": 2 * 10 ** 7}, "nvm": {"fills": 10 ** 7},
            "other": {"fills": 10 ** 7}})
        self.assertAlmostEqual(figures.modelled_time(phase, "dram"), 3 + 4)
        self.assertAlmostEqual(figures.modelled_time(phase, "cxl"),
                               3 + 3 + 2.1)
        self.assertAlmostEqual(figures.modelled_time(phase, "optane"),
                               3 + 3 + 3.05)

    def test_traffic(self):
        """A tenth is left; unmanaged is its own measure."""
        base = fake("traffic", "unmanaged")
        row = figures.traffic_row(fake("traffic", "remap"), base)
        self.assertEqual((row["left"], row["moves"], row["own-nvm-lines"],
                          row["batches"], row["stall-us"], row["block"]),
                         (0.1, 500, 500 * 64, 50, 50, 4096))
        # 2 s of instructions, 2.2 million fills of 100 ns; of these 0.2 or,
        # unmanaged, 2 million of 210 or 305 ns
        self.assertAlmostEqual(row["time"]["cxl"],
                               (2 + .2 + .2 * .21) / (2 + .22))
        self.assertAlmostEqual(
            figures.traffic_row(base, base)["time"]["optane"],
            (2 + .02 + 2 * .305) / (2 + .22))

    def test_speed(self):
        """From the first plan to the last batch."""
        row = figures.speed_row(fake("speed", "numa-container"))
        self.assertAlmostEqual(row["rate"], 1000 / 0.1)
        self.assertAlmostEqual(row["bytes"], 10_000 * 2 * 4096)
        self.assertEqual((row["moves"], row["instructions"], row["lost"],
                          row["faults"], row["flushes"]),
                         (1000, 40_000, {"one": 40, "beside": 20}, 2, 1))
        self.assertAlmostEqual(row["progress"], 0.6)

    def test_moves_of_others(self):
        """Batches of another time are not the step's."""
        result = fake("speed", "numa")
        result.data["trace"].append([10 ** 9, "batch", 7])
        self.assertEqual(result.moved(), (1000, 100_000))

    def test_rest(self):
        """Per interval, to the engine off."""
        table = figures.tables(fakes("rest"))
        row = figures.row_of(table["rest"], form="numa", window=250, cold=1)
        self.assertAlmostEqual(row["cost"], 0.04)
        self.assertEqual((row["instructions"], row["faults"], row["moves"],
                          row["windows"]), (40_000_000, 2990, 0, 2))
        self.assertAlmostEqual(row["loads"], 0.05)
        self.assertEqual((row["huge"], row["huge-least"], row["huge-most"]),
                         (64, 0, 128))
        self.assertEqual(figures.row_of(table["idle"], form="remap")
                         ["instructions"], 10_000_000)

    def test_settled(self):
        """Of longer intervals, to the engine off for as long."""
        table = figures.tables(fakes("settled"))
        row = figures.row_of(table["settled"], form="numa", policy="benefit",
                             cold=1)
        self.assertAlmostEqual(row["cost"], 0.01)
        self.assertEqual((row["instructions"], row["faults"], row["moves"],
                          row["windows"], row["interval"]),
                         (40_000_000, 3000, 0, 2, 4000))
        self.assertAlmostEqual(row["loads"], 2 / 160)

    def test_equal_slowdown(self):
        """The ratio of what a move costs the guest; no loss is infinite."""
        table = figures.tables(fakes("speed"))
        self.assertEqual(figures.more_moves(table, "numa", "one"), 4)
        self.assertEqual(figures.more_moves(table, "numa", "beside"), 50)
        self.assertEqual(figures.more_moves(table, "numa-thp", "beside"),
                         float("inf"))
        self.assertIsNone(figures.more_moves({"speed": []}, "numa", "one"))

    def missed(self, found):
        """Texts of goals that are."""
        return [g.text for g in goals.all_of(figures.tables(found))
                if not g.met]

    def test_goals(self):
        """Each is missed by a little more, and none else is."""
        found = fakes()
        slow = "{}: at least 5 times what remap moves at equal slowdown of " \
            "the guest"
        self.assertEqual(self.missed(found), [
            slow.format("on the guest's CPU, numa-container"),
            slow.format("on the guest's CPU, numa"),
            "at rest, numa-thp, window 250 of 1000 ms: at most 2% of the "
            "guest's instructions",
            "settled, numa-thp, benefit, 1 of 100 writes anywhere: at most 1% "
            "of the guest's instructions"])
        found[Cell("speed", "numa-container")].data["us_shuffle"] += 1000
        self.assertIn(slow.format("with a CPU to spare, numa-container"),
                      self.missed(found))

    def test_goal_no_stop(self):
        """Neither by us nor by a signal."""
        found = fakes()
        data = found[Cell("traffic", "numa")].data
        for name, where in (("batches", data["engine"]["counters"]),
                            ("signals", data["kvm_after"])):
            with self.subTest(name):
                where[name] = goals.FEW + 1
                self.assertIn("traffic, numa: no stop of a vCPU",
                              self.missed(found))
                where[name] = 0

    def test_open_goals(self):
        """Of cells that did not run."""
        self.assertEqual({g.met for g in goals.all_of(figures.tables({}))},
                         {None})

    def test_histogram(self):
        """By powers of two."""
        self.assertEqual(report.histogram([0, 3, 0, 1200]),
                         "3 of 2–4, 1,200 of 8–16 µs")
        self.assertEqual(report.histogram([0, 0]), "none")


class LoadTest(unittest.TestCase):
    """What is not whole is refused."""

    def refused(self, words, part, form, **changes):
        """With these words."""
        result = fake(part, form, **changes)
        with self.assertRaisesRegex(ResultError, words):
            results.CHECKS[part](result, "file")

    def test_checks(self):
        """A result for each."""
        for part, form in cells.CELLS:
            results.CHECKS[part](fake(part, form), "file")
        self.refused("in an unmanaged run", "traffic", "unmanaged",
                     engine=fakelab.engine(Cell("traffic", "remap"), 1))
        self.refused("nothing moved", "speed", "numa", trace=[])
        self.refused("while none should", "speed", "numa", late_none=1)
        self.refused("log tells of 1000 moves, the counter of 999", "speed",
                     "numa", moves_shuffle=999)
        self.refused("done its work before", "speed", "numa",
                     late_shuffle=1001)
        self.refused("no window in phase '20'", "rest", "numa",
                     engine_after_20=fakelab.engine(Cell("rest", "numa"), 7,
                                                    10))
        self.refused("no window in phase '50'", "settled", "numa",
                     engine_after_50=fakelab.engine(Cell("settled", "numa"),
                                                    7, 10))

    def test_counts_missing(self):
        """A range without fills."""
        result = fake("traffic", "numa")
        del result.data["meter"]["phases"]["2"]["ranges"]["nvm"]["fills"]
        with self.assertRaisesRegex(ResultError, "no count fills of nvm"):
            results.check_traffic(result, "file")


class LabTest(unittest.TestCase):
    """Scenarios, without running them."""

    def test_scenarios(self):
        """All are TOML, and nothing is left to fill in."""
        for cell in cells.CELLS:
            with self.subTest(cell.name):
                text = lab.text_of(cell)
                self.assertNotRegex(text, "@[a-z]+@")
                scene = tomllib.loads(text)
                self.assertEqual(scene["about"], cell.name)
                self.assertIn("meter", scene)
                self.assertEqual(len(scene["server"]["node"]), 3)

    def test_same_memory(self):
        """Unmanaged, remap and numa-container differ in the mover alone."""
        def options(form):
            scene = tomllib.loads(lab.text_of(Cell("traffic", form)))
            return scene["guest"]["vm"]["options"].replace("mover=numa",
                                                           "mover=remap")
        self.assertEqual(options("unmanaged"), options("remap"))
        self.assertEqual(options("remap"), options("numa-container"))

    def test_trace(self):
        """What QEMU writes."""
        self.assertEqual(lab.traced(
            "x\n119@1767225611.360214:hybridmem_plan hm0: policy shuffle plans"
            " 66 moves\n119@1767225612.000001:hybridmem_batch hm0: 66 moves "
            "tried, 65 done, guest held for 0 us\n"),
            [[1767225611360214, "plan", 66], [1767225612000001, "batch", 65]])


class BenchTest(unittest.TestCase):
    """The program, with a lab that is not one."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)

    def bench(self, *args, code=0, **env):
        """Its output; FAKELAB_... from env."""
        done = subprocess.run(
            [BENCH, "--lab", "fakelab", "--output", self.root / "out", *args],
            capture_output=True, text=True, timeout=120, check=False,
            env={**os.environ, **{f"FAKELAB_{k}": str(v)
                                  for k, v in env.items()}})
        text = done.stdout + done.stderr
        self.assertEqual(done.returncode, code, text)
        return text

    def test_all_and_again(self):
        """All cells; then none; then one that has changed."""
        text = self.bench()
        self.assertEqual(text.count(" done in "), len(cells.CELLS))
        self.assertIn("| numa | 4 KiB |", text)
        self.assertIn("| numa-thp | 2 MiB | 1,000 |", text)
        self.assertIn("no loss seen", text)
        summary = json.loads((self.root / "out/summary.json").read_text())
        self.assertEqual(len(summary["tables"]["rest"]),
                         3 * len(results.KINDS))
        self.assertNotIn(" done in ", self.bench())
        text = self.bench("--only", "rest-numa", INPUT=2)
        self.assertEqual(text.count(" done in "), 1)
        self.assertIn("not up to date: rest-remap (changed: scenario)", text)

    def test_part(self):
        """Only some cells."""
        text = self.bench("--only", "rest-*")
        self.assertEqual(text.count(" done in "), 3)
        self.assertIn("numa: no stop of a vCPU: open (not run)", text)

    def test_failures(self):
        """Are told, and not shown."""
        text = self.bench("--only", "traffic-*", code=1, FAIL="traffic-numa")
        self.assertIn("FAILED traffic-numa: RuntimeError: the server did not "
                      "boot", text)
        text = self.bench("--only", "rest-numa", code=1, CUT="rest-numa")
        self.assertRegex(text, "FAILED rest-numa: .*not JSON")
        text = self.bench("--only", "speed-numa", code=1,
                          SET="speed-numa:late_shuffle=2")
        self.assertRegex(text, "FAILED speed-numa: .*give it more")

    def test_markdown(self):
        """Between the marks, and nothing else."""
        self.bench("--only", "traffic-*")
        page = self.root / "page.md"
        page.write_text(f"a\n{report.BLOCK.begin}\nold\n{report.BLOCK.end}\n"
                        "b\n")
        for _ in range(2):
            self.bench("--markdown", "--document", page)
        text = page.read_text()
        self.assertTrue(text.startswith(f"a\n{report.BLOCK.begin}\n| mover"))
        self.assertTrue(text.endswith(f"{report.BLOCK.end}\nb\n"))
        self.assertNotIn("\nold\n", text)


if __name__ == "__main__":
    unittest.main(verbosity=2)
