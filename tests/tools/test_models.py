# SPDX-License-Identifier: GPL-2.0-or-later
"""tools/hybridmem_models.py: what it refuses, what it computes, what it
prints.  That C computes the same is tested by test-hybridmem-model."""

from __future__ import annotations

import json
import subprocess
import sys
import unittest
from pathlib import Path

import hybridmem_models as hm
from hybridmem_models import Range

TOOL = Path(__file__).resolve().parents[2] / "tools" / "hybridmem_models.py"

GOOD = """
[base]
title = "reference"
reference = true
[slow]
title = "slow"
[slow.read-latency-ns]
low = 100
typical = 200
high = 400
source = "a paper"
"""

ROUND = hm.Model("round", "round numbers", False, {
    "read-latency-ns": Range(100, 200, 400),
    "read-bandwidth-gb-s": Range(1, 2, 4),
    "write-bandwidth-gb-s": Range(0.5, 1, 2),
    "read-energy-nj-b": Range(1, 2, 3),
    "write-energy-nj-b": Range(10, 20, 30),
    "idle-power-w-gb": Range(0.5, 1, 2),
    "endurance-writes": Range(1e3, 1e4, 1e6),
    "write-granularity-b": Range(256, 256, 256),
}, {})


class Presets(unittest.TestCase):
    """The file that is there."""

    def test_all_there(self) -> None:
        models = hm.load()
        self.assertLessEqual({"cxl", "dram", "optane", "stt-mram"},
                             set(models))
        self.assertTrue(models["dram"].reference)
        for model in models.values():
            self.assertEqual(set(model.values), set(model.sources))

    def test_raminate(self) -> None:
        # E1 is 10, 100, 1000 times E0.
        models = hm.load()
        base = models["dram"].values["write-energy-nj-b"].typical
        self.assertEqual(tuple(models["stt-mram"]
                               .values["write-energy-nj-b"]),
                         (10 * base, 100 * base, 1000 * base))

    def test_optane_endurance(self) -> None:
        # 360 PBW of 256 GB.
        worn = hm.wear(hm.load()["optane"], 360e15, 256e9, whole=True)
        assert worn is not None
        self.assertAlmostEqual(worn.typical, 1)


class Parse(unittest.TestCase):
    """What a file of models may say."""

    def test_good(self) -> None:
        models = hm.parse(GOOD)
        self.assertEqual(list(models), ["base", "slow"])
        self.assertEqual(models["slow"].get("read-latency-ns"),
                         Range(100, 200, 400))
        self.assertIsNone(models["slow"].get("write-latency-ns"))

    def test_refused(self) -> None:
        for old, new, part in (
                ("low = 100", "low = 300", "low <= typical <= high"),
                ("high = 400", "high = 1.5e9", "is the unit right?"),
                ("low = 100", "low = 0", "is the unit right?"),
                ("low = 100", "low = -1", "is the unit right?"),
                ("low = 100", "low = nan", "is the unit right?"),
                ("high = 400", "high = inf", "is the unit right?"),
                ("low = 100", "low = true", "is not a number"),
                ("low = 100", "low = '100'", "is not a number"),
                ("low = 100", "", "must have low, typical, high and source"),
                ("low = 100", "low = 100\nunit = 'ns'", "nothing else"),
                ('source = "a paper"', 'source = ""', "source is missing"),
                ("read-latency-ns", "read-latency-us", "no such value"),
                ("[slow", "[Slow", "cannot be a model's name"),
                ("[slow", "[none", "cannot be a model's name"),
                ("[slow", "[slow-", "cannot be a model's name"),
                ('title = "slow"', "", "title is missing"),
                ("reference = true", "", "must be the reference, not none"),
                ('title = "slow"', 'title = "s"\nreference = true',
                 "must be the reference, not base, slow"),
                ("[base]", "[base", "line 2")):
            with self.subTest(new=new):
                self.assertIn(old, GOOD)
                with self.assertRaises(hm.ModelError) as caught:
                    hm.parse(GOOD.replace(old, new))
                self.assertIn(part, str(caught.exception))

    def test_unknown_model(self) -> None:
        with self.assertRaisesRegex(hm.ModelError, "model 'x' is not known;"
                                    " one of base, slow"):
            hm.find(hm.parse(GOOD), "x")


class Arithmetic(unittest.TestCase):
    """By hand."""

    def near(self, found: Range | None, *expected: float) -> None:
        """The same but for rounding."""
        assert found is not None
        for one, other in zip(found, expected, strict=True):
            self.assertAlmostEqual(one / other, 1, places=12)


