# SPDX-License-Identifier: GPL-2.0-or-later
"""server/freeranges.c on files of this test's."""

import pathlib
import struct
import subprocess
import tempfile
import unittest

from lab import LAB

ANON, BUDDY, HUGE, NOPAGE = 1 << 12, 1 << 10, 1 << 17, 1 << 20
PAGE = 4096


class FreeRanges(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.program = self.folder / "freeranges"
        subprocess.run(["cc", "-O1", "-Wall", "-Werror", "-o", self.program,
                        LAB / "server/freeranges.c"], check=True)

    def ranges(self, flags, first, pages, gap):
        """[(first, end)], in pages."""
        path = self.folder / "flags"
        path.write_bytes(struct.pack(f"{len(flags)}Q", *flags))
        text = subprocess.run(
            [self.program, path, hex(first * PAGE), str(pages * PAGE),
             str(gap)], check=True, capture_output=True, text=True).stdout
        return [tuple(int(n) // PAGE for n in line.split())
                for line in text.splitlines()]

    def test_ranges(self):
        flags = [ANON, 0, BUDDY, BUDDY, NOPAGE, 4, 4, ANON | 4, HUGE | ANON]
        self.assertEqual(self.ranges(flags, 0, 9, 0), [(0, 1), (2, 4), (7, 8)])
        self.assertEqual(self.ranges(flags, 0, 9, 1), [(0, 4), (7, 8)])
        self.assertEqual(self.ranges(flags, 0, 9, 3), [(0, 8)])
        self.assertEqual(self.ranges(flags, 3, 4, 9), [(3, 4)])
        self.assertEqual(self.ranges(flags, 4, 3, 9), [])

    def test_end_of_memory(self):
        """More pages than a batch, fewer than asked for."""
        self.assertEqual(self.ranges([ANON] * 5000, 1, 9000, 0), [(1, 5000)])

    def test_refused(self):
        for words, code in (((), 64), (("nosuch", "0", "1", "1"), 1)):
            done = subprocess.run([self.program, *words], check=False,
                                  capture_output=True)
            self.assertEqual(done.returncode, code)
