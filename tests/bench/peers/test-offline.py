#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of bench-peers without a lab."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import tomllib
import unittest
from unittest import mock

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.dont_write_bytecode = True

from peers import (cells, fakelab, figures, goals,      # noqa: E402
                   lab, optimum, replays, report, results, scenarios)
from peers.cells import Cell                            # noqa: E402

BENCH = HERE.parent / "bench-peers"


def fake(name, **changes):
    """A cell's result, with other values."""
    cell = cell_of(name)
    facts = {"facts": {"memory": 256, "dram": fakelab.dram_mib(cell.share)}}
    return results.Result(cell, pathlib.Path(), facts,
                          fakelab.data_of(cell) | changes)


def cell_of(name):
    """By its name."""
    return next(c for c in cells.CELLS if c.name == name)


def fakes():
    """{cell: result} of all."""
    return {c: fake(c.name) for c in cells.CELLS}


SAID = {"bound": fakelab.TOTAL // 20, "unmanaged": fakelab.TOTAL,
        "feasible-moves": 40}
UNMANAGED = [c for c in cells.CELLS if c.row == cells.UNMANAGED
             and c.workload != cells.FOUR]


def table(without=()):
    """Of all but these cells."""
    found = {c: r for c, r in fakes().items() if c.name not in without}
    return figures.rows(found, {c: SAID for c in UNMANAGED if c in found})