class Account(Arithmetic):
    """One range after the other."""

    def test_round(self) -> None:
        found = hm.account({"fills": 1e9, "writebacks": 0.5e9,
                            "bytes": 16e9}, ROUND, 100)
        self.near(found["latency-s"], 100, 200, 400)
        self.near(found["transfer-s"], 32, 64, 128)
        self.near(found["energy-j"], 64 + 320 + 800, 128 + 640 + 1600,
                  192 + 960 + 3200)
        self.near(found["wear"], 2e-6, 2e-4, 8e-3)
        year = 365.25 * 24 * 3600
        self.near(found["years"], 100 / year / 8e-3, 100 / year / 2e-4,
                  100 / year / 2e-6)

    def test_nothing(self) -> None:
        found = hm.account({"fills": 0, "writebacks": 0, "bytes": 16e9},
                           ROUND)
        self.assertEqual(found["energy-j"], Range(0, 0, 0))
        self.assertEqual(found["wear"], Range(0, 0, 0))
        self.assertIsNone(found["years"])

    def test_unknown_is_absent(self) -> None:
        cxl = hm.load()["cxl"]
        found = hm.account({"fills": 5, "writebacks": 5, "bytes": 1}, cxl, 1)
        self.assertIsNotNone(found["latency-s"])
        for key in ("transfer-s", "energy-j", "wear", "years"):
            self.assertIsNone(found[key], key)

    def test_bad_counts(self) -> None:
        for bad in (-1, float("nan"), float("inf"), None, "1", True):
            with self.subTest(bad=bad), self.assertRaises(hm.ModelError):
                hm.account({"fills": bad, "writebacks": 0, "bytes": 1},
                           ROUND)

    def test_total(self) -> None:
        counts = {"fills": 1e9, "writebacks": 0.5e9, "bytes": 16e9}
        found = hm.account_ranges({"a": counts, "b": counts},
                                  {"a": ROUND, "b": ROUND}, 100, 2e9)
        self.near(found["total"]["latency-s"], 200, 400, 800)
        self.near(found["total"]["per-instruction"]["latency-s"],
                  100e-9, 200e-9, 400e-9)
        found = hm.account_ranges({"a": counts, "b": counts},
                                  {"a": ROUND, "b": hm.load()["cxl"]}, 100)
        self.assertIsNone(found["total"]["energy-j"])
        self.assertNotIn("per-instruction", found["total"])


# DRAM of these tests, and what a DRAM cache of it did.
FAST = hm.Model("fast", "DRAM", True, {
    "read-latency-ns": Range(80, 100, 125),
    "read-bandwidth-gb-s": Range(64, 64, 64),
    "write-bandwidth-gb-s": Range(64, 64, 64),
    "read-energy-nj-b": Range(0.5, 0.5, 0.5),
    "write-energy-nj-b": Range(0.5, 0.5, 0.5),
    "idle-power-w-gb": Range(1, 1, 1),
}, {})

MODE = {"fill-hits": 6e9, "fill-misses": 4e9, "writeback-hits": 3e9,
        "writeback-misses": 1e9, "nvm-reads": 5e9, "nvm-writes": 2e9,
        "dram-reads": 14e9, "dram-writes": 9e9, "bytes": 2e9}

BEHIND = {"fills": 10e9, "writebacks": 4e9, "bytes": 16e9,
          "memory-mode": MODE}


