# SPDX-License-Identifier: GPL-2.0-or-later
"""server/turns.c with processes of this machine."""

import pathlib
import signal
import subprocess
import tempfile
import unittest

from lab import LAB

ROOT = LAB.parents[1]
DONE, LATE, GONE, USAGE = 0, 1, 2, 64

# Notes each step by a line of its own and in a log of all; says so when it has
# made 20.
STEPS = r'''
n=0
while :; do
    n=$((n + 1))
    echo $1 >>log
    [ $n -ne 20 ] || echo "it is through" >>$1
done
'''


class Turns(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.place = tempfile.TemporaryDirectory()
        cls.program = pathlib.Path(cls.place.name) / "turns"
        subprocess.run(["cc", "-O1", "-Wall", "-Werror", "-I",
                        ROOT / "include", "-o", cls.program,
                        LAB / "server/turns.c"], check=True)

    @classmethod
    def tearDownClass(cls):
        cls.place.cleanup()

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def begin(self, name, script=STEPS):
        """A process that stands still, and its word for turns."""
        (self.folder / name).write_text("")
        process = subprocess.Popen(["sh", "-c", "kill -STOP $$\n" + script,
                                    "sh", name], cwd=self.folder)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        while self.state(process) != "T":
            pass
        return process, f"{len(name)}:{process.pid}:{self.folder / name}"

    def state(self, process):
        text = pathlib.Path(f"/proc/{process.pid}/stat").read_text()
        return text.rpartition(") ")[2][0]

    def turns(self, *words, code=DONE):
        done = subprocess.run([self.program, *words], capture_output=True,
                              text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stderr

    def test_all_get_through(self):
        """One after the other; and all go on afterwards."""
        a, first = self.begin("a")
        bb, second = self.begin("bb")
        self.turns("20", "60", "through", first, second)
        for process in (a, bb):
            self.assertNotEqual(self.state(process), "T")
            process.send_signal(signal.SIGSTOP)
        steps = (self.folder / "log").read_text().split()
        self.assertEqual(steps[0], "a")
        self.assertEqual(set(steps), {"a", "bb"})

    def test_one_is_never_through(self):
        _, first = self.begin("a")
        _, second = self.begin("bb", "while :; do :; done")
        self.turns("10", "1", "through", first, second, code=LATE)

    def test_what_stood_there_before(self):
        """Does not count."""
        process, word = self.begin("a", "while :; do :; done")
        (self.folder / "a").write_text("it is through\n")
        self.turns("10", "1", "through", word, code=LATE)
        self.assertNotEqual(self.state(process), "T")

    def test_gone(self):
        process, word = self.begin("a")
        process.kill()
        process.wait()
        self.assertIn(f"process {process.pid} has ended",
                      self.turns("10", "9", "x", word, code=GONE))

    def test_usage(self):
        _, word = self.begin("a")
        for words in ((), ("10", "9", "x"), ("0", "9", "x", word),
                      ("10", "0", "x", word), ("10", "9", "", word),
                      ("10", "9", "x", "nonsense"),
                      ("10", "9", "x", word.replace("1:", "0:", 1)),
                      ("10", "9", "x", word.replace("1:", "64:", 1))):
            self.assertIn("usage", self.turns(*words, code=USAGE))
        self.assertIn("No such file", self.turns(
            "10", "9", "x", word + "nosuch", code=LATE))
