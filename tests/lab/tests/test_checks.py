# SPDX-License-Identifier: GPL-2.0-or-later
"""The expressions of `checks`."""

import unittest

from lab import LabError
from lab.checks import FUNCTIONS, Check, judge

NAMES = {"moves": 12, "none": 0, "word": "checksum OK", "list": [3, 1, 2],
         "info": {"moves-done": 5, "deep": {"a-b": [{"x": 7}]}},
         "meter": {"phases": {"1": {"ranges": {"nvm": {"stores": 40}}}}}}


def value(text):
    return Check(text).evaluate(NAMES)


class Values(unittest.TestCase):
    """Literal expressions, literal values."""

    def same(self, table):
        for text, expected in table.items():
            with self.subTest(text):
                self.assertEqual(value(text), expected)

    def test_arithmetic(self):
        self.same({"1 + 2 * 3": 7, "7 / 2": 3.5, "7 // 2": 3, "7 % 4": 3,
                   "2 ** 10": 1024, "-moves": -12, "2 - 3": -1})

    def test_comparisons(self):
        self.same({"moves == 12": True, "moves != 12": False,
                   "moves < 12": False, "moves <= 12": True,
                   "moves > 11": True, "moves >= 13": False,
                   "0 < moves < 20": True, "0 < moves < 12": False,
                   "20 > moves > 12": False, "3 in list": True,
                   "4 in list": False, "4 not in list": True,
                   "'OK' in word": True, "2 in (1, 2)": True,
                   "2 in [1, 3]": False})

    def test_logic(self):
        self.same({"not moves": False, "not none": True,
                   "none and nosuch": 0, "moves or nosuch": 12,
                   "moves and list": [3, 1, 2], "none or none": 0,
                   "1 if moves else nosuch": 1, "nosuch if none else 2": 2})

    def test_members(self):
        self.same({"list[1]": 1, "list[-1]": 2, "info.moves_done": 5,
                   "info['moves-done']": 5, "info.deep.a_b[0].x": 7,
                   "meter.phases[1].ranges.nvm.stores": 40,
                   "meter['phases']['1'].ranges['nvm'].stores": 40,
                   "[5, 6][1]": 6})

    def test_functions(self):
        table = {
            "abs": ("abs(-3)", 3), "min": ("min(list)", 1),
            "max": ("max(1, moves)", 12), "sum": ("sum(list)", 6),
            "len": ("len(word)", 11), "round": ("round(2.345, 1)", 2.3),
            "any": ("any([none, moves])", True),
            "all": ("all([none, moves])", False),
            "int": ("int('17')", 17), "float": ("float('1.5')", 1.5),
            "str": ("str(moves)", "12"), "sorted": ("sorted(list)", [1, 2, 3]),
            "values": ("values(meter.phases[1].ranges.nvm)", [40]),
            "keys": ("keys(info)", ["moves-done", "deep"])}
        self.assertEqual(set(table), set(FUNCTIONS))
        self.same(dict(table.values()))

    def test_lines_are_joined(self):
        self.assertEqual(value("moves\n    > 3"), True)


class Refused(unittest.TestCase):
    """A LabError that shows the expression; never anything else."""

    def wrong(self, text, *words):
        with self.subTest(text), self.assertRaises(LabError) as caught:
            value(text)
        for word in (text, *words):
            self.assertIn(word, str(caught.exception))

    def test_syntax(self):
        for text in ("moves >", "", "a b", "x = 1", "import os"):
            with self.subTest(text), self.assertRaises(LabError):
                Check(text)

    def test_names(self):
        self.wrong("nosuch > 0", "no nosuch", "moves, none, word")
        self.wrong("info.nosuch", "no info.nosuch", "moves-done, deep")
        self.wrong("meter.phases[2].ranges", "there are 1")
        self.wrong("list[3]", "no list[3]")
        self.wrong("list.x", "no list.x")
        self.wrong("moves.real", "no moves.real")
        self.wrong("word.__class__", "no word.__class__")

    def test_what_is_not_allowed(self):
        for text in ("(lambda: 1)", "[x for x in list]", "f'{moves}'",
                     "list[0:2]", "{1: 2}", "{1}", "(x := 1)", "~moves",
                     "moves | 1", "moves << 2", "moves is none"):
            self.wrong(text, "not allowed")

    def test_functions(self):
        self.wrong("open('x')", "no function open", "abs")
        self.wrong("word.upper()", "no function word.upper")
        self.wrong("sorted(list, reverse=1)", "no function")
        self.wrong("abs(word)")
        self.wrong("int(word)")
        self.wrong("max([])")
        self.wrong("keys(3)")

    def test_arithmetic(self):
        self.wrong("1 / none", "zero")
        self.wrong("1 % none", "zero")
        self.wrong("moves < word", "not supported")
        self.wrong("moves in moves")
        self.wrong("-word")

    def test_values_of_a_number(self):
        self.wrong("values(3)")

    def test_overflow(self):
        self.wrong("10.0 ** 400")

    def test_a_list_as_key(self):
        self.wrong("info[list]")


class Judge(unittest.TestCase):

    def test_shows_what_decided(self):
        self.assertEqual(judge("moves > 3", NAMES),
                         (True, "moves > 3 (moves = 12)"))
        self.assertEqual(judge("info.moves_done > none + 5", NAMES),
                         (False, "info.moves_done > none + 5 "
                          "(info.moves_done = 5, none = 0)"))

    def test_leaves_out_what_was_not_looked_at(self):
        self.assertEqual(judge("none and moves", NAMES),
                         (False, "none and moves (none = 0)"))

    def test_no_tap_directive(self):
        passed, line = judge("word != '# TODO'", NAMES)
        self.assertTrue(passed)
        self.assertNotIn("#", line)

    def test_errors_fail(self):
        passed, line = judge("nosuch", NAMES)
        self.assertFalse(passed)
        self.assertIn("there is no nosuch", line)