class FiguresTest(unittest.TestCase):
    """Literal figures."""

    def test_time(self):
        """1 s of work and 19207 fills, by hand."""
        rows = table()
        base = 1 + (fakelab.TOTAL + 7) * 100e-9
        for row, fills, extra in (("all-dram", 0, 0), ("all-nvm", 1, 110e-9),
                                  ("unmanaged", 1, 110e-9),
                                  ("benefit", 0.1, 110e-9)):
            self.assertAlmostEqual(
                rows[Cell("gups", 10, row)]["time"]["cxl"],
                1 + fills * fakelab.TOTAL * extra / base, places=9)

    def test_guests_time(self):
        """Without 1000 misses that only the manager had; not where the kernel
        manages."""
        found = fakes()
        cell = cell_of("gups-10-benefit")
        meter = json.loads(json.dumps(found[cell].data["meter"]))
        meter["phases"][results.PHASE]["ranges"]["other"]["fills"] += 1000
        found[cell].data["meter"] = meter
        rows = figures.rows(found, {})
        mine, base = rows[cell], 1 + (fakelab.TOTAL + 7) * 100e-9
        self.assertAlmostEqual(mine["time"]["cxl"] - mine["guests-time"]["cxl"],
                               1000 * 100e-9 / base, places=9)
        for row in ("all-dram", "all-nvm", "memory-mode", "unmanaged", "cmq"):
            said = rows[Cell("gups", 10, row)]
            self.assertEqual(said["time"], said["guests-time"])
        said = rows[Cell("gups", 10, "linux-tiering")]["guests-time"]
        self.assertEqual(list(said.values()), [None, None])

    def test_mode(self):
        """A miss waits for its tag and for nvm; what the medium does."""
        row = table()[Cell("gups", 10, "memory-mode")]
        half, base = fakelab.TOTAL / 2, 1 + (fakelab.TOTAL + 7) * 100e-9
        self.assertAlmostEqual(row["time"]["optane"],
                               1 + half * 305e-9 / base, places=9)
        self.assertEqual((row["nvm-fills"], row["nvm-writebacks"],
                          row["left"], row["more-instructions"]),
                         (fakelab.TOTAL, fakelab.TOTAL // 2, 0.5, None))

    def test_rows(self):
        """Each, in order; what moved, whoever did it."""
        rows = table()
        self.assertEqual([c.row for c in rows][:len(cells.ROWS)],
                         list(cells.ROWS))
        self.assertEqual(len(rows), len(cells.ROWS) * 18 - 9)
        self.assertNotIn(Cell("gups", 20, "damon"), rows)
        linux = rows[Cell("gups", 10, "linux-tiering")]
        self.assertEqual((linux["moves"], linux["copied-bytes"]),
                         (300, 600 * 4096))
        self.assertAlmostEqual(linux["more-instructions"], 0.3)
        damon = rows[Cell("gups", 10, "damon")]
        self.assertEqual((damon["moves"], damon["copied-bytes"]),
                         (250, 750 * 4096))
        benefit = rows[Cell("gups", 10, "benefit")]
        self.assertEqual((benefit["moves"], benefit["left"]), (100, 0.1))

    def test_energy_and_wear(self):
        """All-DRAM is the measure; wear is of write-backs alone."""
        rows = table()
        energy = [rows[Cell("gups", 10, r)]["energy"]
                  for r in ("all-dram", "benefit", "unmanaged")]
        self.assertEqual(energy[0], 1.0)
        self.assertEqual(sorted(energy[1:]), energy[1:])
        wear = rows[Cell("gups", 10, "unmanaged")]["wear"]
        self.assertAlmostEqual(wear, fakelab.TOTAL * 64 / (230 << 20) /
                               1.40625e6)

    def test_missing(self):
        """Without memory mode there is nothing to hold a row against; without
        unmanaged a row has no share."""
        rows = table(["gups-10-memory-mode"])
        self.assertEqual([c.row for c in rows if c[:2] == ("gups", 10)],
                         ["optimum"])
        rows = table(["gups-10-unmanaged"])
        self.assertIsNone(rows[Cell("gups", 10, "benefit")]["left"])
        self.assertIsNone(rows[Cell("gups", 10, "cmq")]["more-instructions"])
        self.assertNotIn(Cell("gups", 10, "optimum"), rows)


class FourTest(unittest.TestCase):
    """Several guests."""

    def test_rows(self):
        """Each guest by its own phase, and their mean."""
        found = fakes()
        four = found[cell_of("four-20-benefit")]
        four.data["meter"]["phases"]["12"] = fakelab.meter(
            fakelab.INSTRUCTIONS, dram=fakelab.counts(0),
            nvm=fakelab.counts(fakelab.TOTAL))
        rows = figures.four_rows(found)
        self.assertEqual(list(rows), list(cells.FOUR_RUNS))
        base = 1 + (fakelab.TOTAL + 7) * 100e-9
        part = fakelab.TOTAL * 110e-9 / base
        times, mean = rows["benefit"]
        for guest, share in (("redis", 0.1), ("graph", 1.0), ("gups", 0.1),
                             ("sqlite", 0.1)):
            self.assertAlmostEqual(times[guest]["cxl"], 1 + share * part)
        self.assertAlmostEqual(mean["cxl"], ((1 + 0.1 * part) ** 3 *
                                             (1 + part)) ** 0.25)

    def test_missing(self):
        """Without memory mode there is no all-DRAM."""
        found = fakes()
        del found[cell_of("four-20-memory-mode")]
        self.assertEqual(figures.four_rows(found), {})
        del found[cell_of("four-20-linux-tiering")]
        found[cell_of("four-20-memory-mode")] = fake("four-20-memory-mode")
        self.assertNotIn("linux-tiering", figures.four_rows(found))

    def test_scenario(self):
        """A phase for each guest, memory for all, DRAM for each."""
        text = scenario_of("four-20-benefit")
        guests = text["guest"]
        self.assertEqual(len(guests), 4)
        self.assertIn("hm.run_phase=12", guests["vm-graph"]["params"])
        self.assertIn("size=51M", guests["vm-gups"]["options"])
        self.assertIn("interval=200", guests["vm-gups"]["options"])
        self.assertIn('vms="vm-redis vm-graph vm-gups vm-sqlite"',
                      text["script"])
        self.assertEqual([n["memory"] for n in text["server"]["node"]],
                         [1280, 256, 1024])
        text = scenario_of("four-20-memory-mode")
        self.assertEqual(text["meter"]["memory_mode"], "nvm:204M")
        text = scenario_of("four-20-linux-tiering")
        self.assertIn("put scan_period_min_ms 50", text["script"])
        self.assertIn("put hot_threshold_ms 200", text["script"])


class GoalsTest(unittest.TestCase):
    """Each is met, missed and open."""

    def reached(self, rows):
        """{text: met}"""
        return {g.text: g.met for g in
                goals.all_of(rows, figures.four_rows(fakes()))}

    def only(self, rows, words):
        """Of the goals whose text has these words."""
        return [met for text, met in self.reached(rows).items()
                if words in text]

    def test_geometric_mean(self):
        self.assertAlmostEqual(goals.geometric_mean([0.5, 0.5, 0.5]), 0.5)
        self.assertAlmostEqual(goals.geometric_mean([0.9, 0.4]), 0.6)
        self.assertEqual(goals.geometric_mean([0.9, -0.1]), 0)

    def test_all(self):
        """Of the fake lab; one goal is not answered here."""
        met = list(self.reached(table()).values())
        self.assertEqual((met.count(True), met.count(False), met.count(None)),
                         (len(met) - 6, 5, 1))

    def test_optimum(self):
        """94.7 % of it: short of 95, enough where the hot set moves."""
        rows = table()
        self.assertEqual(self.only(rows, "optimum removes, still"),
                         [False, False])
        self.assertEqual(self.only(rows, "optimum removes, moving"),
                         [True, True])

    def test_one_workload_misses(self):
        """That is enough; and one that did not run leaves it open."""
        rows = table()
        rows[Cell("graph", 20, "benefit")]["time"]["cxl"] = 1.06
        self.assertEqual(self.only(rows, "benefit, cxl: modelled time within"),
                         [False])
        rows = table(["graph-20-benefit"])
        self.assertEqual(self.only(rows, "benefit, cxl: modelled time within"),
                         [None])

    def test_harm(self):
        rows = table()
        self.assertEqual(self.only(rows, "above unmanaged"), [True, True])
        rows[Cell("even", 10, "benefit")]["time"]["optane"] *= 1.02
        self.assertEqual(self.only(rows, "above unmanaged"), [True, False])

    def test_best(self):
        rows = table()
        for share in cells.SHARES:      # memory mode has half of it there
            for name in goals.EVEN:
                rows[Cell(name, share, "memory-mode")]["nvm-writebacks"] *= 9
        self.assertEqual(self.only(rows, "best, or within"), [True] * 3)
        rows[Cell("graph", 10, "cmq")]["nvm-writebacks"] = 1
        self.assertEqual(self.only(rows, "best, or within"),
                         [True, True, False])

    def test_nothing(self):
        """All is open."""
        self.assertEqual({g.met for g in goals.all_of({}, {})}, {None})

    def test_four(self):
        """All of it, or none; ahead of one by 51 %, of the other by 31."""
        four = {row: ({}, {"cxl": time, "optane": time}) for row, time in
                (("benefit", 1.0), ("linux-tiering", 1.52),
                 ("memory-mode", 1.30))}
        found = [g for g in goals.all_of({}, four) if "four VMs" in g.text]
        self.assertEqual([g.met for g in found], [True, False])
        self.assertIn("cxl +30.0 % (all-DRAM +30.0 %)", str(found[1]))
        del four["linux-tiering"]
        self.assertEqual([g.met for g in goals.all_of({}, four)
                          if "four VMs" in g.text], [None, False])


def scenario_of(name):
    """A cell's, parsed."""
    with mock.patch.object(scenarios.lab, "memory_of", lambda _: 256):
        return tomllib.loads(lab.text_of(cell_of(name)))


class LabTest(unittest.TestCase):
    """Scenario files, without a run."""

    def text(self, name):
        return scenario_of(name)

    def test_all_are_toml(self):
        """And nothing is left to fill in."""
        for cell in cells.CELLS:
            self.assertNotIn("@", str(self.text(cell.name)), cell.name)

    def test_engine(self):
        text = self.text("redis-b-20-benefit")
        options = text["guest"]["vm"]["options"]
        for words in ("size=51M", "size=205M", "interval=100", ",window=25",
                      "access-window=25", "half-life=500", "model=cxl",
                      "objective=time"):
            self.assertIn(words, options)
        self.assertIn('"policy": "benefit", "enabled": true', text["script"])
        self.assertIn("hm.reads=95", text["guest"]["vm"]["params"])
        self.assertFalse(text["meter"]["pages"])

    def test_unmanaged(self):
        text = self.text("gups-10-unmanaged")
        self.assertTrue(text["meter"]["pages"])
        self.assertIn('"enabled": false', text["script"])

    def test_linux(self):
        """Our QEMU without the object, on two tiers of the kernel."""
        text = self.text("gups-10-linux-tiering")
        self.assertNotIn("hybridmem", text["guest"]["vm"]["options"])
        self.assertEqual(text["server"]["node"][1]["nvdimm"], "nvm")
        self.assertEqual(text["meter"]["ranges"]["nvm"], "nvm")

    def test_damon(self):
        """A kernel that has it, two tiers of that, no engine."""
        text = self.text("redis-a-10-damon")
        self.assertEqual(text["server"]["kernel"], "6.11")
        self.assertEqual(text["server"]["node"][1]["nvdimm"], "nvm")
        self.assertNotIn("hybridmem", text["guest"]["vm"]["options"])
        self.assertIn("intervals/aggr_us $((100 * 1000))", text["script"])
        self.assertNotIn("kernel", self.text("gups-10-benefit")["server"])

    def test_mode(self):
        text = self.text("redis-a-20-memory-mode")
        self.assertEqual(text["meter"]["memory_mode"], "nvm:51M")

    def test_small(self):
        """A smaller guest, and what goes with its size."""
        text = self.text("graph-20-memory-mode")
        self.assertEqual(text["guest"]["vm"]["memory"], 128)
        self.assertEqual(text["meter"]["memory_mode"], "nvm:26M")
        script = self.text("graph-10-linux-tiering")["script"]
        self.assertIn("put scan_size_mb 8 ", script)
        script = self.text("redis-a-10-linux-tiering")["script"]
        self.assertIn("put scan_size_mb 16 ", script)


class Folder(unittest.TestCase):
    """With one that goes away."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)


class OptimumTest(Folder):
    """Pages of a node as an oracle wants them."""

    def test_renumber(self):
        """By their order; those beyond share the last frame."""
        source, target = self.root / "a", self.root / "b"
        line = "2\t0\t{}\t{}\t1\t1\t1\t1\n"
        source.write_text("# phase\tepoch\trange\tpage\tloads\n" +
                          "".join(line.format("dram", p) for p in (900, 7)) +
                          line.format("nvm", 900))
        optimum.renumber(source, target, 2)
        pages = [row.split("\t")[2:4] for row in
                 target.read_text().splitlines()[1:]]
        self.assertEqual(pages, [["dram", "1"], ["dram", "0"],
                                 ["nvm", "900"]])
        with self.assertRaisesRegex(results.ResultError, "2 pages of DRAM"):
            optimum.renumber(source, target, 1)


class ReplaysTest(Folder):
    """Pages of two nodes as a guest's, and what the replayer says of them."""

    def test_renumber(self):
        """Each range by its order; no others; those beyond: the last."""
        source, target = self.root / "a", self.root / "b"
        line = "2\t0\t{}\t{}\t1\t1\t1\t1\n"
        places = ("dram", 900), ("nvm", 70), ("other", 1), ("dram", 7), \
            ("nvm", 71), ("nvm", 72)
        source.write_text("# phase\tepoch\trange\tpage\tloads\n" +
                          "".join(line.format(*p) for p in places))
        replays.renumber(source, target, {"dram": 4, "nvm": 2})
        pages = [row.split("\t")[2:4] for row in
                 target.read_text().splitlines()[1:]]
        self.assertEqual(pages, [["dram", "1"], ["nvm", "0"], ["dram", "0"],
                                 ["nvm", "1"], ["nvm", "1"]])

    def test_line(self):
        """In percent of unmanaged; a read of a move is one."""
        none = {"read": 200, "own-read": 0, "written": 50, "moves": 0}
        some = {"read": 90, "own-read": 10, "written": 20, "moves": 1234}
        said = {"unmanaged": none, "policies": [none, some],
                "optimum": {"bound": 5}}
        result = fake("gups-20-unmanaged")
        self.assertEqual(replays.line_of(result, said, ["8.0", "4.0"]),
                         ["gups", "20 %", "100.0 / 100.0; 0",
                          "50.0 / 40.0; 1,234", "10.0", "8.0", "4.0"])
        self.assertEqual(replays.line_of(result, said | {"optimum": {}},
                                         [])[-1], "–")

    def test_lines(self):
        """Of pages of the guest in the phase that is measured, if used."""
        source = self.root / "pages"
        rows = ("2 0 dram 1 9 1 10 0", "2 0 nvm 1 0 2 20 0",
                "2 1 nvm 1 5 0 7 3", "2 1 dram 2 5 0 4 0",
                "2 1 nvm 2 0 0 99 9", "1 0 nvm 3 1 1 99 9",
                "2 0 other 3 1 1 99 9")
        source.write_text("# phase\tepoch\n" + "".join(
            row.replace(" ", "\t") + "\n" for row in rows))
        self.assertEqual(replays.lines_of(source), ["15.0", "5.5"])
        source.write_text("# phase\tepoch\n")
        self.assertEqual(replays.lines_of(source), ["–", "–"])


class BenchTest(Folder):
    """The program, with a lab that is not one."""

    def bench(self, *args, code=0, quick="", **env):
        """Its output; FAKELAB_... from env."""
        done = subprocess.run(
            [BENCH, "--lab", "fakelab", "--output", self.root / "out", *args],
            capture_output=True, text=True, timeout=300, check=False,
            env={**os.environ, "QUICK": quick,
                 **{f"FAKELAB_{k}": str(v) for k, v in env.items()}})
        text = done.stdout + done.stderr
        self.assertEqual(done.returncode, code, text)
        return text

    def test_some_and_again(self):
        """Eight cells; then none; then the one that changed."""
        only = ("--only", "gups-10-*")
        text = self.bench(*only)
        self.assertEqual(text.count(" done in "), 8)
        self.assertIn("131 of 139 cells have not run yet", text)
        self.assertIn("| gups | 10 % | optimum |", text)
        self.assertIn("numa_balancing=2", text)
        summary = json.loads((self.root / "out/summary.json").read_text())
        self.assertEqual(len(summary["rows"]), len(cells.ROWS))
        self.assertEqual(list(summary["optima"]), ["gups-10-unmanaged"])
        if shutil.which("gnuplot"):
            self.assertGreater((self.root / "out" / report.PLOT)
                               .stat().st_size, 5000)
        self.assertEqual(self.bench(*only).count(" done in "), 0)
        self.assertEqual(self.bench(*only, INPUT=2).count(" done in "), 8)

    def test_quick(self):
        """A part, of which all is in the whole."""
        text = self.bench("--list", quick="1")
        self.assertEqual(text.count("not run yet"), len(cells.QUICK))
        self.assertLess(len(cells.QUICK), len(cells.CELLS))
        self.assertEqual(self.bench("--list").count("not run yet"),
                         len(cells.CELLS))

    def failed(self, words, **env):
        """What is not whole is told."""
        self.assertRegex(self.bench("--only", "gups-10-*", code=1, **env),
                         words)

    def test_failures(self):
        self.failed("FAILED gups-10-cmq: RuntimeError: the server did not",
                    FAIL="gups-10-cmq")
        self.failed("results.json: not JSON", CUT="gups-10-benefit", INPUT=2)
        self.failed("pages.tsv: 19140 write-backs to nvm, but 19200",
                    LOSE="gups-10-unmanaged", INPUT=3)

    def test_what_is_checked(self):
        """Of results that are whole, but not what they should be."""
        for name, path, value, words in (
                ("unmanaged", "engine/counters/moves-done", 3,
                 "blocks moved in an unmanaged run"),
                ("benefit", "engine/accesses/windows", 0,
                 "accesses were not watched"),
                ("linux-tiering", "set_numa_balancing", 0,
                 "the kernel's tiering was off"),
                ("linux-tiering", "dram_before", 5 << 20,
                 "the guest began with 5.0 MiB of DRAM"),
                ("damon", "set_kdamond_1", "state=off",
                 "kdamond 1 was off"),
                ("damon", "scheme_0/nr_tried", 0, "kdamond 0 tried nothing"),
                ("damon", "dram_before", 5 << 20,
                 "the guest began with 5.0 MiB of DRAM"),
                ("memory-mode", "meter/phases/2/ranges/nvm/fills", 5,
                 "memory-mode is not all of fills")):
            name = f"gups-10-{name}"
            text = self.bench("--only", name, code=1,
                              SET=f"{name}:{path}={json.dumps(value)}")
            self.assertIn(words, text)

    def test_other_work(self):
        """A row whose guest has not done what the others have."""
        cut = 'gups-10-cmq:done="hm: done ops=8 checksum=7f"'
        self.failed("gups-10-cmq: 'hm: done ops=8 checksum=7f', but gups-10-",
                    SET=cut)

    def test_four(self):
        """Whole, and each guest's part."""
        only = ("--only", "four-*")
        text = self.bench(*only)
        self.assertIn("| benefit | 1.00", text)
        self.assertIn("memory-mode by more than 31%: missed", text)
        summary = json.loads((self.root / "out/summary.json").read_text())
        self.assertEqual(list(summary["four"]), list(cells.FOUR_RUNS))
        (self.root / "out").rename(self.root / "other")
        self.bench(*only)
        self.assertIn("4 cells compared; limit 1e-06: kept",
                      self.bench(*only, "--compare", self.root / "other"))
        for row, path, value, words in (
                ("benefit", "engine-gups/accesses/windows", 0,
                 "gups: accesses were not watched"),
                ("unmanaged", "engine-redis/counters/moves-done", 1,
                 "redis: blocks moved in an unmanaged"),
                ("linux-tiering", "dram_before", 51 << 20,
                 "the guest began with 51.0 MiB of DRAM"),
                ("memory-mode", "meter/phases/13/ranges/nvm/fills", 5,
                 "memory-mode is not all of fills"),
                ("benefit", "meter/phases", {}, "not as it should be")):
            name = f"four-20-{row}"
            text = self.bench("--only", name, "--force", code=1,
                              SET=f"{name}:{path}={json.dumps(value)}")
            self.assertIn(words, text)

    def test_compare(self):
        """Alike; then a line more."""
        only = ("--only", "gups-10-*")
        self.bench(*only)
        (self.root / "out").rename(self.root / "other")
        self.bench(*only)
        other = ("--compare", self.root / "other")
        self.assertIn("8 cells compared; limit 1e-06: kept",
                      self.bench(*only, *other))
        self.bench("--only", "gups-10-cmq", "--force", MORE=1)
        self.assertIn("EXCEEDED", self.bench(*only, *other, code=1))

    def test_markdown(self):
        """Between the marks."""
        self.bench("--only", "gups-10-*")
        page = self.root / "page.md"
        page.write_text(f"a\n{report.BLOCK.begin}\nold\n"
                        f"{report.BLOCK.end}\nb\n")
        self.bench("--markdown", "--document", page)
        text = page.read_text()
        self.assertTrue(text.startswith(f"a\n{report.BLOCK.begin}\n| work"))
        self.assertTrue(text.endswith(f"{report.BLOCK.end}\nb\n"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
