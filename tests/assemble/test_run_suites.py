# SPDX-License-Identifier: GPL-2.0-or-later
"""tests/run-suites: how it reads what suites say."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import unittest
from pathlib import Path

PATH = Path(__file__).resolve().parents[1] / "run-suites"
LOADER = importlib.machinery.SourceFileLoader("run_suites", str(PATH))
SPEC = importlib.util.spec_from_loader("run_suites", LOADER)
assert SPEC is not None
runner = importlib.util.module_from_spec(SPEC)
sys.modules["run_suites"] = runner
LOADER.exec_module(runner)

P, F, S = runner.PASS, runner.FAIL, runner.SKIP


class Tap(unittest.TestCase):
    def verdicts(self, text: str, code: int = 0) -> tuple[list[str], str]:
        """Verdicts in their order, and the note."""
        cases, note = runner.parse_tap(text, code)
        return [verdict for _, verdict in cases], note

    def test_table(self) -> None:
        for text, code, verdicts, note in (
                ("1..2\nok 1 - a\nok 2 - b\n", 0, [P, P], ""),
                ("ok 1 /x # SKIP no kvm\n1..1\n", 0, [S], ""),
                ("1..2\nok 1 a\nnot ok 2 b\n", 1, [P, F], ""),
                ("1..0 # SKIP nothing to do\n", 0, [], ""),
                # glib prints a plan for each -p
                ("ok 1 a\n1..1\nok 2 b\n1..2\n", 0, [P, P], ""),
                # broken off, in each way
                ("", 0, [], "no TAP plan: broken off"),
                ("1..3\nok 1 a\n", 0, [P], "broken off after 1 of 3 cases"),
                ("1..1\nok 1 a\n", 1, [P], "exit status 1"),
                ("1..2\nok 1 a\nBail out! why\n", -6, [P], "Bail out! why")):
            with self.subTest(text=text):
                self.assertEqual(self.verdicts(text, code), (verdicts, note))


class Others(unittest.TestCase):
    def test_unittest(self) -> None:
        text = ("test_a (m.C.test_a) ... ok\ntest_b (m.C.test_b) ... FAIL\n"
                "test_c (m.C.test_c)\nDoc. ... skipped 'why'\n\n"
                "Ran 3 tests in 0.1s\n\nFAILED (failures=1)\n")
        cases, note = runner.parse_unittest(text, 1)
        self.assertEqual([v for _, v in cases], [P, F, S])
        self.assertEqual(note, "")
        self.assertEqual(runner.parse_unittest("boom", 1)[1], "broken off")

    def test_line(self) -> None:
        cases, note = runner.parse_line("x\n2 passed, 1 failed, 1 skipped", 1)
        self.assertEqual([v for _, v in cases], [P, P, F, S])
        self.assertEqual(note, "")
        self.assertIn("no totals", runner.parse_line("", 0)[1])

    def test_exit(self) -> None:
        self.assertEqual(runner.parse_exit("", 0), ([("run", P)], ""))
        self.assertEqual(runner.parse_exit("why\n", 77),
                         ([("run", S)], "why"))
        self.assertEqual(runner.parse_exit("", 3), ([], "exit status 3"))

    def test_undefined_behaviour_of_ours_only(self) -> None:
        ours = "../tree/hw/hybridmem/heat.c:1:2: runtime error: shift"
        theirs = "../tree/util/cutils.c:1:2: runtime error: shift"
        self.assertEqual(runner.undefined_behaviour(f"a\n{ours}\n"), ours)
        self.assertEqual(runner.undefined_behaviour(theirs), "")

    def test_suites_toml_is_sound(self) -> None:
        words = {"repo": "/r", "obj": "/o", "tree": "/t", "out": "/x"}
        suites = runner.load(PATH.with_name("suites.toml"), words)
        names = [suite.name for suite in suites]
        self.assertEqual(len(names), len(set(names)))
        for suite in suites:
            self.assertIn(suite.parse, runner.PARSERS, suite.name)
            self.assertNotIn("{", " ".join(suite.command), suite.name)


if __name__ == "__main__":
    unittest.main()
