# SPDX-License-Identifier: GPL-2.0-or-later
"""Functions of server/lib.sh that need no server."""

import pathlib
import subprocess
import tempfile
import unittest

from lab import LAB

# The library begins with what only the server has.
SHELL = '''
eval "$(sed '/^\\. \\/lab\\/env$/d' "$0")"
keep() { :; }
tap "$1" 3>&1
'''


class Tap(unittest.TestCase):

    def outcome(self, text):
        with tempfile.TemporaryDirectory() as place:
            file = pathlib.Path(place) / "some.tap"
            file.write_text(text)
            done = subprocess.run(
                ["sh", "-c", SHELL, LAB / "server/lib.sh", file],
                check=True, capture_output=True, text=True)
        return done.stdout.splitlines()

    def test_whole(self):
        self.assertEqual(
            self.outcome("1..2\nok 1 - /one\n# words\nnot ok 2 /two\n"),
            ["ok /one", "not_ok /two"])

    def test_broken_off_says_why(self):
        self.assertEqual(
            self.outcome("ok 1 - /one\nBail out! a reason\nAborted\n1..2\n"),
            ["ok /one", "not_ok some.tap broke off after case 1: "
             "Bail out! a reason"])

    def test_broken_off_without_a_word(self):
        self.assertEqual(self.outcome("ok 1 - /one\n"),
                         ["ok /one", "not_ok some.tap broke off after case 1"])

    def test_the_last_word(self):
        self.assertEqual(self.outcome("first\nlast\n"),
                         ["not_ok some.tap broke off after case 0: last"])


if __name__ == "__main__":
    unittest.main()