class MemoryMode(Arithmetic):
    """A range behind a DRAM cache: both devices work."""

    def test_round(self) -> None:
        found = hm.account_mode(BEHIND, FAST, ROUND, 100)
        # A hit: DRAM.  A miss: its tag, at least 70 ns, and NVM.
        self.near(found["latency-s"], 6 * 80 + 4 * (70 + 100),
                  6 * 100 + 4 * (100 + 200), 6 * 125 + 4 * (125 + 400))
        dram = 23
        self.near(found["transfer-s"], dram + 5 * 16 + 2 * 32,
                  dram + 5 * 32 + 2 * 64, dram + 5 * 64 + 2 * 128)
        dram = 23 * 64 * 0.5 + 2 * 100
        self.near(found["energy-j"], dram + 320 + 1280 + 800,
                  dram + 640 + 2560 + 1600, dram + 960 + 3840 + 3200)
        alone = hm.account({"fills": 5e9, "writebacks": 2e9, "bytes": 16e9},
                           ROUND, 100)
        for key in ("wear", "years"):
            self.assertEqual(found[key], alone[key])

    def test_faster_dram_has_a_faster_check(self) -> None:
        quick = hm.Model("quick", "", True,
                         {"read-latency-ns": Range(10, 20, 30)}, {})
        self.near(hm.mode_latency(MODE, quick, ROUND),
                  10 * 10 + 4 * 100, 10 * 20 + 4 * 200, 10 * 30 + 4 * 400)

    def test_writes_that_are_waited_for(self) -> None:
        slow = hm.Model("slow", "", False,
                        {"read-latency-ns": Range(1, 1, 1),
                         "write-latency-ns": Range(1000, 1000, 1000)}, {})
        found = hm.mode_latency(MODE, FAST, slow)
        assert found is not None
        self.assertAlmostEqual(found.typical, 10 * 100 + 4 + 2 * 1000)

    def test_unknown_is_absent(self) -> None:
        found = hm.account_mode(BEHIND, FAST, hm.load()["cxl"], 1)
        self.assertIsNotNone(found["latency-s"])
        for key in ("transfer-s", "energy-j", "wear", "years"):
            self.assertIsNone(found[key], key)
        bare = hm.Model("bare", "", True, {}, {})
        self.assertIsNone(hm.account_mode(BEHIND, bare, ROUND)["latency-s"])

    def test_bad_counts(self) -> None:
        for mode, part in ((5, "must be the meter's member"),
                           ({}, "fill-hits must be"),
                           ({**MODE, "bytes": -1}, "bytes must be")):
            with self.assertRaisesRegex(hm.ModelError, part):
                hm.account_mode({**BEHIND, "memory-mode": mode}, FAST, ROUND)
        with self.assertRaisesRegex(hm.ModelError, "which model the DRAM"):
            hm.account_ranges({"n": BEHIND}, {"n": ROUND})

    def test_total(self) -> None:
        found = hm.account_ranges({"n": BEHIND, "d": BEHIND},
                                  {"n": ROUND, "d": ROUND}, 100, dram=FAST)
        one = hm.account_mode(BEHIND, FAST, ROUND, 100)
        assert one["energy-j"] is not None
        self.near(found["total"]["energy-j"], *one["energy-j"].scale(2))


class OverDram(Arithmetic):
    """Time as a multiple of that of DRAM only."""

    COUNTS = {"d": {"fills": 1e9, "writebacks": 0, "bytes": 1e9},
              "n": {"fills": 1e9, "writebacks": 1e9, "bytes": 1e9}}

    def test_dram_is_one(self) -> None:
        # However little is known of it.
        found = hm.over_dram(self.COUNTS, {"d": FAST, "n": FAST}, FAST)
        self.near(found["latency-s"], 1, 1, 1)
        self.near(found["transfer-s"], 1, 1, 1)

    def test_two_tiers(self) -> None:
        found = hm.over_dram(self.COUNTS, {"d": FAST, "n": ROUND}, FAST)
        self.near(found["latency-s"], (125 + 100) / 250, (100 + 200) / 200,
                  (80 + 400) / 160)
        self.near(found["transfer-s"], (1 + 16 + 32) / 3, (1 + 32 + 64) / 3,
                  (1 + 64 + 128) / 3)

    def test_computing(self) -> None:
        found = hm.over_dram(self.COUNTS, {"d": FAST, "n": ROUND}, FAST, 800)
        self.near(found["latency-s"], 1025 / 1050, 1100 / 1000, 1280 / 960)

    def test_baseline(self) -> None:
        # A mover's own traffic is not in it.
        found = hm.over_dram(self.COUNTS, {"d": FAST, "n": FAST}, FAST,
                             baseline={"all": {"fills": 1e9, "writebacks": 0,
                                               "bytes": 2e9}})
        self.near(found["latency-s"], 2, 2, 2)

    def test_memory_mode(self) -> None:
        found = hm.over_dram({"n": BEHIND}, {"n": ROUND}, FAST)
        self.near(found["latency-s"],
                  (6 * 125 + 4 * (70 + 100)) / 1250,
                  (6 * 100 + 4 * (100 + 200)) / 1000,
                  (6 * 80 + 4 * (80 + 400)) / 800)

    def test_within_what_naive_ranges_say(self) -> None:
        models = hm.load()
        chosen = {"d": models["dram"], "n": models["optane"]}
        total = hm.account_ranges(self.COUNTS, chosen)["total"]
        base = hm.account_ranges(self.COUNTS, dict.fromkeys(
            self.COUNTS, models["dram"]))["total"]
        found = hm.over_dram(self.COUNTS, chosen, models["dram"])
        for key, one in found.items():
            assert one is not None
            self.assertGreater(one.typical, 1)
            self.assertLessEqual(one.low, one.typical)
            self.assertLessEqual(one.typical, one.high)
            self.assertGreaterEqual(one.low, total[key].low / base[key].high)
            self.assertLessEqual(one.high, total[key].high / base[key].low)

    def test_unknown_is_absent(self) -> None:
        found = hm.over_dram(self.COUNTS, {"d": FAST, "n": hm.load()["cxl"]},
                             FAST)
        self.assertIsNotNone(found["latency-s"])
        self.assertIsNone(found["transfer-s"])
        none = {"d": {"fills": 0, "writebacks": 0, "bytes": 1}}
        self.assertIsNone(hm.over_dram(none, {"d": FAST}, FAST)["latency-s"])

    def test_bad_computing(self) -> None:
        with self.assertRaisesRegex(hm.ModelError, "computing must be"):
            hm.over_dram(self.COUNTS, {"d": FAST, "n": FAST}, FAST, -1)


class Program(unittest.TestCase):
    """As it is run."""

    def run_tool(self, *args: str, stdin: str = "",
                 ) -> subprocess.CompletedProcess[str]:
        """The program with `args`."""
        return subprocess.run([sys.executable, str(TOOL), *args],
                              input=stdin, capture_output=True, text=True,
                              check=False)

    def test_table(self) -> None:
        shown = self.run_tool().stdout
        self.assertIn("305 (169..346)", shown)
        self.assertIn("read-latency-ns", shown)

    def test_json(self) -> None:
        shown = json.loads(self.run_tool("--json").stdout)
        self.assertEqual(shown["optane"]["read-latency-ns"]["typical"], 305)
        self.assertIn("OptaneStudy",
                      shown["optane"]["read-latency-ns"]["source"])

    def test_account(self) -> None:
        counts = {"seconds": 1, "instructions": 1e9, "ranges": {
            "d": {"fills": 10, "writebacks": 5, "bytes": 1 << 20},
            "n": {"fills": 10, "writebacks": 5, "bytes": 1 << 20}},
            "models": {"d": "dram", "n": "stt-mram"}}
        done = self.run_tool("--account", "-", stdin=json.dumps(counts))
        shown = json.loads(done.stdout)
        energy = shown["ranges"]["n"]["energy-j"]
        self.assertAlmostEqual(energy["typical"],
                               (640 * 0.25 + 320 * 25) * 1e-9)
        self.assertIsNone(shown["ranges"]["d"]["wear"])

    def test_over_dram(self) -> None:
        one = {"fills": 10, "writebacks": 5, "bytes": 1 << 20}
        counts = {"ranges": {"n": one}, "models": {"n": "optane"}}
        done = self.run_tool("--account", "-", stdin=json.dumps(counts))
        found = json.loads(done.stdout)["over-dram"]
        self.assertAlmostEqual(found["latency-s"]["typical"], 3.05)
        self.assertAlmostEqual(found["latency-s"]["low"], 169 / 101)
        counts["baseline"] = {"all": {**one, "fills": 20}}
        done = self.run_tool("--account", "-", stdin=json.dumps(counts))
        found = json.loads(done.stdout)["over-dram"]
        self.assertAlmostEqual(found["latency-s"]["typical"], 1.525)
        counts["baseline"] = {"all": 3}
        done = self.run_tool("--account", "-", stdin=json.dumps(counts))
        self.assertIn("not of the form", done.stderr)

    def test_account_refused(self) -> None:
        for text, part in (
                ("{", "not of the form"), ("[]", "not of the form"),
                ("{}", "not of the form"),
                ('{"ranges": {"n": {}}, "models": {"n": "x"}}',
                 "model 'x' is not known"),
                ('{"ranges": {"n": {}}, "models": {"n": "cxl"}}',
                 "fills must be a number")):
            done = self.run_tool("--account", "-", stdin=text)
            self.assertEqual(done.returncode, 1, text)
            self.assertIn(part, done.stderr)
            self.assertNotIn("Traceback", done.stderr)


if __name__ == "__main__":
    unittest.main()
